"""`polyana serve`: saves answer over OpenAI's protocol."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Annotated

import typer

from polyana.cli.doors import app, print_result
from polyana.storage import home_directory

if TYPE_CHECKING:
    from polyana.serve import Save

__all__ = ["serve"]


@app.command()
def serve(
    names: Annotated[
        list[str],
        typer.Argument(metavar="RUN[@REV]...", help="Runs, or the beginnings of their names; @best, @step-500."),
    ],
    host: Annotated[
        str, typer.Option(help="Where to listen; what others can reach, as 0.0.0.0, asks for a token.")
    ] = "127.0.0.1",
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Default: the first free one from 8040 on.")
    ] = None,
    token: Annotated[
        str | None,
        typer.Option(envvar="POLYANA_TOKEN", help="What clients send as API key; default: made where it is needed."),
    ] = None,
    follow: Annotated[
        bool, typer.Option("--follow", help="When @best or another name moves on, answer with what it stands for then.")
    ] = False,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Default: all cores, and one while a run is being trained here.")
    ] = None,
) -> None:
    """Let saves answer over OpenAI's protocol, also while their training goes on. Ctrl-C or SIGTERM ends it.

    Each answers by the name that it is given here; what it is stays as long as it is served, whatever `keep` says.
    """
    from polyana.tracking import aside

    home = home_directory()
    if threads is not None:
        os.environ["OMP_NUM_THREADS"] = str(threads)
    fixed = bool(os.environ.get("OMP_NUM_THREADS")) or not aside.wanted_priority()
    aside.step_aside(home)
    if not fixed:
        os.environ.pop("OMP_NUM_THREADS", None)  # one thread now, all once the training has ended
    from polyana.serve import open_server

    address, server = open_server(
        names, _held, _tell, host=host, port=port, token=token or None, follow=follow,
        is_training=None if fixed else lambda: aside.is_training_here(home),
    )  # fmt: skip
    if address.token is not None and address.token != token:
        _tell(f"clients need this token, as their API key: {address.token}")
    print_result(f"http://{address.place}/v1")
    sys.stdout.flush()
    signal.signal(signal.SIGTERM, lambda *_: None)  # uvicorn ends the server, and raises it again then
    with suppress(KeyboardInterrupt):
        server.serve_until_stopped()


@contextmanager
def _held(name: str) -> Iterator[Save]:
    from polyana.registry import Repository
    from polyana.revisions import held_revision
    from polyana.serve import Save
    from polyana.tracking import Console

    home = home_directory()
    with held_revision(name, home) as revision:
        repository = Repository(home / "hub", revision.run.name)
        yield Save(repository, revision.commit, revision.directory, revision.base(Console()))


def _tell(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()
