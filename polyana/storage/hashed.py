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

    def __enter__(self) -> HashedFile:
        return self

    def __exit__(self, kind: type[BaseException] | None, _error: object, _trace: TracebackType | None) -> None:
        try:
            if kind is None:
                os.fsync(self._descriptor)  # the last of it is hashed meanwhile
        finally:
            os.close(self._descriptor)
            self._hasher.shutdown()
        self.digest = self._hash.hexdigest()
