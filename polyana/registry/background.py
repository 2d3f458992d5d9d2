"""Pushing beside a training, in a process of its own: `python -m polyana.registry.background` (tracking/companion.py).

Training pins what is to be sent (queue.py) and goes on; the process looks for it once a second.
"""

from __future__ import annotations

import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from polyana.errors import Busy, PolyanaError
from polyana.registry.exchange import Pusher
from polyana.registry.patience import Patience, plain
from polyana.registry.queue import PushConfig, PushQueue
from polyana.registry.repository import Repository
from polyana.registry.targets import parse_target
from polyana.storage import locked
from polyana.tracking.companion import Companion, Order, take_order, wait_for_all

__all__ = ["pushing", "send_rest"]

_LOOK = 1.0  # seconds between two looks for new saves; guess
_LONGEST_PAUSE = 600.0  # seconds between two tries after a refusal, which the user may mend meanwhile; guess


@contextmanager
def pushing(
    repository: Repository, config: PushConfig | None, log: Path, say: Callable[[str], None]
) -> Iterator[PushQueue | None]:
    """While the block goes on, what is put into the queue is sent; nothing of that is felt in the block.

    At its end everything that is still kept is queued and waited for, `config.wait` seconds at most; what was not sent
    then is said, and stays.
    """
    if config is None:
        yield None
        return
    queue = PushQueue(repository, parse_target(config.to))
    order = {"hub": str(repository.path.parent), "run": repository.run, "to": config.to, "private": config.private}
    companion = Companion("polyana.registry.background", order, log, say, config.wait.seconds)
    try:
        yield queue
    finally:
        with suppress(OSError):  # of a full disk: what was queued before is
            queue.everything()
        _wait(companion, queue, repository.run, config, log, say)


def send_rest(repository: Repository, config: PushConfig | None, log: Path, say: Callable[[str], None]) -> None:
    """Send what an earlier training did not come to, as `pushing` does at its end."""
    if config is not None and repository.exists():
        queue = PushQueue(repository, parse_target(config.to))
        queue.everything()
        if queue.waiting():
            with pushing(repository, config, log, say):
                pass


def _wait(
    companion: Companion, queue: PushQueue, run: str, config: PushConfig, log: Path, say: Callable[[str], None]
) -> None:
    def mention(_: Sequence[str]) -> None:
        say(f"  sending what is left of {run} to {config.to}: at most {config.wait}")

    wait_for_all({config.to: companion}, config.wait.seconds, mention)
    if left := queue.waiting():
        one = len(left) == 1
        say(
            f"  {len(left)} save{'' if one else 's'} of {run} {'was' if one else 'were'} not sent to {config.to}; "
            f"nothing is lost. `polyana models push {run} {config.to}` sends what is missing, and so does the next "
            f"`polyana run`. See {log}"
        )


def main() -> int:
    """The process: send until training is over, and then the rest; 1 when something is left."""
    order = take_order()
    repository = Repository(Path(order.content["hub"]), order.content["run"])
    while True:
        try:
            with locked(repository.path / ".pushing", f"{repository.run} is being pushed"):
                return _send(order, repository)
        except Busy:  # beside a training that was killed; it ends soon
            time.sleep(_LOOK)


def _send(order: Order, repository: Repository) -> int:
    target = parse_target(order.content["to"])
    patience = Patience(None, order.say, order.over)
    pusher = Pusher(repository, target, patience, order.say, private=order.content["private"])
    queue, pause, told = PushQueue(repository, target), _LOOK, ""
    while True:
        last, waiting = order.over.is_set(), queue.waiting()
        try:
            if waiting:
                pusher.push(waiting, queue.sent)
            elif last:
                return 0
            if told:
                order.say(f"{target} works again; nothing is missing there")
            pause, told = _LOOK, ""
        except Exception as error:
            if not isinstance(error, PolyanaError):
                traceback.print_tb(error.__traceback__)
            letter = str(error) if isinstance(error, PolyanaError) else plain(error)
            sys.stderr.write(f"{type(error).__name__}: {letter}\n")
            if told != letter:
                order.say(letter)
            told, pause = letter, min(2 * pause, _LONGEST_PAUSE)
            if last:
                return 1
        order.over.wait(pause)


if __name__ == "__main__":
    sys.exit(main())
