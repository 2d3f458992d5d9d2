"""Union-find: pairs that belong together become clusters (Tarjan and van Leeuwen 1984, path halving)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

__all__ = ["flatten", "unite"]


@njit(cache=True, nogil=True)
def unite(parent: NDArray[Any], one: NDArray[np.int64], other: NDArray[np.int64]) -> None:
    """Note pairs that belong together in `parent`, by which each thing leads to the smallest of its cluster
    (union-find)."""
    for pair in range(len(one)):
        a, b = one[pair], other[pair]
        while parent[a] != a:
            parent[a] = parent[parent[a]]
            a = parent[a]
        while parent[b] != b:
            parent[b] = parent[parent[b]]
            b = parent[b]
        if a < b:
            parent[b] = a
        else:
            parent[a] = b


@njit(cache=True, nogil=True)
def flatten(parent: NDArray[Any]) -> None:
    """Each thing at once to the smallest of its cluster."""
    for thing in range(len(parent)):
        parent[thing] = parent[parent[thing]]  # its parent comes before it and already points at the smallest
