"""The server's process: where it listens, and its end."""

from __future__ import annotations

import secrets
import socket
from dataclasses import dataclass
from pathlib import Path

import uvicorn

from polyana.dashboard.app import make_app
from polyana.dashboard.security import Guard, is_loopback
from polyana.errors import UserError

__all__ = ["PORT", "Address", "open_server"]

PORT = 8018
"""Where the dashboard is looked for; registered for nothing in particular."""
_WAITING = 128  # connections that the system keeps until the server takes them; Python's default
_NEXT = 20  # ports tried when it is taken: by dashboards of other homes


@dataclass(frozen=True)
class Address:
    """Where a server listens, and the token that it asks for. `url`: what to open."""

    host: str
    port: int
    token: str | None

    @property
    def url(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        if self.host in ("0.0.0.0", "::"):
            host = socket.gethostname()
        return f"http://{host}:{self.port}/" + (f"?token={self.token}" if self.token else "")


class Server(uvicorn.Server):
    """`serve` is uvicorn's run on a socket that is open already."""

    def __init__(self, config: uvicorn.Config, listening: socket.socket) -> None:
        super().__init__(config)
        self._listening = listening

    def serve_until_stopped(self) -> None:
        """Answer until SIGINT or SIGTERM."""
        self.run(sockets=[self._listening])


def open_server(home: Path, host: str = "127.0.0.1", port: int | None = None) -> tuple[Address, Server]:
    """A server for a home that listens already; `port` None: the first free one from 8018 on, 0: any.

    Addresses that others can reach ask for a token. Raises UserError when there is no such address or the port is
    taken.
    """
    listening = _listen(host, port)
    address = Address(host, listening.getsockname()[1], None if is_loopback(host) else secrets.token_urlsafe(24))
    config = uvicorn.Config(
        make_app(home, Guard(host, address.token)), log_level="critical", access_log=False, lifespan="on",
        loop="asyncio", http="h11", ws="none", server_header=False, proxy_headers=False, timeout_graceful_shutdown=1,
    )  # fmt: skip
    return address, Server(config, listening)


def _listen(host: str, port: int | None) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    tried = range(PORT, PORT + _NEXT) if port is None else [port]
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
