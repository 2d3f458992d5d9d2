"""What a report may show of a text: short windows, and nothing that a secret step looks for."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable
from difflib import SequenceMatcher
from itertools import accumulate
from typing import Any

from polyana.corpus.steps.step import BLACK, StepConfig

__all__ = ["CHANGED", "MARGIN", "SHOWN", "Shown", "Veil", "around_change", "tokens"]

SHOWN = 600  # characters of a text; guess
MARGIN = 300  # beside a window: what its border cuts in two is known by the other half; longer than any address
_CONTEXT = 100  # characters of what has not changed; guess
CHANGED = 400  # characters of a text with a change; guess

Shown = Callable[[int], dict[str, Any]]
"""From a row of the corpus to the `id` of its document and the beginning of its `text`."""


class Veil:
    """Blackens what secret steps of a recipe look for, wherever a text is shown, whichever step shows it."""

    def __init__(self, steps: Iterable[StepConfig]) -> None:
        self._veils = [step.veil() for step in steps if step.secret]

    def window(self, text: str, start: int = 0, end: int = SHOWN) -> str:
        """text[start:end], every character that may not be seen as a black box; half of one (JSON has them) as `?`."""
        if not self._veils:
            return text[start:end].encode("utf-8", "replace").decode()
        first = max(0, start - MARGIN)
        shown = text[first : end + MARGIN]
        for veil in self._veils:
            shown = _past_the_unseen(veil, veil(shown))
        return shown[start - first : end - first].encode("utf-8", "replace").decode()


def _past_the_unseen(veil: Callable[[str], str], text: str) -> str:
    """With what is black once zero-width characters and their like are gone, as a later step may have them."""
    places = [place for place, sign in enumerate(text) if unicodedata.category(sign) != "Cf"]
    if len(places) == len(text):
        return text
    signs = list(text)
    for place, sign in zip(places, veil("".join(text[place] for place in places)), strict=True):
        signs[place] = sign
    return "".join(signs)


def around_change(before: str, after: str, veil: Veil, *, secret: bool = False) -> tuple[str | None, str]:
    """Both texts around what differs; they end at the same place of the text unless that is long.

    Of a change by a `secret` step what was there before is not shown.
    """
    shorter = min(len(before), len(after))
    begin = _alike(before, after, shorter, backwards=False)
    end = _alike(before, after, shorter - begin, backwards=True)
    start = max(0, begin - _CONTEXT)
    ends = [len(text) - max(0, end - _CONTEXT) for text in (before, after)]
    if max(ends) - start > CHANGED:
        ends = [start + CHANGED] * 2
    windows = before[start : ends[0]], after[start : ends[1]]
    if secret:
        return None, veil.window(after, start, ends[1])
    seen = veil.window(before, start, ends[0]), veil.window(after, start, ends[1])
    return seen if seen == windows else _black_in_both(windows, seen)


def tokens(text: str) -> list[str]:
    """Words, spaces one by one, and what stands between them."""
    return re.findall(r"\w+|\s|[^\w\s]+", text)


def _black_in_both(windows: tuple[str, str], seen: tuple[str, str]) -> tuple[str, str]:
    """What is black in one of the texts is so in the other: an edit may be what made it be found."""
    parts = [tokens(text) for text in windows]
    ends = [[0, *accumulate(map(len, part))] for part in parts]
    black: tuple[list[str], list[str]] = [], []
    for kind, *places in SequenceMatcher(None, parts[0], parts[1], autojunk=False).get_opcodes():
        one, other = (seen[at][ends[at][places[2 * at]] : ends[at][places[2 * at + 1]]] for at in (0, 1))
        if kind == "equal":
            both = "".join(BLACK if BLACK in signs else signs[0] for signs in zip(one, other, strict=True))
            one = other = both
        elif BLACK in one + other:
            one, other = BLACK * len(one), BLACK * len(other)
        black[0].append(one)
        black[1].append(other)
    return "".join(black[0]), "".join(black[1])


def _alike(one: str, other: str, most: int, *, backwards: bool) -> int:
    """Characters, `most` of them, that both have at the beginning or at the end; by halves: slices compare fast."""
    low, high = 0, most
    while low < high:
        middle = (low + high + 1) // 2
        if backwards:
            same = one[len(one) - middle : len(one) - low] == other[len(other) - middle : len(other) - low]
        else:
            same = one[low:middle] == other[low:middle]
        low, high = (middle, high) if same else (low, middle - 1)
    return low
