"""Ctrl-C and SIGTERM: the first one asks to save and stop, the second leaves at once."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

__all__ = ["StopSignals"]


class StopSignals:
    """While the context is open, `received` is the number of the signal that asked to stop, or None."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self.received: int | None = None
        self._say = say
        self._before: dict[int, Any] = {}

    def __enter__(self) -> StopSignals:
        if threading.current_thread() is threading.main_thread():  # Python lets only the main thread handle signals
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        if self.received is not None:
            if sys.stderr.isatty():
                os.write(2, b"\x1b[?25h\n")  # the live line has hidden the cursor
            os._exit(128 + number)
        self.received = number
        self._say(f"{signal.Signals(number).name}: saving after this step, then stopping (once more to leave at once)")
