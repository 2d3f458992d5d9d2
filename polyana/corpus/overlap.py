"""Which texts are copies of held-out ones, or hold a large part of one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from polyana.corpus.steps.grams import runs_of

__all__ = ["Copies"]

_WORDS = 5  # in a row, as near duplicates are compared by (Penedo et al. 2024, section 3.4)
_SHARE = 0.5
"""Of one text's rows of words that stand in the other. What MinHash takes for a copy shares more: texts with 1/3 of all
their rows in common have half of the shorter one's; FineWeb's numbers find those with 3/4."""
_LEAST = (
    4  # rows, 8 words: a shorter text is a copy only of an equal one (Brown et al. 2020, appendix C: mostly chance)
)


class Copies:
    """Looks up whether texts are copies of held-out ones."""

    def __init__(self, held_out: Sequence[str]) -> None:
        rows = [_rows(text) for text in held_out]
        self._sizes = np.array([len(each) for each in rows], np.int64)
        keys = np.concatenate([np.zeros(0, np.uint64), *rows])
        order = np.argsort(keys, kind="stable")
        self._keys, self._texts = keys[order], np.repeat(np.arange(len(rows)), self._sizes)[order]

    def holds(self, text: str) -> bool:
        """Whether half of a held-out text stands in this one, or half of this one in a held-out text."""
        rows = _rows(text)
        starts, ends = (np.searchsorted(self._keys, rows, side) for side in ("left", "right"))
        counts = ends - starts
        if not counts.any():
            return False
        behind = np.cumsum(counts)
        places = np.arange(behind[-1]) + np.repeat(starts - behind + counts, counts)
        shared = np.bincount(self._texts[places], minlength=len(self._sizes))
        sizes = np.maximum(self._sizes, 1)
        whole = (shared >= _SHARE * sizes) & (sizes >= _LEAST)
        part = (shared >= _SHARE * len(rows)) & (len(rows) >= _LEAST)
        equal = (shared == sizes) & (shared == len(rows))
        return bool((whole | part | equal).any())


def _rows(text: str) -> NDArray[np.uint64]:
    """The different rows of words of a text; all its words as one where it has fewer."""
    return np.unique(runs_of(text, _WORDS))
