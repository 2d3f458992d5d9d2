"""One spelling of the same text: NFC, line ends, stray control characters, blank space at line ends."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

import numpy as np

__all__ = ["normalise", "normalise_all", "not_text"]

_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ufeff]")
_CONTROLS = re.compile(f"\x1b\\[[0-9;?]*[A-Za-z]|{_CONTROL.pattern}")  # with terminals' colours (ECMA-48) as a whole
_BETWEEN = re.compile(r"(?<=\S)[\x1c-\x1f\x7f](?=\S)")  # DEL was a no-break space: all of 138 in Tolstoy's prose
_PAGE_END = re.compile(r"(?<=[^\n\x0c])[\x0b\x0c]+(?=[^\n\x0c])")
_LINE_END = re.compile(r"\r\n?|\u2028")
_TRAILING = re.compile(r"(?<![ \t\u00a0])[ \t\u00a0]+$", re.MULTILINE)  # looks behind: else quadratic in a long run
_BLANKS = (" ", "\t", "\u00a0")
_BLANK_LINES = re.compile(r"\n{3,}")

_NOISE = 0.01  # share of undecodable or control characters above which something is not text; guess


def normalise(text: str) -> str:
    """`text` in Unicode NFC with \\n line ends; paragraphs (one blank line) and indentation are kept. Of control
    characters those that part words or pages leave a space or a line's end.

    The characters U+0080 to U+009F stay: in mojibake they are letters, and the step `repair` takes the rest out.
    """
    if _plain(text):
        return text.rstrip(" ")
    # a look for what most texts do not have takes a tenth of the time of putting it right
    if "\r" in text or "\u2028" in text:
        text = _LINE_END.sub("\n", text)
    if _CONTROL.search(text):
        text = _CONTROLS.sub("", _PAGE_END.sub("\n", _BETWEEN.sub(" ", text)))
    text = unicodedata.normalize("NFC", text)
    if text.endswith(_BLANKS) or any(f"{blank}\n" in text for blank in _BLANKS):
        text = _TRAILING.sub("", text)
    if "\n\n\n" in text:
        text = _BLANK_LINES.sub("\n\n", text)
    return text.strip("\n")


def normalise_all(texts: list[str]) -> Iterator[tuple[str, int, str | None]]:
    """Of each text what `normalise` makes of it, its bytes of UTF-8 as it came, and what `not_text` says of it.

    One look at the bytes of all finds the few that have anything to put right.
    """
    encoded = [text.encode("utf-8", "replace") for text in texts]
    bytes_B = np.frombuffer(b"\n".join([*encoded, b""]), np.uint8)
    newline = bytes_B[1:] == 10
    blank = (bytes_B[:-1] == 32) | (bytes_B[:-1] == 9) | (bytes_B[:-1] == 0xA0)  # or the end of another character
    strange = (bytes_B < 32) & (bytes_B != 9) & (bytes_B != 10)
    strange |= (bytes_B == 127) | (bytes_B == 0xEF)  # of U+F000 to U+FFFF, where U+FEFF and U+FFFD are
    strange[:-1] |= blank & newline
    strange[:-2] |= (bytes_B[:-2] == 10) & newline[:-1] & newline[1:]
    strange[:-2] |= (bytes_B[:-2] == 0xE2) & (bytes_B[1:-1] == 0x80) & (bytes_B[2:] == 0xA8)  # U+2028
    ends = np.cumsum([len(each) + 1 for each in encoded])
    odd = set(np.searchsorted(ends, np.flatnonzero(strange), "right").tolist())
    for at, text in enumerate(texts):
        size = len(encoded[at])
        if at in odd:
            yield normalise(text), size, not_text(text)
        else:
            yield (text if size == len(text) else unicodedata.normalize("NFC", text)).strip("\n"), size, None


def not_text(text: str) -> str | None:
    """Why `text`, as read, is no text at all; None if it is."""
    if _plain(text):
        return None
    if _CONTROL.search(text) and len(_CONTROL.findall(text)) > _NOISE * len(text):
        return "binary content"
    if text.count("\ufffd") > _NOISE * len(text):
        return "broken encoding"
    return None


def _plain(text: str) -> bool:
    """Whether it is one line of ASCII without control characters; so are most of the texts that are so short that a
    closer look at each would take most of the time."""
    return text.isascii() and text.isprintable()
