"""Who may ask: this machine's browser alone, or whoever has the token; and what a page may do.

Another site that the browser has open could send requests to this server, and by a name that it resolves to 127.0.0.1
(DNS rebinding) also read the answers. So the name in `Host` must be the server's, whatever may change something must
come from a page of ours (`Origin`), and nothing from elsewhere is loaded.
"""

from __future__ import annotations

import hmac
import ipaddress
import re
import socket
from base64 import b64encode
from collections.abc import MutableMapping
from dataclasses import dataclass
from hashlib import sha256
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import RedirectResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from polyana.dashboard.errors import letter

__all__ = ["PAGE_POLICY", "Guard", "is_loopback", "policy_of"]

PAGE_POLICY = (
    "default-src 'self'; img-src 'self' data: blob:; object-src 'none'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'self'"  # nobody lays our buttons below a page of their own
)
_SCRIPT = re.compile(rb"<script>(.*?)</script>", re.DOTALL)
_COOKIE = "polyana-token"
_LOCAL = frozenset({"127.0.0.1", "localhost", "::1"})
_READING = frozenset({"GET", "HEAD"})


def policy_of(page: bytes) -> str:
    """The policy for a page of ours: PAGE_POLICY, and no script within the page but those that it was built with, by
    their hashes (Content Security Policy Level 3, 6.7.3.3)."""
    hashes = [f" 'sha256-{b64encode(sha256(script).digest()).decode()}'" for script in _SCRIPT.findall(page)]
    return f"{PAGE_POLICY}; script-src 'self'{''.join(hashes)}"


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach the address."""
    return host in _LOCAL or host.startswith("127.")


@dataclass(frozen=True)
class Guard:
    """Which requests are answered. `host`: where the server listens. `token`: None where it needs none."""

    host: str
    token: str | None = None

    def knows(self, name: str) -> bool:
        """Whether `name` is this server's: a name of this machine, or of its networks an address, never a domain."""
        if name in _LOCAL or name == self.host:
            return True
        if is_loopback(self.host):
            return False
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return name in (socket.gethostname(), socket.getfqdn())
        return True  # no site can make a browser write an address that it did not connect to

    def objection(self, method: str, headers: Headers) -> tuple[int, str] | None:
        """(status, letter) when a request is refused."""
        host = headers.get("host", "")
        name = urlsplit(f"//{host}").hostname or ""
        if not self.knows(name):
            return (
                403,
                f"this server is not called {name or 'nothing'}; open it at the address that `polyana ui` printed",
            )
        origin = headers.get("origin")
        if origin is not None and urlsplit(origin).netloc != host:
            return 403, "this request came from another site's page"
        if method not in _READING and origin is None and headers.get("sec-fetch-site", "same-origin") != "same-origin":
            return 403, "this request came from another site's page"
        return None

    def admits(self, headers: Headers, asked: str | None) -> bool:
        """Whether the token is there: in the address, in the cookie of an earlier visit, or as a bearer's."""
        if self.token is None:
            return True
        given = [asked or "", _cookie(headers), headers.get("authorization", "").removeprefix("Bearer ")]
        return any(hmac.compare_digest(each.encode(), self.token.encode()) for each in given)

    def around(self, app: ASGIApp) -> ASGIApp:
        """`app` behind this guard."""

        async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] == "lifespan":
                await app(scope, receive, send)
            if scope["type"] != "http":
                return
            headers = Headers(scope=scope)
            query = parse_qsl(scope["query_string"].decode("latin-1"))
            asked = next((value for name, value in query if name == "token"), None)
            objection = self.objection(scope["method"], headers)
            if objection is None and not self.admits(headers, asked):
                objection = 401, "open the link that `polyana ui` printed: it carries a token"
            if objection is not None:
                await letter(*objection)(scope, receive, _sealed(send))
            elif asked is not None and self.token is not None:
                rest = urlencode([(name, value) for name, value in query if name != "token"])
                answer = RedirectResponse(scope["path"] + (f"?{rest}" if rest else ""), 303)
                answer.set_cookie(_COOKIE, self.token, httponly=True, samesite="strict", max_age=30 * 86400)
                await answer(scope, receive, _sealed(send))
            else:
                await app(scope, receive, _sealed(send))

        return guarded


def _cookie(headers: Headers) -> str:
    try:
        found = SimpleCookie(headers.get("cookie", "")).get(_COOKIE)
    except CookieError:
        return ""
    return found.value if found else ""


def _sealed(send: Send) -> Send:
    """`send` with the headers that keep a browser to our own pages, unless the answer has brought its own."""

    async def sealed(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=_as_scope(message))
            headers.setdefault("content-security-policy", PAGE_POLICY)
            headers.setdefault("x-content-type-options", "nosniff")
            headers.setdefault("referrer-policy", "no-referrer")
            headers.setdefault("cross-origin-resource-policy", "same-origin")
            headers.setdefault("cache-control", "no-store")
        await send(message)

    return sealed


def _as_scope(message: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    message["headers"] = list(message.get("headers", []))
    return message
