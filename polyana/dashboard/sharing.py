"""One answer for all browsers that ask the same: those that hear of a change at once ask at once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

from polyana.dashboard.runs import Catalogue

__all__ = ["Shared"]

_KEPT = 0.9  # seconds; less than between two looks at a run in training

T = TypeVar("T")


class Shared:
    """Work that is done once while nothing is known to have changed. Only while the catalogue looks for browsers: else
    nobody would see that something has."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self._begun: dict[Hashable, tuple[float, asyncio.Future[Any]]] = {}

    async def get(self, what: Hashable, work: Callable[[], T], is_final: Callable[[T], bool] = lambda _: True) -> T:
        """What `work` gives, in a thread. `is_final`: whether whoever asks later may have it too."""
        now, key = time.monotonic(), (what, self._catalogue.version)
        for old in [old for old, (began, done) in self._begun.items() if done.done() and now - began >= _KEPT]:
            del self._begun[old]
        _, shared = self._begun.get(key, (now, None))
        if shared is None or not self._catalogue.watched:
            shared = asyncio.ensure_future(asyncio.to_thread(work))
            self._begun[key] = now, shared
        found: T = await asyncio.shield(shared)
        if not is_final(found):
            self._begun.pop(key, None)
        return found
