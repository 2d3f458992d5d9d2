"""Bytes to text, whatever the encoding. UTF-8 where the bytes are UTF-8; otherwise resiliparse (uchardet) tells.

A file can hold lines of several encodings, where it was put together from others: beside lines that are UTF-8, those
that are not are read each as what it looks like, and counted.
"""

from __future__ import annotations

import codecs
import io
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import chain, compress

from resiliparse.parse.encoding import detect_encoding

from polyana.corpus.compressed import CHUNK, chunks_of

__all__ = ["decode", "decode_line", "decode_stream", "find_encoding", "lines_of", "whole_lines"]

_WORD = re.compile(r"(?<!\w)(?:[А-ЯЁ]?[а-яё]+|[АВИКОСУЯ])(?!\w)")  # Russian as it is written, capitals in front only

_UTF_8_RUN = re.compile(rb"(?:[\xc2-\xdf][\x80-\xbf]|[\xe0-\xef][\x80-\xbf]{2}|[\xf0-\xf4][\x80-\xbf]{3}){4}")
"""Four characters in a row that are no ASCII (guess); CP1251 holds one or two by accident, as in `Я…`."""
_KINDS = bytes(b"Lc."[0 if 0xC2 <= byte <= 0xF4 else 1 if 0x80 <= byte <= 0xBF else 2] for byte in range(256))
_RUN_KINDS = (b"cLcLc", b"cLccLc", b"cLcccLc")  # one of which is in each such run, as _KINDS has its bytes

_LONE = 30  # bytes of a line whose encoding is told from it alone; of 30 to 40 letters of Tolstoy 99.4 % are right
_FOREIGN = 3  # bytes that are no UTF-8 in some lines, from which on they are another encoding's and not damage; guess


def find_encoding(head: bytes, whole: bool) -> str:
    """The encoding of most lines of a text that begins with `head`; `whole` says that nothing comes after it."""
    for mark, name in (
        (codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF32_LE, "utf-32"), (codecs.BOM_UTF32_BE, "utf-32"),
        (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"),
    ):  # fmt: skip
        if head.startswith(mark):
            return name
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head, final=whole)
    except UnicodeDecodeError:
        # Text that is UTF-8 but for a few broken bytes stays UTF-8: a detector would read all of it wrongly.
        if _mostly_utf8(head):
            return "utf-8"
        lines = head.split(b"\n")
        foreign = [line for line in lines if not _is_utf8(line)]
        if sum(map(len, foreign)) < sum(len(line) for line in lines if _UTF_8_RUN.search(line) and _is_utf8(line)):
            return "utf-8"
        return _detected(b"\n".join(foreign))
    return "utf-8"


def _is_utf8(line: bytes) -> bool:
    try:
        line.decode()
    except UnicodeDecodeError:
        return False
    return True


def _detected(head: bytes) -> str:
    """What resiliparse says, but for CP1251 that it takes for Mac Cyrillic: 2 % of sentences of 60 to 300 letters.

    The two share their small letters but for "я"; in the wrong one capitals are signs, and dashes are capitals.
    """
    if detect_encoding(head, html5_compatible=False) not in ("cp1251", "mac-cyrillic"):
        return str(detect_encoding(head))
    return max("cp1251", "mac-cyrillic", key=lambda name: len("".join(_WORD.findall(head.decode(name, "replace")))))


def _mostly_utf8(head: bytes) -> bool:
    """Whether valid multi-byte sequences outnumber the broken bytes by far (ten to one: guess)."""
    valid, broken = _valid_and_broken(head)
    return valid > 10 * broken


def _valid_and_broken(content: bytes) -> tuple[int, int]:
    """How many characters of `content` are UTF-8 of several bytes, and how many bytes or runs are none."""
    text = content.decode("utf-8", "replace")
    broken = text.count("\ufffd")
    return len(text) - broken - len(text.encode("ascii", "ignore")), broken


def decode(content: bytes, encoding: str = "auto", lines: Counter[str] | None = None) -> str:
    """All of `content` as text; what cannot be decoded becomes U+FFFD. In `lines` as `decode_stream`."""
    return "".join(decode_stream(io.BytesIO(content), encoding, lines))


