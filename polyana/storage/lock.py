"""One writer at a time, or many readers: locks that the operating system frees when their process dies, however it
dies."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from polyana.errors import Busy

__all__ = ["alone", "is_held", "locked", "shared"]


@contextmanager
def locked(path: Path, doing: str, wait: float = 1.0) -> Iterator[None]:
    """Hold the lock file `path`; raises Busy, naming the process that holds it, if that is not possible for `wait`
    seconds (`is_held` may have it for a moment)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path)
    try:
        lock.acquire(timeout=wait, poll_interval=0.01)
    except Timeout:
        raise Busy(f"{doing}: {_describe(path)}. Wait for it, or stop it, and run this again") from None
    note = _note(path)
    try:
        with suppress(OSError):  # on a full disk what frees some still needs the lock
            note.write_text(json.dumps({"process": os.getpid(), "host": socket.gethostname(), "since": time.time()}))
        yield
    finally:
        note.unlink(missing_ok=True)
        lock.release()


def is_held(path: Path) -> bool:
    """Whether some process holds the lock file `path` now."""
    try:
        descriptor = os.open(path, os.O_RDONLY)  # never made: a directory that is being deleted must become empty
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # a file system without locks: nobody trains there
        return False
    finally:
        os.close(descriptor)
    return False


@contextmanager
def shared(path: Path) -> Iterator[None]:
    """Hold the lock file `path` together with all who do the same; waits while somebody is `alone` with it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    while True:
        descriptor = os.open(path, os.O_RDONLY | os.O_CREAT, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH)
            if os.fstat(descriptor).st_nlink:  # else whoever was alone has deleted it: it guards nothing any more
                yield
                return
        finally:
            os.close(descriptor)


@contextmanager
def alone(path: Path) -> Iterator[bool]:
    """Whether nobody has the file or directory `path` `shared` or alone; then nobody gets it before the block ends."""
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDONLY | os.O_CREAT, 0o666)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True
    finally:
        os.close(descriptor)


def _note(path: Path) -> Path:
    return path.with_suffix(".holder")


def _describe(path: Path) -> str:
    try:
        note = json.loads(_note(path).read_text())
        since = time.strftime("%H:%M:%S", time.localtime(note["since"]))
        return f"process {note['process']} on {note['host']} has been at it since {since}"
    except (OSError, ValueError, KeyError):
        return "another process is at it"
