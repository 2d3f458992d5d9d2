"""A server of saves: where it listens, what it has loaded, and its end."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence

import torch

from polyana.serve.app import ApiGuard, make_app
from polyana.serve.engine import Engine
from polyana.serve.pace import Pace
from polyana.serve.saves import Hold, Saves
from polyana.web import Address, Server, is_loopback, listen

__all__ = ["PORT", "open_server"]

PORT = 8040
"""Where saves are served; registered for nothing in particular."""
_PATIENCE = 5  # seconds that answers under way have when the server is to end; guess


def open_server(
    names: Sequence[str],
    hold: Hold,
    say: Callable[[str], None],
    *,
    host: str = "127.0.0.1",
    port: int | None = None,
    token: str | None = None,
    follow: bool = False,
    is_training: Callable[[], bool] | None = None,
) -> tuple[Address, Server]:
    """A server that listens and has loaded the revisions `names`; `port` None: the first free one from 8040 on, 0: any.

    Addresses that others can reach ask for a token, which is made unless it is given. `follow`: a name that moves on,
    as @best, is looked up again while it runs. `is_training`: says when to compute with one thread; None: never. Raises
    UserError.
    """
    listening = listen(host, port, PORT)
    if token is None and not is_loopback(host):
        token = secrets.token_urlsafe(24)
    address = Address(host, listening.getsockname()[1], token)
    saves = Saves(hold, address.place, say)
    try:
        saves.load(names)
    except BaseException:
        listening.close()
        saves.close()
        raise
    pace = Pace(is_training, torch.get_num_threads())
    app = make_app(saves, Engine(pace.threads()), ApiGuard(host, token), pace, follow)
    return address, Server(app, listening, _PATIENCE)
