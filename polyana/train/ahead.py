"""The next batch is fetched while the current one is computed."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from polyana.data import Batch

__all__ = ["ReadAhead"]


class ReadAhead:
    """Batches by position, one ahead of who asks for them.

    `waited`: seconds that the last `get` waited for the disk.
    """

    def __init__(self, fetch: Callable[[int, int], Batch]) -> None:
        self._fetch = fetch
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="batches")
        self._coming: tuple[tuple[int, int], Future[Batch]] | None = None
        self.waited = 0.0

    def get(self, first: int, count: int, following: tuple[int, int] | None) -> Batch:
        """The `count` sequences from `first` on; `following` is what will be asked for next, None at the end."""
        began = time.perf_counter()
        if self._coming is not None and self._coming[0] == (first, count):
            batch = self._coming[1].result()
        else:
            batch = self._reader.submit(self._fetch, first, count).result()
        self._coming = (following, self._reader.submit(self._fetch, *following)) if following else None
        self.waited = time.perf_counter() - began
        return batch

    def close(self) -> None:
        self._reader.shutdown(cancel_futures=True)
