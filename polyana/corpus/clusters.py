"""Documents that were taken for copies of each other: how many together, and the largest of such clusters."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from polyana.corpus.decide import Decided
from polyana.corpus.shown import Shown

__all__ = ["Clusters", "clusters_of"]

_LARGEST = 10  # clusters that are told of
_MEMBERS = 5  # ids of each
_BORDERS = (2, 3, *(2**power for power in range(2, 63)))  # of sizes that are counted together


@dataclass(frozen=True)
class Cluster:
    """`kept` and `members`, which were dropped, are rows of the corpus; not all members."""

    kept: int
    size: int
    members: list[int]


@dataclass(frozen=True)
class Clusters:
    """Of the step at `place`. `sizes`: smallest and largest size, how many clusters, how many documents in them."""

    place: int
    sizes: list[tuple[int, int, int, int]]
    largest: list[Cluster]

    @property
    def rows(self) -> set[int]:
        """Whose ids are told."""
        return {row for cluster in self.largest for row in (cluster.kept, *cluster.members)}

    def as_data(self, step: str, shown: Shown) -> dict[str, Any]:
        return {
            "step": step,
            "sizes": [list(each) for each in self.sizes],
            "largest": [
                {
                    "size": cluster.size, "kept": shown(cluster.kept),
                    "members": [shown(row)["id"] for row in cluster.members],
                }
                for cluster in self.largest
            ],
        }  # fmt: skip


def clusters_of(decided: Decided) -> list[Clusters]:
    """What each step that dropped copies in this pass found together."""
    found = []
    for place, twins in decided.twins.items():
        gone, kept = twins["dropped"], twins["kept"]
        if not len(gone):
            continue
        heads, copies = np.unique(kept, return_counts=True)
        sizes = copies + 1
        bands = list[tuple[int, int, int, int]]()
        for low, high in pairwise(_BORDERS):
            inside = sizes[(sizes >= low) & (sizes < high)]
            if len(inside):
                bands.append((low, high - 1, len(inside), int(inside.sum())))
        largest = [
            Cluster(int(heads[at]), int(sizes[at]), np.sort(gone[kept == heads[at]])[:_MEMBERS].tolist())
            for at in np.lexsort([heads, -sizes])[:_LARGEST].tolist()
        ]
        found.append(Clusters(place, bands, largest))
    return found
