"""A large file, hashed while the disk takes it."""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType

from polyana.storage.checksum import Checksum

__all__ = ["HashedFile"]

BUFFER = 1 << 20
"""Bytes handed over at a time: of 256 kB, 1, 4 and 16 MB the fastest, into memory and onto a disk (docs/log.md)."""
_BUFFERS = 8
_BLOCK = 4096  # bytes; direct writing wants whole blocks of a disk, which are not larger
_DIRECT = getattr(os, "O_DIRECT", 0)


class HashedFile:
    """A new file. `buffer` gives memory to fill, `write` takes it: hashes it while another thread writes it. Both let
    other threads of Python run.

    It is written past the system's cache where the disk allows that. Through the cache, each byte would be copied once
    more, the disk would begin later, and what training reads would have to make room.

    After the `with` block the file is on the disk and `checksum` is that of its content; after an error within it there
    is nothing to rely on.
    """

    def __init__(self, path: Path) -> None:
        self.checksum = ""
        self._hash = Checksum()
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        try:
            self._descriptor, self._direct = os.open(path, flags | _DIRECT, 0o666), bool(_DIRECT)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            self._descriptor, self._direct = os.open(path, flags, 0o666), False
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="write")
        self._written: list[Future[None] | None] = [None] * _BUFFERS
        self._buffers = [memoryview(mmap.mmap(-1, BUFFER)) for _ in range(_BUFFERS)]  # they begin where a page does
        self._turn = 0

    def buffer(self) -> memoryview:
        """`BUFFER` bytes to fill for the next `write`. Raises OSError for what an earlier one met, as a full disk."""
        if (written := self._written[self._turn]) is not None:
            written.result()
        return self._buffers[self._turn]

    def write(self, count: int) -> None:
        """Append the first `count` bytes of the buffer."""
        content = self._buffers[self._turn][:count]
        self._written[self._turn] = self._writer.submit(self._append, content)
        self._turn = (self._turn + 1) % _BUFFERS
        self._hash.update(content)

    def _append(self, content: memoryview) -> None:
        if len(content) % _BLOCK:  # the end
            self._write_through_cache()
        while content:
            try:
                content = content[os.write(self._descriptor, content) :]
            except OSError as error:
                if error.errno != errno.EINVAL or not self._direct:
                    raise
                self._write_through_cache()  # there are disks that say so only now

    def _write_through_cache(self) -> None:
        if self._direct:
            fcntl.fcntl(self._descriptor, fcntl.F_SETFL, fcntl.fcntl(self._descriptor, fcntl.F_GETFL) & ~_DIRECT)
            self._direct = False

    def __enter__(self) -> HashedFile:
        return self

    def __exit__(self, kind: type[BaseException] | None, _error: object, _trace: TracebackType | None) -> None:
        try:
            self._writer.shutdown(cancel_futures=kind is not None)
            if kind is None:
                for written in self._written:
                    if written is not None:
                        written.result()
                os.fsync(self._descriptor)
        finally:
            os.close(self._descriptor)
        self.checksum = str(self._hash)
