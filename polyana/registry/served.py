"""Who serves a commit: a pin that lasts as long as its process, however that ends.

served/COMMIT.RANDOM        says by whom, and is locked by the process that serves the commit
"""

from __future__ import annotations

import fcntl
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from polyana.storage import is_held

__all__ = ["locked_note", "served_by"]


@contextmanager
def locked_note(directory: Path, commit_id: str, by: str) -> Iterator[None]:
    """Say in `directory` that `by` serves the commit, until the block ends or the process does. Does nothing where this
    user may not write."""
    path = directory / f"{commit_id}.{secrets.token_hex(4)}"
    try:
        directory.mkdir(exist_ok=True)
        descriptor = _locked(path)
    except OSError:
        yield
        return
    try:
        os.write(descriptor, by.encode())
        yield
    finally:
        with suppress(OSError):
            path.unlink()
        os.close(descriptor)


def _locked(path: Path) -> int:
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        if os.fstat(descriptor).st_nlink:  # else whoever collects was quicker, and took it for one left behind
            return descriptor
        os.close(descriptor)


def served_by(directory: Path) -> dict[str, set[str]]:
    """Commit id -> who serves it now. What processes that were killed have left says nothing."""
    found: dict[str, set[str]] = {}
    for path in directory.glob("*"):
        if is_held(path):
            with suppress(OSError):  # its server has ended a moment ago
                found.setdefault(path.name.partition(".")[0], set()).add(path.read_text())
    return found
