"""Bytes to text, whatever the encoding. UTF-8 where the bytes are UTF-8; otherwise resiliparse (uchardet) tells."""

from __future__ import annotations

import codecs
import io
import re
from collections.abc import Iterator
from itertools import chain

from resiliparse.parse.encoding import detect_encoding

from polyana.corpus.compressed import CHUNK, chunks_of

__all__ = ["decode", "decode_stream", "find_encoding", "lines_of"]

_WORD = re.compile(r"(?<!\w)(?:[А-ЯЁ]?[а-яё]+|[АВИКОСУЯ])(?!\w)")  # Russian as it is written, capitals in front only


def find_encoding(head: bytes, whole: bool) -> str:
    """The encoding of text that begins with `head`; `whole` says that nothing comes after it."""
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
        return _detected(head)
    return "utf-8"


def _detected(head: bytes) -> str:
    """What resiliparse says, but for CP1251 that it takes for Mac Cyrillic: 2 % of sentences of 60 to 300 letters.

    The two share their small letters but for "я"; in the wrong one capitals are signs, and dashes are capitals.
    """
    if detect_encoding(head, html5_compatible=False) not in ("cp1251", "mac-cyrillic"):
        return str(detect_encoding(head))
    return max("cp1251", "mac-cyrillic", key=lambda name: len("".join(_WORD.findall(head.decode(name, "replace")))))


def _mostly_utf8(head: bytes) -> bool:
    """Whether valid multi-byte sequences outnumber the broken bytes by far (ten to one: guess)."""
    text = head.decode("utf-8", "replace")
    broken = text.count("\ufffd")
    valid = sum(1 for character in text if character > "\x7f") - broken
    return valid > 10 * broken


def decode(content: bytes, encoding: str = "auto") -> str:
    """All of `content` as text; what cannot be decoded becomes U+FFFD."""
    name = find_encoding(content, whole=True) if encoding == "auto" else encoding
    return content.decode(name, "replace")


def decode_stream(stream: io.BufferedIOBase, encoding: str = "auto") -> Iterator[str]:
    """The text of `stream` piece by piece, in bounded memory; at a damage what came before it, then the error."""
    chunks = chunks_of(stream)
    head = next(chunks)
    name = find_encoding(head, whole=len(head) < CHUNK) if encoding == "auto" else encoding
    decoder = codecs.getincrementaldecoder(name)("replace")
    for chunk in chain([head], chunks):
        yield decoder.decode(chunk)
    yield decoder.decode(b"", final=True)


def lines_of(pieces: Iterator[str]) -> Iterator[str]:
    """Lines without their ends, from pieces cut anywhere; only \\n and \\r\\n end one."""
    parts: list[str] = []
    for piece in pieces:
        first, *rest = piece.replace("\r\n", "\n").split("\n")
        parts.append(first)
        for line in rest:
            yield "".join(parts)
            parts = [line]
    yield "".join(parts)
