"""How a request is refused: as OpenAI says it, so that its clients raise the error that they have for it."""

from __future__ import annotations

from typing import Any

from starlette.responses import JSONResponse

__all__ = ["Refused"]


class Refused(Exception):
    """A request that cannot be answered. `status`: of HTTP. `param`: the parameter that is to blame. `code`: a word
    that programs know."""

    def __init__(self, status: int, what: str, *, param: str | None = None, code: str | None = None) -> None:
        self.status, self.what, self.param, self.code = status, what, param, code
        super().__init__(what)

    def body(self) -> dict[str, Any]:
        kind = "server_error" if self.status >= 500 else "invalid_request_error"
        return {"error": {"message": self.what, "type": kind, "param": self.param, "code": self.code}}

    def response(self) -> JSONResponse:
        headers = {"www-authenticate": "Bearer"} if self.status == 401 else None
        if self.status == 503:
            headers = {"retry-after": "1"}
        return JSONResponse(self.body(), self.status, headers)
