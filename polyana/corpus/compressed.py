"""Opening a file, plain, .gz or .zst, so that what stands before a damage can still be read."""

from __future__ import annotations

import gzip
import io
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import zstandard

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

__all__ = ["CHUNK", "chunks_of", "open_file"]

CHUNK = 1 << 20  # bytes
_PACKED = 1 << 14  # bytes of a .zst unpacked at once; it can become thousands of times more: guess


def open_file(path: Path) -> io.BufferedReader | gzip.GzipFile:
    """The content of a file; reading it raises OSError, EOFError, zlib.error or ZstdError at a damage."""
    if path.suffix.lower() == ".gz":
        return gzip.open(path, "rb")
    if path.suffix.lower() == ".zst":
        return io.BufferedReader(_Zstd(path))
    return path.open("rb")


def chunks_of(stream: io.BufferedIOBase) -> Iterator[bytes]:
    """All of `stream`, CHUNK bytes at a time and a shorter rest, which may be empty; before an error what it left."""
    chunk = bytearray()
    try:
        while piece := stream.read1(CHUNK - len(chunk)):
            chunk += piece
            if len(chunk) == CHUNK:
                yield bytes(chunk)
                chunk.clear()
    except Exception:
        yield bytes(chunk)
        raise
    yield bytes(chunk)


class _Zstd(io.RawIOBase):
    """The frames of a .zst file. zstandard's own reader takes a file that is cut short for a whole one."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._file = path.open("rb")
        self._frame = zstandard.ZstdDecompressor().decompressobj()
        self._begun = False
        self._ready = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        while not self._ready:
            packed = self._frame.unused_data or self._file.read(_PACKED)
            if not packed:
                if self._begun and not self._frame.eof:
                    raise EOFError("the file ends in the middle of a frame")
                return 0
            if self._frame.eof:
                self._frame = zstandard.ZstdDecompressor().decompressobj()
            self._begun = True
            self._ready = memoryview(self._frame.decompress(packed))
        target = memoryview(buffer).cast("B")
        count = min(len(target), len(self._ready))
        target[:count], self._ready = self._ready[:count], self._ready[count:]
        return count

    def close(self) -> None:
        self._file.close()
        super().close()
