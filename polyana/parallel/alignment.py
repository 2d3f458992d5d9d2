"""Where two files that should be aligned line by line part."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

__all__ = ["slip"]

_VARIANCE = 6.8  # of the length difference per character: Gale and Church, Computational Linguistics 19(1), 1993, s^2
_WORST = 10.0  # cost of one pair at most, so that a few odd lines do not decide; guess


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

    def cost(length: int, other: int) -> float:
        difference = other - ratio * length
        return min(difference**2 / (_VARIANCE * ratio * (length + 1)), _WORST)

    straight = [cost(a, b) for a, b in zip(short, long, strict=False)]
    shifted = [cost(a, b) for a, b in zip(short, long[shift:], strict=True)]
    total = sum(shifted)
    totals = [total, *(total + gain for gain in accumulate(a - b for a, b in zip(straight, shifted, strict=True)))]
    return max(range(len(totals)), key=lambda line: (-totals[line], line))
