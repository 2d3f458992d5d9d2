"""A large file, hashed while it is written and flushed to the disk once."""

from __future__ import annotations

import hashlib
import os
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType

__all__ = ["HashedFile"]

BUFFER = 4 << 20
"""Bytes handed over at a time: far more than handing over costs, and what four of take is no memory; guess."""
_BUFFERS = 4
_FLUSHED = 64 << 20  # bytes after which the disk is asked to take them, while more are hashed; guess


class HashedFile:
    """A new file. `buffer` gives memory to fill, `write` takes it; while the system takes it over, another thread
    hashes it. Both let other threads of Python run.

    After the `with` block the file is on the disk and `digest` is its SHA-256, as hexadecimal digits; after an error
    within the block there is nothing to rely on.
    """

    def __init__(self, path: Path) -> None:
        self.digest = ""
        self._hash = hashlib.sha256()
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
        self._hasher = ThreadPoolExecutor(1, thread_name_prefix="hash")
        self._hashed: list[Future[None] | None] = [None] * _BUFFERS
        self._buffers = [memoryview(bytearray(BUFFER)) for _ in range(_BUFFERS)]
        self._turn = 0
        self._flusher = ThreadPoolExecutor(1, thread_name_prefix="flush")
        self._flushed: Future[None] | None = None
        self._waiting = 0  # bytes written since it was asked

    def buffer(self) -> memoryview:
        """`BUFFER` bytes to fill for the next `write`."""
        if (hashed := self._hashed[self._turn]) is not None:
            hashed.result()
        return self._buffers[self._turn]

    def write(self, count: int) -> None:
        """Append the first `count` bytes of the buffer. Raises OSError, as when the disk is full."""
        content = self._buffers[self._turn][:count]
        self._hashed[self._turn] = self._hasher.submit(self._hash.update, content)
        self._turn = (self._turn + 1) % _BUFFERS
        while content:
            content = content[os.write(self._descriptor, content) :]
        self._waiting += count
        if self._waiting >= _FLUSHED and (self._flushed is None or self._flushed.done()):
            if self._flushed is not None:
                self._flushed.result()
            self._flushed, self._waiting = self._flusher.submit(os.fsync, self._descriptor), 0

    def __enter__(self) -> HashedFile:
        return self

    def __exit__(self, kind: type[BaseException] | None, _error: object, _trace: TracebackType | None) -> None:
        try:
            self._flusher.shutdown()
            if kind is None:
                if self._flushed is not None:
                    self._flushed.result()
                os.fsync(self._descriptor)  # the last of it is hashed meanwhile
        finally:
            os.close(self._descriptor)
            self._hasher.shutdown()
        self.digest = self._hash.hexdigest()
