"""How many threads the server computes with: one while a training goes on beside it, else as many as it may."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from polyana.serve.engine import Engine

__all__ = ["Pace"]

_LOOK = 1.0  # seconds between two looks at whether something is trained; guess


class Pace:
    """`is_training`: whether to step aside now; None: never. `alone`: threads otherwise."""

    def __init__(self, is_training: Callable[[], bool] | None, alone: int | None) -> None:
        self._is_training, self._alone = is_training, alone

    def threads(self) -> int | None:
        return 1 if self._is_training is not None and self._is_training() else self._alone

    async def keep(self, engine: Engine) -> None:
        """For ever."""
        while self._is_training is not None:
            engine.threads = await asyncio.to_thread(self.threads)
            await asyncio.sleep(_LOOK)
