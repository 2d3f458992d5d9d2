"""Opening a file, plain or compressed, so that what stands before a damage can still be read."""

from __future__ import annotations

import gzip
import io
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import zstandard

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

__all__ = ["CHUNK", "PACKED", "chunks_of", "open_file", "packing_of", "unpacked_name"]

CHUNK = 1 << 20  # bytes
PACKED = (".gz", ".zst")  # endings of compressed files
_PACKED = 1 << 14  # bytes of a .zst unpacked at once; it can become thousands of times more: guess


def packing_of(name: str) -> str | None:
    """The ending that says how a file is compressed; None for a plain one."""
    return next((ending for ending in PACKED if name.lower().endswith(ending)), None)


def unpacked_name(name: str) -> str:
    """A file's name without the ending of its compression, in small letters."""
    return name.lower().removesuffix(packing_of(name) or "")


def open_file(path: Path, begin: int = 0, end: int | None = None) -> io.BufferedReader | gzip.GzipFile:
    """The content of a file, of a plain one only the bytes from `begin` to `end` if they are given.

    Reading it raises OSError, EOFError, zlib.error or ZstdError at a damage.
    """
    match packing_of(path.name):
        case ".gz":
            return gzip.open(path, "rb")
        case ".zst":
            return io.BufferedReader(_Zstd(path))
    return path.open("rb") if end is None else io.BufferedReader(_Stretch(path, begin, end))


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


class _Stretch(io.RawIOBase):
    """The bytes of a file from `begin` to `end`."""

    def __init__(self, path: Path, begin: int, end: int) -> None:
        super().__init__()
        self._file = path.open("rb", buffering=0)
        self._file.seek(begin)
        self._left = end - begin

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        count = self._file.readinto(memoryview(buffer).cast("B")[: self._left])
        self._left -= count
        return count

    def close(self) -> None:
        self._file.close()
        super().close()


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
