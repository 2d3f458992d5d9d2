"""GET /api/live: what has changed, as server-sent events. Nothing is looked at while no browser is connected.

While a training needs every core of this machine, all is looked at and told more seldom: what the server and browsers
beside it take for a change, the training loses.

event update   {"runs": [{"name", "step", "last", "status", and what else has changed}], "cursor"}
event reading  {"run", "share"}: the index is reading a long run for the first time
event gone     {"run"}
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import suppress

import msgspec
import psutil

from polyana.dashboard.runs import Catalogue

__all__ = ["FULL", "Live"]

_LOOK = 1.0  # seconds between two looks at all runs
_GLANCE = 0.2  # seconds between two looks at those in training: a new point is on its way so soon
_REST = 0.5  # and between two when nothing is in training
FULL = 0.9
"""Share of this machine's processors that are busy, from which on none is to spare. Guess."""
_MEMORY = 0.5  # of what was known of that share a look earlier; guess
_SPARING = 5.0
"""Times as seldom, for each page: one of five charts takes some 40 ms of a processor for a change (docs/log.md)."""
_HEARTBEAT = 15.0  # seconds without an event after which a comment keeps the connection open


class Live:
    """Looks at the runs for all browsers that are connected, and tells each what it has not heard yet."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self._start = secrets.token_hex(4)  # of this server: another one has counted other changes
        self._looked = -_LOOK
        self._busy = 0.0  # share of the machine's processors
        psutil.cpu_percent()  # from here on
        self._listeners: set[asyncio.Event] = set()  # set when there is news
        self._looking: asyncio.Future[None] | None = None
        self._advising: asyncio.Future[None] | None = None

    def cursor(self) -> str:
        """Where somebody stands who knows everything now."""
        return f"{self._start}-{self._catalogue.version}"

    async def events(self, cursor: str) -> AsyncIterator[bytes]:
        """Events for one browser that knows everything up to `cursor`; ends when the browser goes."""
        start, _, version = cursor.rpartition("-")
        known = int(version) if start == self._start and version.isdigit() else 0
        news = asyncio.Event()
        self._listeners.add(news)
        self._catalogue.watched += 1
        if self._looking is None or self._looking.done():
            self._looking = asyncio.ensure_future(self._look_on())
        try:
            async for piece in self._tell(known, news, self._looking):
                yield piece
        finally:
            self._catalogue.watched -= 1
            self._listeners.discard(news)

    async def _tell(self, known: int, news: asyncio.Event, looking: asyncio.Future[None]) -> AsyncIterator[bytes]:
        shares = dict[str, float]()
        yield b": connected\n\n"
        while not looking.done():
            version_now = self._catalogue.version
            if version_now > known:
                changed, gone = self._catalogue.news(known)
                known = version_now
                for run in gone:
                    yield _event("gone", {"run": run})
                if changed:
                    here = f"{self._start}-{known}"
                    yield f"id: {here}\n".encode() + _event("update", {"runs": changed, "cursor": here})
            if shares != (reading := self._catalogue.reader.shares()):
                for run, share in reading.items():
                    if shares.get(run) != share:
                        yield _event("reading", {"run": run, "share": share})
                for run in shares.keys() - reading.keys():
                    yield _event("reading", {"run": run, "share": 1.0})
                shares = reading
            try:
                await asyncio.wait_for(news.wait(), _HEARTBEAT)
            except TimeoutError:
                yield b": still here\n\n"
            news.clear()
        looking.result()  # looking has failed: the browser comes again

    async def _look_on(self) -> None:
        """Look for all while there is anybody, and wake them when there is something to tell."""
        told: tuple[int, dict[str, float]] | None = None
        try:
            with self._catalogue.reader.waking() as woken:
                while self._listeners:
                    await self._look()
                    now = self._catalogue.version, self._catalogue.reader.shares()
                    if now != told:
                        told = now
                        self._wake()
                    with suppress(TimeoutError):
                        glance = _GLANCE * self._patience() if self._catalogue.is_moving() else _REST
                        await asyncio.wait_for(woken.wait(), glance)
                    woken.clear()
        finally:
            self._wake()

    def _wake(self) -> None:
        for news in self._listeners:
            news.set()

    async def _look(self) -> None:
        """At all runs once a second, at those in training as soon as they may have something new to tell."""
        if time.monotonic() - self._looked >= _LOOK * self._patience():
            self._busy = _MEMORY * self._busy + (1 - _MEMORY) * psutil.cpu_percent() / 100  # since the last look
            await asyncio.to_thread(self._catalogue.look, patience=self._patience())
            self._looked = time.monotonic()
            if self._advising is None or self._advising.done():  # beside: a long run takes a while to read
                index = self._catalogue.index
                self._advising = asyncio.ensure_future(asyncio.to_thread(index.use, self._catalogue.advise_one))
        elif self._catalogue.is_due(self._patience()):
            await asyncio.to_thread(self._catalogue.look, True, self._patience())

    def _patience(self) -> float:
        """How many times longer than usual it is between two looks."""
        return _SPARING * len(self._listeners) if self._busy >= FULL and self._listeners else 1.0


def _event(kind: str, data: object) -> bytes:
    return b"event: " + kind.encode() + b"\ndata: " + msgspec.json.encode(data) + b"\n\n"
