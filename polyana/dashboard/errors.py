"""How a route says no: a status and a short letter, which the page shows as it is."""

from __future__ import annotations

from starlette.responses import JSONResponse

__all__ = ["Refused", "letter"]


class Refused(Exception):
    """A request that cannot be answered. `status`: of HTTP, 4xx."""

    def __init__(self, status: int, what: str) -> None:
        self.status, self.what = status, what
        super().__init__(what)


def letter(status: int, what: str) -> JSONResponse:
    return JSONResponse({"error": what}, status)
