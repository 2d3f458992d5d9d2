"""Room on the disk: asked for before something large is written, waited for when there is none."""

from __future__ import annotations

import errno
import os
import re
import shutil
import stat
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

__all__ = ["delete", "disk_used", "free_bytes", "retry_when_full", "show_bytes", "wait_for_room"]

T = TypeVar("T")

_MARGIN = 64 * 10**6  # bytes left free for logs, metrics and other people's programs; guess
_PAUSE = 5.0  # seconds between two looks at a full disk; guess
_lock = threading.Lock()
_waiting: list[Callable[[], bool]] = []  # what is tried again and again for want of room, in any thread


def show_bytes(count: float) -> str:
    """`count` bytes with a decimal unit, as disks are sold: 1 MB = 10^6 bytes."""
    for unit in ("B", "kB", "MB", "GB"):
        if abs(count) < 1000:
            return f"{count:.0f} {unit}" if unit == "B" or count >= 100 else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.2f} TB"


def disk_used(*directories: Path) -> int:
    """Bytes that the files below `directories` occupy; a file with several names (hard links) counts once."""
    seen: dict[tuple[int, int], int] = {}
    for directory in directories:
        for path in directory.rglob("*"):
            if path.is_file() and not path.is_symlink():
                status = path.stat()
                seen[status.st_dev, status.st_ino] = status.st_size
    return sum(seen.values())


def free_bytes(place: Path) -> int:
    """Bytes free on the disk where `place` is or will be."""
    there = next(path for path in (place, *place.parents) if path.is_dir())
    return shutil.disk_usage(there).free


def delete(path: Path) -> int:
    """Delete a file, or a directory with all in it; the bytes that are free now, which those of a file with another
    name elsewhere are not."""
    if path.is_dir() and not path.is_symlink():
        freed = sum(delete(inside) for inside in path.iterdir())
        path.rmdir()
        return freed
    status = path.lstat()
    path.unlink()
    return status.st_size if status.st_nlink == 1 and not stat.S_ISLNK(status.st_mode) else 0


def wait_for_room(
    directory: Path, needed: int, say: Callable[[str], None], make_room: Callable[[], object] = lambda: None
) -> None:
    """Return when `needed` bytes and a margin are free on the disk of `directory`; say why while they are not.

    `make_room` is asked first to free what it can.
    """

    def has_room() -> bool:
        return free_bytes(directory) >= needed + _margin(directory)

    def has_room_now() -> bool:
        if not has_room():
            make_room()
        return has_room()

    _wait(
        has_room_now, say,
        lambda: f"paused: the disk of {directory} is full: {show_bytes(needed)} are needed to save and "
        f"{show_bytes(free_bytes(directory))} are free. Nothing is lost; free some room and this goes on by itself",
    )  # fmt: skip


def retry_when_full(
    write: Callable[[], T], directory: Path, say: Callable[[str], None], make_room: Callable[[], object] = lambda: None
) -> T:
    """The result of `write`, tried again after a pause each time the disk turns out to be full.

    `write` must leave nothing behind when it fails; then `make_room` is asked to free what it can.
    """
    results: list[T] = []

    def is_written() -> bool:
        try:
            results.append(write())
        except Exception as error:
            if not is_disk_full(error):
                raise
            make_room()
        return bool(results)

    _wait(
        is_written, say,
        lambda: f"paused: the disk of {directory} is full. Nothing already saved is lost; "
        "free some room and this goes on by itself",
    )  # fmt: skip
    return results[0]


def _wait(is_done: Callable[[], bool], say: Callable[[str], None], why: Callable[[], str]) -> None:
    """Return when it is done; say why not yet, unless another thread has said so and waits still."""
    if is_done():
        return
    with _lock:
        _waiting.append(is_done)
        is_first = len(_waiting) == 1
    try:
        if is_first:
            say(why())
        time.sleep(_PAUSE)
        while not is_done():
            time.sleep(_PAUSE)
    finally:
        with _lock:
            _waiting.remove(is_done)
            is_last = not _waiting
    if is_last:
        say("there is room again: going on")


def is_disk_full(error: BaseException) -> bool:
    """Whether `error` means that the disk, or the user's share of it, is used up.

    safetensors keeps only the words of the system's error; torch raises one of its own while handling it; numpy says
    how many values were written.
    """
    numbers = (errno.ENOSPC, errno.EDQUOT)
    if isinstance(error, OSError) and error.errno in numbers:
        return True
    if any(os.strerror(number) in str(error) for number in numbers):
        return True
    if isinstance(error, OSError) and re.fullmatch(r"\d+ requested and \d+ written", str(error)):
        return True
    return error.__context__ is not None and is_disk_full(error.__context__)


def _margin(directory: Path) -> int:
    """The margin, or a twentieth of a disk that is smaller than a margin would make sense on."""
    return min(_MARGIN, shutil.disk_usage(directory).total // 20)
