"""A dashboard's server."""

from __future__ import annotations

import secrets
from pathlib import Path

from polyana.dashboard.app import make_app
from polyana.dashboard.security import PageGuard
from polyana.web import Address, Server, is_loopback, listen

__all__ = ["PORT", "open_server"]

PORT = 8018
"""Where the dashboard is looked for; registered for nothing in particular."""


def open_server(home: Path, host: str = "127.0.0.1", port: int | None = None) -> tuple[Address, Server]:
    """A server for a home that listens already; `port` None: the first free one from 8018 on, 0: any.

    Addresses that others can reach ask for a token. Raises UserError when there is no such address or the port is
    taken.
    """
    listening = listen(host, port, PORT)
    address = Address(host, listening.getsockname()[1], None if is_loopback(host) else secrets.token_urlsafe(24))
    return address, Server(make_app(home, PageGuard(host, address.token)), listening)
