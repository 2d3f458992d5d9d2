"""What a request brings along."""

from __future__ import annotations

from starlette.requests import Request

__all__ = ["TooLong", "read_body"]


class TooLong(Exception):
    """A body of more bytes than are read."""


async def read_body(request: Request, most: int) -> bytes:
    """The request's body. Raises TooLong as soon as it has more than `most` bytes, or says that it will."""
    said = request.headers.get("content-length", "")
    if said.isdecimal() and int(said) > most:
        raise TooLong
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > most:
            raise TooLong
    return bytes(body)
