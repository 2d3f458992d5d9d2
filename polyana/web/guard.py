"""Who may ask: this machine alone, or whoever has the token.

Another site that a browser has open could send requests to a server here, and by a name that it resolves to 127.0.0.1
(DNS rebinding) also read the answers. So the name in `Host` must be the server's, and what a page asks must come from a
page of this server (`Origin`).
"""

from __future__ import annotations

import hmac
import ipaddress
import socket
from dataclasses import dataclass
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

__all__ = ["Guard", "is_loopback"]

_LOCAL = frozenset({"127.0.0.1", "localhost", "::1"})
_READING = frozenset({"GET", "HEAD"})


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

    def objection(self, method: str, headers: Headers) -> str | None:
        """Why a request is refused, with status 403; None where it is not."""
        host = headers.get("host", "")
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:  # `[` alone
            name = ""
        if not self.knows(name):
            return f"this server is not called {name or 'nothing'}; use the address that it printed when it started"
        origin = headers.get("origin")
        if origin is not None and urlsplit(origin).netloc != host:
            return "this request came from another site's page"
        if method not in _READING and origin is None and headers.get("sec-fetch-site", "same-origin") != "same-origin":
            return "this request came from another site's page"
        return None

    def around(self, app: ASGIApp) -> ASGIApp:
        """`app`, wherever `refusal` lets a request through."""

        async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] == "lifespan":
                await app(scope, receive, send)
            elif scope["type"] == "http":
                await (self.refusal(scope, Headers(scope=scope)) or app)(scope, receive, send)

        return guarded

    def refusal(self, scope: Scope, headers: Headers) -> ASGIApp | None:
        """What answers a request instead, in the words of who serves; None where it is let through."""
        raise NotImplementedError

    def admits(self, headers: Headers, *given: str) -> bool:
        """Whether the token is there, as a bearer's or as one of those `given` otherwise."""
        if self.token is None:
            return True
        scheme, _, bearer = headers.get("authorization", "").partition(" ")
        found = [*given, bearer.strip() if scheme.lower() == "bearer" else ""]
        return any(hmac.compare_digest(each.encode(), self.token.encode()) for each in found)
