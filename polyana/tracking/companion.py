"""A process that works beside a training and is never felt in it: it has a low priority, and may hang, crash or fail.

A process and not a thread: a library that hangs in C holds Python's lock, and one that crashes takes its process along.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TextIO

from polyana.tracking.aside import lower_priority

__all__ = ["Companion", "Order", "take_order", "wait_for_all"]

_MORE = 5.0  # seconds of patience beyond those that training has; guess
_UNMENTIONED = 2.0  # seconds of waiting that need no word; guess


class Companion:
    """`python -m MODULE`, from now on. What it prints is said; what goes to its stderr is added to the file `log`."""

    def __init__(
        self, module: str, order: Mapping[str, Any], log: Path, say: Callable[[str], None], patience: float
    ) -> None:
        """`order`: plain data, for the process's `take_order`. `patience`: seconds that it may take after `end`."""
        log.parent.mkdir(exist_ok=True)
        with log.open("a") as stream:
            self._process = subprocess.Popen(
                [sys.executable, "-m", module],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stream, text=True,
                start_new_session=True,  # Ctrl-C is for training, which then lets its companions finish
            )  # fmt: skip
        self._say = say
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({**order, "patience": patience}) + "\n")
        self._process.stdin.flush()
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as said:
            for line in said:
                self._say(f"  {line.rstrip()}")

    def end(self) -> None:
        """Say that training is over: what is left is to be done now."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):
            self._process.stdin.close()

    @property
    def at_work(self) -> bool:
        return self._process.poll() is None

    @property
    def failed(self) -> bool:
        return bool(self._process.poll())

    def wait(self, until: float) -> None:
        """Return when it is done, or at `until` of time.monotonic()."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(max(until - time.monotonic(), 0))

    def kill(self) -> None:
        """End it and what it has started."""
        if self.at_work:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        self._listener.join()


def wait_for_all(
    companions: Mapping[str, Companion], patience: float, mention: Callable[[Sequence[str]], None]
) -> list[str]:
    """End companions by name, and kill those that are not done after `patience` seconds; the names of these.

    `mention` is called with the names of those for which it takes a while.
    """
    late: list[str] = []
    try:
        for companion in companions.values():
            companion.end()
        began = time.monotonic()
        for companion in companions.values():
            companion.wait(began + min(_UNMENTIONED, patience))
        if late := [name for name, companion in companions.items() if companion.at_work]:
            mention(late)
            for companion in companions.values():
                companion.wait(began + patience)
    finally:
        late = [name for name, companion in companions.items() if companion.at_work]
        for companion in companions.values():
            companion.kill()
    return late


class Order:
    """What a companion is to do. `over`: set when training has ended, however it did."""

    def __init__(self, content: dict[str, Any], speak: TextIO) -> None:
        self.content, self._speak, self.over = content, speak, threading.Event()

    def say(self, text: str) -> None:
        """Let the user read a line."""
        with suppress(BrokenPipeError):
            print(text, file=self._speak)


def take_order() -> Order:
    """In the companion's process, first of all: what to do. From now on whatever prints writes to the log."""
    speak = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    order = Order(json.loads(sys.stdin.readline()), speak)

    def wait_for_the_end() -> None:
        sys.stdin.read()
        order.over.set()
        time.sleep(order.content["patience"] + _MORE)  # whoever started this was killed, too, else it were over by now
        os.killpg(0, signal.SIGKILL)

    threading.Thread(target=wait_for_the_end, daemon=True).start()
    lower_priority(10)  # training goes before its companions
    return order
