"""Documents that were found alike two by two, and which of them stay."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from polyana.corpus.steps.step import Records, joined

__all__ = ["Keep", "fewest", "kept_of"]

Keep = Literal["first", "longest"]

_NONE = {name: np.zeros(0, np.int64) for name in ("one", "other", "one_length", "other_length")}


def fewest(found: Sequence[Records]) -> Records:
    """The same clusters by fewer pairs: of the first document of each with every other one.

    Pairs are rows `one` and `other`, and how long these documents are.
    """
    from polyana.corpus import native

    pairs = joined([_NONE, *found])
    members, at = np.unique(np.concatenate([pairs["one"], pairs["other"]]), return_index=True)
    length = np.concatenate([pairs["one_length"], pairs["other_length"]])[at]
    one, other = (np.searchsorted(members, pairs[name]) for name in ("one", "other"))
    first = native.clusters(one, other, len(members))
    rest = np.flatnonzero(first != np.arange(len(members)))
    first = first[rest]
    return {
        "one": members[first], "other": members[rest], "one_length": length[first], "other_length": length[rest],
    }  # fmt: skip


def kept_of(met: Sequence[Records], keep: Keep) -> Records:
    """`dropped` and the row that was `kept` in its place: of each cluster the first document, or the longest."""
    pairs: Records = _NONE
    for part in met:
        pairs = fewest([pairs, part])
    first, at = np.unique(pairs["one"], return_index=True)
    members = np.concatenate([first, pairs["other"]])
    cluster = np.concatenate([first, pairs["one"]])
    length = np.concatenate([pairs["one_length"][at], pairs["other_length"]])
    best = np.lexsort([members, -length, cluster] if keep == "longest" else [members, cluster])
    starts = np.flatnonzero(np.diff(cluster[best], prepend=-1))
    kept = np.repeat(members[best[starts]], np.diff(np.append(starts, len(best))))
    gone = members[best] != kept
    return {"dropped": members[best][gone], "kept": kept[gone]}
