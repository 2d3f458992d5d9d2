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
    from polyana.corpus import union_find

    pairs = joined([_NONE, *found])
    members, at = np.unique(np.concatenate([pairs["one"], pairs["other"]]), return_index=True)
    length = np.concatenate([pairs["one_length"], pairs["other_length"]])[at]
    one, other = (np.searchsorted(members, pairs[name]) for name in ("one", "other"))
    first = np.arange(len(members))
    union_find.unite(first, one, other)
    union_find.flatten(first)
    rest = np.flatnonzero(first != np.arange(len(members)))
    first = first[rest]
    return {
        "one": members[first], "other": members[rest], "one_length": length[first], "other_length": length[rest],
    }  # fmt: skip


def kept_of(met: Sequence[Records], rows: int, keep: Keep) -> Records:
    """`dropped` and the row that was `kept` in its place: of each cluster the first document, or the longest.

    It holds one number for each of `rows` documents, however many pairs were met.
    """
    from polyana.corpus import union_find

    first = np.arange(rows, dtype=np.int32 if rows < 2**31 else np.int64)
    length = np.zeros(rows if keep == "longest" else 0, np.int64)
    for part in met:
        one, other = np.asarray(part["one"], np.int64), np.asarray(part["other"], np.int64)
        union_find.unite(first, one, other)
        if keep == "longest":
            length[one], length[other] = part["one_length"], part["other_length"]
    union_find.flatten(first)
    gone = np.flatnonzero(first != np.arange(rows, dtype=first.dtype))
    kept = first[gone].astype(np.int64)
    if keep == "first":
        return {"dropped": gone, "kept": kept}
    heads = np.unique(kept)
    members, cluster = np.concatenate([heads, gone]), np.concatenate([heads, kept])
    best = np.lexsort([members, -length[members], cluster])
    starts = np.flatnonzero(np.diff(cluster[best], prepend=-1))
    kept = np.repeat(members[best[starts]], np.diff(np.append(starts, len(best))))
    lost = members[best] != kept
    return {"dropped": members[best][lost], "kept": kept[lost]}
