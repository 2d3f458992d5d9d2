"""Who may ask (web/guard.py), and what a page may do: nothing from elsewhere is loaded."""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import MutableMapping
from dataclasses import dataclass
from hashlib import sha256
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qsl, urlencode

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import RedirectResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from polyana.dashboard.errors import letter
from polyana.web import Guard

__all__ = ["PAGE_POLICY", "PageGuard", "policy_of"]

PAGE_POLICY = (
    "default-src 'self'; img-src 'self' data: blob:; object-src 'none'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'self'"  # nobody lays our buttons below a page of their own
)
_SCRIPT = re.compile(rb"<script>(.*?)</script>", re.DOTALL)
_COOKIE = "polyana-token"


def policy_of(page: bytes) -> str:
    """The policy for a page of ours: PAGE_POLICY, and no script within the page but those that it was built with, by
    their hashes (Content Security Policy Level 3, 6.7.3.3)."""
    hashes = [f" 'sha256-{b64encode(sha256(script).digest()).decode()}'" for script in _SCRIPT.findall(page)]
    return f"{PAGE_POLICY}; script-src 'self'{''.join(hashes)}"


@dataclass(frozen=True)
class PageGuard(Guard):
    """Which requests for pages are answered: a token also comes with the link, and goes on in a cookie."""

    def around(self, app: ASGIApp) -> ASGIApp:
        inside = super().around(app)

        async def sealed(scope: Scope, receive: Receive, send: Send) -> None:
            await inside(scope, receive, _sealed(send))

        return sealed

    def refusal(self, scope: Scope, headers: Headers) -> ASGIApp | None:
        query = parse_qsl(scope["query_string"].decode("latin-1"))
        asked = next((value for name, value in query if name == "token"), None)
        objection = self.objection(scope["method"], headers)
        if objection is not None:
            return letter(403, objection)
        if not self.admits(headers, asked or "", _cookie(headers)):
            return letter(401, "open the link that `polyana ui` printed: it carries a token")
        if asked is None or self.token is None:
            return None
        rest = urlencode([(name, value) for name, value in query if name != "token"])
        answer = RedirectResponse(scope["path"] + (f"?{rest}" if rest else ""), 303)
        answer.set_cookie(_COOKIE, self.token, httponly=True, samesite="strict", max_age=30 * 86400)
        return answer


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
