"""The server's process: where it listens, and its end."""

from __future__ import annotations

import socket
from dataclasses import dataclass

import uvicorn
from starlette.types import ASGIApp

from polyana.errors import UserError

__all__ = ["Address", "Server", "listen"]

_WAITING = 128  # connections that the system keeps until the server takes them; Python's default
_NEXT = 20  # ports tried when it is taken: by servers of other homes


@dataclass(frozen=True)
class Address:
    """Where a server listens, and the token that it asks for."""

    host: str
    port: int
    token: str | None = None

    @property
    def place(self) -> str:
        """HOST:PORT, as one writes it in an address."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        if self.host in ("0.0.0.0", "::"):
            host = socket.gethostname()
        return f"{host}:{self.port}"

    @property
    def url(self) -> str:
        """What to open in a browser."""
        return f"http://{self.place}/" + (f"?token={self.token}" if self.token else "")


class Server(uvicorn.Server):
    """uvicorn on a socket that listens already. `patience`: seconds that answers under way have when it is to end."""

    def __init__(self, app: ASGIApp, listening: socket.socket, patience: int = 1) -> None:
        super().__init__(
            uvicorn.Config(
                app, log_level="critical", access_log=False, lifespan="on", loop="asyncio", http="h11", ws="none",
                server_header=False, proxy_headers=False, timeout_graceful_shutdown=patience,
            )
        )  # fmt: skip
        self._listening = listening

    def serve_until_stopped(self) -> None:
        """Answer until SIGINT or SIGTERM."""
        self.run(sockets=[self._listening])


def listen(host: str, port: int | None, first: int) -> socket.socket:
    """A socket that listens; `port` None: at the first free one from `first` on, 0: at any.

    Raises UserError when there is no such address or the port is taken.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    tried = range(first, first + _NEXT) if port is None else [port]
    for number in tried:
        listening = socket.socket(family, socket.SOCK_STREAM)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((host, number))
            listening.listen(_WAITING)
        except OSError as error:
            listening.close()
            if number == tried[-1]:
                raise UserError(f"nothing can listen at {host} port {number}: {error.strerror or error}") from None
            continue
        return listening
    raise AssertionError("no port was tried")
