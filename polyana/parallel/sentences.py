"""Text cut into sentences, and paragraphs of two languages cut where both have as many."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from polyana.errors import UserError
from polyana.parallel.segment import Segment

__all__ = ["as_sentences", "base_language", "separator", "split_sentences"]

_UNSPACED = {"zh", "ja", "th", "km", "lo", "my", "bo", "yue"}
_FULL_STOPS = "。！？"


def base_language(code: str) -> str:
    """`pt_BR` -> `pt`."""
    return code.lower().replace("_", "-").split("-")[0]


def separator(code: str) -> str:
    """What stands between two sentences of a language: a space, or nothing."""
    return "" if base_language(code) in _UNSPACED else " "


def split_sentences(text: str, code: str) -> list[str]:
    """The sentences of a text in single blanks; put together with `separator` they are the text again.

    sentencex's borders, but for those within a word (`NORM.S.DIST`), and those in front of a small letter or a digit
    (`т.е. так`, `рис. 5`).
    """
    try:
        from sentencex import segment
    except ImportError:
        raise UserError(
            "cutting paragraphs into sentences needs sentencex; run: pip install 'polyana[translate]'"
        ) from None
    pieces: list[str] = []
    for piece in segment(base_language(code), text):
        first = next((letter for letter in piece if letter.isalnum()), None)
        between = bool(pieces) and (pieces[-1][-1].isspace() or pieces[-1].rstrip()[-1:] in _FULL_STOPS)
        if pieces and (not between or first is None or first.islower() or first.isdigit()):
            pieces[-1] += piece
        elif piece:
            pieces.append(piece)
    return [piece.strip() for piece in pieces if piece.strip()]


def as_sentences(segments: Iterable[Segment], source: str, target: str) -> Iterator[Segment]:
    """Each segment as the pairs of its sentences where both sides have as many, else as it is.

    Numbers run anew within a document. Segments that stand in no known paragraph are sentences already.
    """
    document, number = None, 0
    for segment in segments:
        if segment.document != document:
            document, number = segment.document, 0
        pairs = [(segment.source, segment.target)]
        if segment.paragraph is not None:
            one, other = split_sentences(segment.source, source), split_sentences(segment.target, target)
            pairs = list(zip(one, other, strict=True)) if len(one) == len(other) else pairs
        for left, right in pairs:
            yield replace(segment, number=number, source=left, target=right)
            number += 1
