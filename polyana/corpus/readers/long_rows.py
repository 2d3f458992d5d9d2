"""JSON lines that are too long to be held: laid aside on the disk, and their long strings read piece by piece."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from secrets import token_hex
from tempfile import TemporaryFile
from typing import IO, Any

from polyana.corpus.compressed import CHUNK
from polyana.corpus.decode import find_encoding
from polyana.errors import PolyanaError
from polyana.storage import is_disk_full

__all__ = ["LongLine", "LongText", "lines_and_long_ones"]

_LONG = 1 << 24  # bytes of a line from which on it is laid aside; as text and as JSON it takes six times that: guess
_KEPT = 1 << 20  # bytes of a string in such a line up to which it is held: guess
# What a string may hold (RFC 8259, section 7), and what of an escape a border of two chunks may leave
_BODY = re.compile(rb'(?:[^"\\\x00-\x1f]++|\\["\\/bfnrt]|\\u[0-9a-fA-F]{4})*+')
_BEGUN = re.compile(rb"\\(?:u[0-9a-fA-F]{0,3})?\Z")
# Up to where a piece of a string can be read alone: escapes are whole, and so are pairs of those that are one character
_WHOLE = re.compile(
    r"(?:[^\\]++|\\[^u]|\\u(?![dD][89abAB])[0-9a-fA-F]{4}"
    r"|\\u[dD][89abAB][0-9a-fA-F]{2}(?:\\u[dD][c-fC-F][0-9a-fA-F]{2}|(?=.{6})))*+",
    re.DOTALL,
)


def lines_and_long_ones(chunks: Iterable[bytes]) -> Iterator[bytes | LongLine]:
    """The lines of a file, without their ends; a LongLine is to be read before the next is asked for."""
    waiting, size, aside = list[bytes](), 0, None
    try:
        for chunk in chunks:
            begin, cut = 0, chunk.rfind(b"\n") + 1
            if aside is not None:
                begin = chunk.find(b"\n") + 1
                _lay_aside(aside, [chunk[: begin or len(chunk)]])
                if not begin:
                    continue
                yield LongLine(aside)
                aside.close()
                aside = None
            if begin < cut:
                yield from b"".join([*waiting, chunk[begin : cut - 1]]).split(b"\n")
                waiting, size, begin = [], 0, cut
            waiting.append(chunk[begin:])
            size += len(waiting[-1])
            if size > _LONG:
                aside = TemporaryFile()  # noqa: SIM115  closed below
                _lay_aside(aside, waiting)
                waiting, size = [], 0
        yield LongLine(aside) if aside is not None else b"".join(waiting)
    finally:
        if aside is not None:
            with suppress(OSError):  # where the disk is full, it tries once more to write
                aside.close()


def _lay_aside(file: IO[bytes], parts: Iterable[bytes]) -> None:
    try:
        file.writelines(parts)
        file.flush()
    except OSError as error:
        if not is_disk_full(error):
            raise
        raise PolyanaError(
            f"no room to lay aside a row of more than {_LONG:,} bytes; make some where temporary files go (TMPDIR)"
        ) from error


@dataclass(frozen=True)
class LongText:
    """A long string of a line, still as it is written."""

    file: IO[bytes]
    begin: int
    end: int
    encoding: str

    def pieces(self) -> Iterator[str]:
        """It, cut anywhere."""
        decoder, rest = codecs.getincrementaldecoder(self.encoding)("replace"), ""
        for at in range(self.begin, self.end, CHUNK):
            self.file.seek(at)
            last = at + CHUNK >= self.end
            rest += decoder.decode(self.file.read(min(CHUNK, self.end - at)), final=last)
            whole = _WHOLE.match(rest)
            end = len(rest) if last or whole is None else whole.end()
            yield json.loads(f'"{rest[:end]}"', strict=False)
            rest = rest[end:]


class LongLine:
    """A line that lies in `file`."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        file.seek(0)
        head = file.read(CHUNK)
        self.encoding = find_encoding(head, whole=False).replace("utf-8-sig", "utf-8")
        self.size = file.seek(0, 2)

    def values(self) -> Any:
        """What it says, with a LongText for a long string on its first level. Raises ValueError where it is no JSON."""
        mark = token_hex(16)
        rest, places = self._without_long_strings(mark.encode())
        values = json.loads(rest.decode(self.encoding, "replace").lstrip("\ufeff"))
        if not isinstance(values, dict):
            return values
        long = {f"{mark}{number}": place for number, place in enumerate(places)}
        for name, value in values.items():
            if isinstance(value, str) and value in long:
                values[name] = LongText(self._file, *long[value], self.encoding)
        return values

    def _without_long_strings(self, mark: bytes) -> tuple[bytes, list[tuple[int, int]]]:
        """The line, in which `mark` and a number stand for each long string; where that begins and ends."""
        rest, places = bytearray(), list[tuple[int, int]]()
        string: bytearray | None = None  # the beginning of the one that is being read
        begin = origin = 0  # of the string, and of the bytes that are looked at
        left = b""
        self._file.seek(0)
        while chunk := self._file.read(CHUNK):
            seen, at = left + chunk, 0
            while at < len(seen):
                if string is None:
                    quote = seen.find(b'"', at)
                    rest += seen[at:] if quote < 0 else seen[at:quote]
                    if quote < 0:
                        at = len(seen)
                        break
                    at = quote + 1
                    string, begin = bytearray(), origin + at
                body = _BODY.match(seen, at)
                assert body is not None  # it matches nothing, too
                if len(string) <= _KEPT:
                    string += body[0]
                at = body.end()
                if seen[at : at + 1] == b'"':
                    if len(string) > _KEPT:
                        string = bytearray(mark + b"%d" % len(places))
                        places.append((begin, origin + at))
                    rest += b'"%s"' % string
                    string = None
                    at += 1
                elif at == len(seen) or _BEGUN.match(seen, at):
                    break
                else:
                    raise ValueError("a string holds what none may")
            left = seen[at:]
            origin += at
        if string is not None:
            raise ValueError("a string does not end")
        return bytes(rest), places
