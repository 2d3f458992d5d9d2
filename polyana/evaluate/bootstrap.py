"""How far a score would move with other questions: the bootstrap over groups of items that belong together.

Shapes: M sums that are drawn alike, G groups, D draws.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["drawn_ratios", "in_groups", "interval", "p_value"]

_DRAWS = 2000  # of the bootstrap; its standard error is then good to 1.6 % (Efron and Tibshirani 1993, section 6.4)
_SEED = 1790
_AT_ONCE = 1 << 22  # numbers drawn at once, for memory's sake; guess
_Z = 1.959964  # the normal distribution is not further from 0 than with 95 %


def drawn_ratios(above_MG: NDArray[np.float64], below_MG: NDArray[np.number[Any]]) -> NDArray[np.float64]:
    """sum(above) / sum(below) of as many groups as there are, drawn from them with replacement, [M, D].

    Every row sees the same draws, so that two systems that answered the same questions can be compared in pairs.
    """
    groups = above_MG.shape[1]
    generator, found = np.random.default_rng(_SEED), list[NDArray[np.float64]]()
    rows = max(1, min(_DRAWS, _AT_ONCE // groups))
    for first in range(0, _DRAWS, rows):
        drawn = generator.integers(0, groups, (min(rows, _DRAWS - first), groups))
        below = below_MG[:, drawn].sum(2)
        # a draw of groups without anything to count says nothing; there is one only where most have nothing
        found.append(np.divide(above_MG[:, drawn].sum(2), below, out=np.full(below.shape, np.nan), where=below != 0))
    return np.concatenate(found, axis=1)


def in_groups(groups: Sequence[str], values_MN: NDArray[np.float64]) -> NDArray[np.float64]:
    """The sums of N items' values within each group, [M, G], groups in the order they begin."""
    places = dict[str, int]()
    of_item = np.array([places.setdefault(group, len(places)) for group in groups], np.int64)
    found = np.zeros((len(values_MN), len(places)))
    for row, values_N in zip(found, values_MN, strict=True):
        np.add.at(row, of_item, values_N)
    return found


def interval(above_G: NDArray[np.float64], below_G: NDArray[np.float64]) -> tuple[float, float] | None:
    """The ends of the 95 % interval of sum(above) / sum(below), by percentiles of the bootstrap (Efron 1979); None of
    fewer than two groups.

    Where every item is right, or none, each draw says the same, and the bootstrap would be sure. Then it is Wilson's
    (1927) interval for a share of as many items as there are groups.
    """
    groups = len(above_G)
    if groups < 2:
        return None
    share = above_G.sum() / below_G.sum()
    if share in (0.0, 1.0) and bool(np.all((above_G == 0) | (above_G == below_G))):
        least = groups / (groups + _Z**2)
        return (least, 1.0) if share else (0.0, 1 - least)
    low, high = np.nanquantile(drawn_ratios(above_G[None], below_G[None])[0], [0.025, 0.975])
    return float(low), float(high)


def p_value(observed: float, drawn_D: NDArray[np.float64]) -> float:
    """How often chance alone would make a difference as large, from the differences in paired draws (Koehn 2004; the
    draws are centred, as sacrebleu does). 1 for no difference."""
    if not observed:
        return 1.0
    drawn_D = drawn_D[np.isfinite(drawn_D)]
    beyond = int((np.abs(drawn_D - drawn_D.mean()) >= abs(observed)).sum())
    return (beyond + 1) / (len(drawn_D) + 1)
