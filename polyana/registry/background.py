"""Pushing beside a training, in a process of its own (tracking/companion.py): `python -m polyana.registry`.

Training pins what is to be sent (queue.py) and goes on; the process (__main__.py) looks for it once a second.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from polyana.registry.queue import PushConfig, PushQueue
from polyana.registry.repository import Repository
from polyana.registry.targets import parse_target
from polyana.tracking.companion import Companion, wait_for_all

__all__ = ["pushing", "send_rest"]

_STOPPED = 30.0  # seconds that a training waits which was stopped or has failed; guess


@contextmanager
def pushing(
    repository: Repository, config: PushConfig | None, log: Path, say: Callable[[str], None]
) -> Iterator[PushQueue | None]:
    """While the block goes on, what is put into the queue is sent; nothing of that is felt in the block.

    At its end everything that is still kept is queued and waited for, `config.wait` at most, and half a minute after a
    stop signal or an error; what was not sent then is said, and stays.
    """
    if config is None:
        yield None
        return
    queue = PushQueue(repository, parse_target(config.to))
    order = {"hub": str(repository.path.parent), "run": repository.run, "to": config.to, "private": config.private,
             "stays": config.stays}  # fmt: skip
    companion = Companion("polyana.registry", order, log, say, config.wait.seconds)
    wait = min(_STOPPED, config.wait.seconds)
    try:
        yield queue
        wait = config.wait.seconds
    finally:
        with suppress(OSError):  # of a full disk: what was queued before is
            queue.everything()
        _wait(companion, queue, repository.run, config, wait, log, say)


def send_rest(repository: Repository, config: PushConfig, log: Path, say: Callable[[str], None]) -> bool:
    """Send what an earlier training did not come to, as `pushing` does at its end; whether there was anything."""
    queue = PushQueue(repository, parse_target(config.to))
    queue.everything()
    if not queue.waiting():
        return False
    with pushing(repository, config, log, say):
        pass
    return True


def _wait(
    companion: Companion, queue: PushQueue, run: str, config: PushConfig, wait: float, log: Path,
    say: Callable[[str], None],
) -> None:  # fmt: skip
    def mention(_: Sequence[str]) -> None:
        say(f"  sending what is left of {run} to {config.to}: at most {wait:.0f} s")

    wait_for_all({config.to: companion}, wait, mention)
    if left := queue.waiting():
        one = len(left) == 1
        say(
            f"  {len(left)} save{'' if one else 's'} of {run} {'was' if one else 'were'} not sent to {config.to}; "
            f"nothing is lost. `polyana models push {run} {config.to}` sends what is missing, and so does the next "
            f"`polyana run`. See {log}"
        )