def decode_stream(
    stream: io.BufferedIOBase, encoding: str = "auto", lines: Counter[str] | None = None
) -> Iterator[str]:
    """The text of `stream` by some lines at a time, in the memory that its longest line needs; at a damage the lines
    before it, then the error. `lines` counts those read in another encoding than most, by the name of theirs.
    """
    chunks = chunks_of(stream)
    head = next(chunks)
    name = find_encoding(head, whole=len(head) < CHUNK) if encoding == "auto" else encoding
    chunks = chain([head], chunks)
    if encoding != "auto" or name in ("utf-16", "utf-32"):
        yield from _decoded(chunks, name)
        return
    if name == "utf-8-sig":
        name, chunks = "utf-8", _without(codecs.BOM_UTF8, chunks)
    for block in whole_lines(chunks):
        yield _decode_lines(block, name, Counter() if lines is None else lines)


def _decoded(chunks: Iterable[bytes], name: str) -> Iterator[str]:
    """Text of one encoding, in which a line end need not be one byte."""
    decoder = codecs.getincrementaldecoder(name)("replace")
    waiting: list[str] = []
    for chunk in chunks:
        before, end, after = decoder.decode(chunk).rpartition("\n")
        if end:
            yield "".join([*waiting, before, end])
            waiting = []
        waiting.append(after)
    yield "".join([*waiting, decoder.decode(b"", final=True)])


def _without(mark: bytes, chunks: Iterator[bytes]) -> Iterator[bytes]:
    """`chunks` without what the first begins with."""
    yield next(chunks).removeprefix(mark)
    yield from chunks


def whole_lines(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The same bytes, cut behind line ends only."""
    waiting: list[bytes] = []
    for chunk in chunks:
        cut = chunk.rfind(b"\n") + 1
        if cut:
            block, waiting = b"".join([*waiting, chunk[:cut]]), []
            yield block
            del block  # it can be as long as a line, which is as long as a file
        waiting.append(chunk[cut:])
    block, waiting = b"".join(waiting), []
    yield block


def _decode_lines(block: bytes, name: str, lines: Counter[str]) -> str:
    """Lines of which most are in `name`, UTF-8 or an encoding of single bytes for ASCII."""
    try:
        if name == "utf-8" or block.isascii():
            return block.decode()
    except UnicodeDecodeError:
        pass
    if name != "utf-8" and not _has_utf8_run(block):
        return block.decode(name, "replace")
    texts: list[str] = []
    foreign: dict[int, bytes] = {}
    for number, line in enumerate(block.split(b"\n")):
        try:
            text = line.decode()
        except UnicodeDecodeError:
            foreign[number], text = line, ""
        else:
            if name != "utf-8" and _UTF_8_RUN.search(line):
                lines["utf-8"] += 1
            elif name != "utf-8":
                text = line.decode(name, "replace")
        texts.append(text)
    if name == "utf-8":
        names = _encodings(list(foreign.values()))
        lines.update(other for other in names if other != "utf-8")
    else:
        names = [name] * len(foreign)
    for (number, line), other in zip(foreign.items(), names, strict=True):
        texts[number] = line.decode(other, "replace")
    return "\n".join(texts)


def _has_utf8_run(block: bytes) -> bool:
    """Whether _UTF_8_RUN is in it, 50 times faster where it is not."""
    kinds = block.translate(_KINDS)
    return any(run in kinds for run in _RUN_KINDS) and _UTF_8_RUN.search(block) is not None


def _encodings(lines: list[bytes]) -> list[str]:
    """What lines that are no UTF-8 look like, each by itself where it is long enough; `utf-8` for damaged UTF-8."""
    counts = [_valid_and_broken(line) for line in lines]
    foreign = [valid < broken for valid, broken in counts]
    if sum(broken for (_, broken), other in zip(counts, foreign, strict=True) if other) < _FOREIGN:
        return ["utf-8"] * len(lines)
    common = _detected(b"\n".join(compress(lines, foreign)))
    return [
        (_detected(line) if len(line) >= _LONE else common) if other else "utf-8"
        for line, other in zip(lines, foreign, strict=True)
    ]


def decode_line(line: bytes, lines: Counter[str]) -> str:
    """A line of text that is UTF-8 or else what it looks like by itself, which `lines` counts by name."""
    try:
        return line.decode()
    except UnicodeDecodeError:
        return _decode_lines(line, "utf-8", lines)


def lines_of(pieces: Iterable[str]) -> Iterator[str]:
    """Lines without their ends, from pieces cut anywhere; only \\n and \\r\\n end one."""
    parts: list[str] = []
    for piece in pieces:
        first, *rest = (piece.replace("\r\n", "\n") if "\r" in piece else piece).split("\n")
        parts.append(first)
        if rest:
            yield "".join(parts)
            last = rest.pop()
            yield from rest
            parts = [last]
    yield "".join(parts)
