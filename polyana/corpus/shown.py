"""What a report may show of a text: short windows, and nothing that a secret step looks for."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from polyana.corpus.steps.step import StepConfig

__all__ = ["CHANGED", "MARGIN", "SHOWN", "Shown", "Veil", "around_change"]

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
            shown = veil(shown)
        return shown[start - first : end - first].encode("utf-8", "replace").decode()


def around_change(before: str, after: str, veil: Veil) -> tuple[str, str]:
    """Both texts around what differs; they end at the same place of the text unless that is long."""
    shorter = min(len(before), len(after))
    begin = _alike(before, after, shorter, backwards=False)
    end = _alike(before, after, shorter - begin, backwards=True)
    start = max(0, begin - _CONTEXT)
    ends = [len(text) - max(0, end - _CONTEXT) for text in (before, after)]
    if max(ends) - start > CHANGED:
        ends = [start + CHANGED] * 2
    return veil.window(before, start, ends[0]), veil.window(after, start, ends[1])


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
