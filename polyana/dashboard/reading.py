"""Letting the index read on: what is short at once, what is long in the background, slices of it shown meanwhile."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from polyana.tracking import Index, Sketch, draw_sketch

__all__ = ["Reader"]

_FIRST = 0.15  # seconds for the first charts to be sent before reading takes a core; guess


class _Stopped(Exception):
    """The server ends."""


@dataclass
class _Long:
    """A run whose long files are being read. share: of what was left; error: what reading failed of."""

    sketch: Sketch
    share: float = 0.0
    error: Exception | None = None
    is_done: bool = False
    thread: threading.Thread | None = field(default=None, repr=False)


class Reader:
    """Reads for one server; nobody waits for a long run."""

    def __init__(self, index: Index) -> None:
        self._index = index
        self._long: dict[str, _Long] = {}
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._waiting: set[Callable[[], object]] = set()

    def shares(self) -> dict[str, float]:
        """Run -> the share of what was left of it that is read, of those which are being read."""
        return {name: long.share for name, long in list(self._long.items()) if not long.is_done}

    @contextmanager
    def waking(self) -> Iterator[asyncio.Event]:
        """What is set, in the loop that this runs in, when the background begins with a run or is done with it."""
        loop, woken = asyncio.get_running_loop(), asyncio.Event()

        def wake() -> None:
            with suppress(RuntimeError):  # the loop has ended meanwhile
                loop.call_soon_threadsafe(woken.set)

        self._waiting.add(wake)
        try:
            yield woken
        finally:
            self._waiting.discard(wake)

    def read_on(self, run: str, metrics: Path) -> tuple[Sketch, float] | None:
        """Read what a run has written; where that is much, begin with it in the background and give (slices of what
        is left, the share that is read). Raises what the background has failed of, once."""
        with self._lock:
            long = self._long.get(run)
            if long is not None and long.is_done:
                del self._long[run]
                if long.error is not None:
                    raise long.error
                long = None
            if long is not None:
                return long.sketch, long.share
            sketch = draw_sketch(self._index, run, metrics)
            if sketch is not None:
                self._long[run] = long = _Long(sketch)
                long.thread = threading.Thread(target=self._read, args=(run, metrics, long), name=f"reading {run}")
                long.thread.start()
                self._wake()
                return sketch, 0.0
        self._index.catch_up(run, metrics)
        return None

    def stop(self) -> None:
        """Stop at the next place where the index is whole."""
        self._stopped.set()
        for long in list(self._long.values()):
            if long.thread is not None:
                long.thread.join()

    def _read(self, run: str, metrics: Path, long: _Long) -> None:
        def progress(share: float) -> None:
            long.share = share
            if self._stopped.is_set():
                raise _Stopped

        try:
            self._stopped.wait(_FIRST)
            self._index.use(lambda: self._index.catch_up(run, metrics, progress))
        except _Stopped:
            pass
        except Exception as error:  # told to whoever asks next
            long.error = error
        finally:
            self._index.close()
            long.is_done = True
            self._wake()

    def _wake(self) -> None:
        for wake in list(self._waiting):
            wake()
