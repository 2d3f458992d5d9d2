"""Where two files that should be aligned line by line part, told by the lengths of their lines."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from itertools import accumulate

__all__ = ["ShiftWatch", "slip"]

_VARIANCE = 6.8  # of the length difference per character: Gale and Church, Computational Linguistics 19(1), 1993, s^2
_WORST = 10.0  # cost of one pair at most, so that a few odd lines do not decide; guess

_BLOCK = 100  # lines judged together
_FURTHEST = 3  # lines that a shift is looked for
# Measured on 36,000 pairs of help (docs/log.md): a shift of an aligned block costs at least 2.8 times as much as none;
# in a block that is shifted by a line the right shift costs at most 0.32 times as much, and 22 less.
_LESS = 0.5
_GAIN = 20.0


def _cost(length: int, other: int, ratio: float) -> float:
    """Gale and Church's for a pair, without its constant; `ratio`: how long texts are in the other language."""
    return min((other - ratio * length) ** 2 / (_VARIANCE * ratio * (length + 1)), _WORST)


class ShiftWatch:
    """Sees each pair of lines in turn and says where a stretch of one file is shifted against the other.

    That happens where a line is missing, and further on one is missing in the other file too or one too many, so that
    both end together.
    """

    def __init__(self) -> None:
        self._pairs: deque[tuple[int, int]] = deque(maxlen=_BLOCK + 2 * _FURTHEST)
        self._totals = [0, 0]
        self._seen = 0

    def see(self, length: int, other: int) -> int | None:
        """How far the other file is behind in the last hundred lines, judged once in a hundred; None if it is not."""
        self._pairs.append((length, other))
        self._totals[0] += length
        self._totals[1] += other
        self._seen += 1
        if self._seen % _BLOCK or len(self._pairs) < _BLOCK + 2 * _FURTHEST:
            return None
        ratio = (self._totals[1] + 1) / (self._totals[0] + 1)
        lengths, others = zip(*self._pairs, strict=True)
        costs = {
            shift: sum(
                _cost(lengths[at], others[at + shift], ratio) for at in range(_FURTHEST, len(lengths) - _FURTHEST)
            )
            for shift in range(-_FURTHEST, _FURTHEST + 1)
        }
        best = min(costs, key=lambda shift: (costs[shift], abs(shift)))
        return best if costs[best] < _LESS * costs[0] and costs[0] - costs[best] > _GAIN else None


def slip(lengths: Sequence[int], others: Sequence[int]) -> int:
    """The number (from 0) of the line from which on the longer file is shifted: there it has the lines too many.

    Minimises Gale and Church's cost of the lengths paired straight up to there and shifted from there on. The length of
    the shorter file means that it only ends too early.
    """
    short, long = sorted((lengths, others), key=len)
    shift = len(long) - len(short)
    if not short:
        return 0
    ratio = (sum(long) / len(long) + 1) / (sum(short) / len(short) + 1)

    straight = [_cost(a, b, ratio) for a, b in zip(short, long, strict=False)]
    shifted = [_cost(a, b, ratio) for a, b in zip(short, long[shift:], strict=True)]
    total = sum(shifted)
    totals = [total, *(total + gain for gain in accumulate(a - b for a, b in zip(straight, shifted, strict=True)))]
    return max(range(len(totals)), key=lambda line: (-totals[line], line))
