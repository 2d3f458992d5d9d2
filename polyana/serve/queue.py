"""Whose turn it is: among requests that wait to be begun, and among those that are being written."""

from __future__ import annotations

import threading
from collections import deque
from typing import Generic, TypeVar

__all__ = ["Line", "Turns"]

J = TypeVar("J")


class Line(Generic[J]):
    """Jobs that wait. One of each client is taken in turn, so who sends a hundred waits for nobody else's hundred."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._changed = threading.Condition()
        self._waiting: dict[str, deque[J]] = {}  # by client; whose turn is next comes first
        self._open = True

    def put(self, client: str, job: J) -> bool:
        """Let a job wait; False where too many wait already, or the line is closed."""
        with self._changed:
            if not self._open or sum(map(len, self._waiting.values())) >= self._most:
                return False
            self._waiting.setdefault(client, deque()).append(job)
            self._changed.notify()
            return True

    def take(self) -> J | None:
        """The next job, as soon as there is one; None once the line is closed."""
        with self._changed:
            while self._open and not self._waiting:
                self._changed.wait()
            if not self._open:
                return None
            client = next(iter(self._waiting))
            jobs = self._waiting.pop(client)
            job = jobs.popleft()
            if jobs:
                self._waiting[client] = jobs  # behind all others
            return job

    def drop(self, client: str, job: J) -> None:
        """Forget a job that waits; one that does not is no error."""
        with self._changed:
            jobs = self._waiting.get(client)
            if jobs is not None and job in jobs:
                jobs.remove(job)
                if not jobs:
                    del self._waiting[client]

    def close(self) -> list[J]:
        """Let nobody in and nobody through any more; those that wait."""
        with self._changed:
            self._open = False
            left = [job for jobs in self._waiting.values() for job in jobs]
            self._waiting.clear()
            self._changed.notify_all()
            return left


class Turns:
    """One of several threads computes at a time. Who gives its turn away gets the next one after all who wait."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: deque[threading.Event] = deque()
        self._taken = False

    def take(self) -> None:
        """Wait for a turn."""
        with self._lock:
            if not self._taken:
                self._taken = True
                return
            mine = threading.Event()
            self._waiting.append(mine)
        mine.wait()

    def give(self) -> None:
        """Let the next one compute."""
        with self._lock:
            if self._waiting:
                self._waiting.popleft().set()
            else:
                self._taken = False

    @property
    def is_wanted(self) -> bool:
        """Whether somebody waits for a turn."""
        return bool(self._waiting)
