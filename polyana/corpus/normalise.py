"""One spelling of the same text: NFC, line ends, stray control characters, blank space at line ends."""

from __future__ import annotations

import re
import unicodedata

__all__ = ["normalise", "not_text"]

_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ufeff]")
_LINE_END = re.compile(r"\r\n?|\u2028|\u0085")
_TRAILING = re.compile(r"(?<![ \t\u00a0])[ \t\u00a0]+$", re.MULTILINE)  # looks behind: else quadratic in a long run
_BLANK_LINES = re.compile(r"\n{3,}")

_NOISE = 0.01  # share of undecodable or control characters above which something is not text; guess


def normalise(text: str) -> str:
    """`text` in Unicode NFC with \\n line ends; paragraphs (one blank line) and indentation are kept."""
    text = _LINE_END.sub("\n", text)
    text = unicodedata.normalize("NFC", _CONTROL.sub("", text))
    text = _TRAILING.sub("", text)
    return _BLANK_LINES.sub("\n\n", text).strip("\n")


def not_text(text: str) -> str | None:
    """Why `text`, as read, is no text at all; None if it is."""
    if len(_CONTROL.findall(text)) > _NOISE * len(text):
        return "binary content"
    if text.count("\ufffd") > _NOISE * len(text):
        return "broken encoding"
    return None
