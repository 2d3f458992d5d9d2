"""The process that pushes beside a training: `python -m polyana.registry`, which background.py starts.

What is said goes to the user; everything else to the run's push.log.
"""

from __future__ import annotations

import sys
import time
import traceback
from pathlib import Path

from polyana.errors import Busy, PolyanaError
from polyana.registry.exchange import Pusher
from polyana.registry.patience import Patience, plain
from polyana.registry.queue import PushQueue
from polyana.registry.repository import Repository
from polyana.registry.targets import parse_target
from polyana.storage import locked
from polyana.tracking.companion import Order, take_order

_LOOK = 1.0  # seconds between two looks for new saves; guess
_LONGEST_PAUSE = 600.0  # seconds between two tries after a refusal, which the user may mend meanwhile; guess


def main() -> int:
    """Send until training is over, and then the rest; 1 when something is left."""
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
    queue, pause, told, tried = PushQueue(repository, target), _LOOK, "", False
    while True:
        last, waiting = order.over.is_set(), queue.waiting()
        try:
            if waiting or not tried:  # at once: a target that refuses is said now and not after the first save
                pusher.push(waiting, lambda commit: queue.sent(commit, order.content["stays"]))
                tried = True
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
