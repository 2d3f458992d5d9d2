"""One writer at a time: a lock that the operating system frees when its process dies, however it dies."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from polyana.errors import Busy

__all__ = ["is_held", "locked"]


@contextmanager
def locked(path: Path, doing: str) -> Iterator[None]:
    """Hold the lock file `path`; raises Busy, naming the process that holds it, if that is not possible now."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path)
    try:
        lock.acquire(timeout=1.0)  # `is_held` may have it for a moment
    except Timeout:
        raise Busy(f"{doing}: {_describe(path)}. Wait for it, or stop it, and run this again") from None
    note = _note(path)
    try:
        note.write_text(json.dumps({"process": os.getpid(), "host": socket.gethostname(), "since": time.time()}))
        yield
        note.unlink(missing_ok=True)
    finally:
        lock.release()


def is_held(path: Path) -> bool:
    """Whether some process holds the lock file `path` now."""
    if not path.exists():
        return False
    lock = FileLock(path)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        return True
    except OSError:  # a home that cannot be written to: nobody trains there
        return False
    lock.release()
    return False


def _note(path: Path) -> Path:
    return path.with_suffix(".holder")


def _describe(path: Path) -> str:
    try:
        note = json.loads(_note(path).read_text())
        since = time.strftime("%H:%M:%S", time.localtime(note["since"]))
        return f"process {note['process']} on {note['host']} has been at it since {since}"
    except (OSError, ValueError, KeyError):
        return "another process is at it"
