"""Opening a file, plain or compressed, here or elsewhere, so that what stands before a damage can still be read."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
from collections.abc import Iterator
from typing import TYPE_CHECKING

import zstandard

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

    from polyana.corpus.remote import File

__all__ = ["CHUNK", "PACKED", "Refused", "check_ratio", "chunks_of", "open_file", "packing_of", "unpacked_name"]

CHUNK = 1 << 20  # bytes
PACKED = (".gz", ".zst", ".bz2", ".xz")  # endings of compressed files

_RATIO = 100
"""How many times its size a file may hold, as Apache POI's ZipSecureFile allows by default. Measured on pages of HTML:
8 by gzip, 11 by the others; the most that gzip can is 1,032."""
_FREE = 1 << 26  # bytes unpacked that harm nobody, whatever they were packed in: guess
_ZSTD = (
    512  # bytes of a .zst unpacked at once: as fast as 16 KiB (1.0 GB/s), and of zeros they become 17 MB and not 500
)


class Refused(OSError):
    """A file that is not read for what it would do to the machine; its text is the reason."""


def check_ratio(unpacked: int, packed: int) -> None:
    """Raises Refused when `packed` bytes became so many that it looks like a bomb."""
    if unpacked > max(_FREE, _RATIO * packed):
        raise Refused(f"unpacks to more than {_RATIO} times its size")


def packing_of(name: str) -> str | None:
    """The ending that says how a file is compressed; None for a plain one."""
    return next((ending for ending in PACKED if name.lower().endswith(ending)), None)


def unpacked_name(name: str) -> str:
    """A file's name without the ending of its compression, in small letters."""
    return name.lower().removesuffix(packing_of(name) or "")


def open_file(file: File, begin: int = 0, end: int | None = None) -> io.BufferedReader:
    """The content of a file, of a plain one only the bytes from `begin` to `end` if they are given.

    Reading it raises OSError, EOFError, zlib.error, lzma.LZMAError or ZstdError at a damage.
    """
    packed = file.open("rb")
    match packing_of(file.name):
        case ".gz":
            return _unpacked(packed, gzip.GzipFile(fileobj=packed))
        case ".bz2":
            return _unpacked(packed, bz2.BZ2File(packed))
        case ".xz":
            return _unpacked(packed, lzma.LZMAFile(packed))
        case ".zst":
            return _unpacked(packed, io.BufferedReader(_Zstd(packed), CHUNK))
    if end is not None:
        return io.BufferedReader(_Stretch(packed, begin, end), CHUNK)
    return packed


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


def _unpacked(packed: io.BufferedReader, stream: io.BufferedIOBase) -> io.BufferedReader:
    return io.BufferedReader(_Guarded(packed, stream), CHUNK)


class _Guarded(io.RawIOBase):
    """What `stream` makes of the file `packed`, up to where it becomes too much."""

    def __init__(self, packed: io.BufferedReader, stream: io.BufferedIOBase) -> None:
        super().__init__()
        self._packed, self._stream, self._size = packed, stream, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        count = self._stream.readinto1(buffer)
        self._size += count
        check_ratio(self._size, self._packed.tell())
        return count

    def close(self) -> None:
        self._stream.close()
        self._packed.close()
        super().close()


class _Stretch(io.RawIOBase):
    """The bytes of a file from `begin` to `end`."""

    def __init__(self, file: io.BufferedReader, begin: int, end: int) -> None:
        super().__init__()
        file.seek(begin)
        self._file, self._left = file, end - begin

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

    def __init__(self, file: io.BufferedReader) -> None:
        super().__init__()
        self._file = file
        self._frame = zstandard.ZstdDecompressor().decompressobj()
        self._begun = False
        self._ready = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        while not self._ready:
            packed = self._frame.unused_data or self._file.read(_ZSTD)
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
