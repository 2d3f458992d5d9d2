"""One save, and what makes one better than another."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from polyana.storage import read_json

__all__ = ["Commit", "Ranking", "by_number", "commit_of"]


@dataclass(frozen=True)
class Commit:
    """One save: `id` is 40 hexadecimal digits that follow from parent, step, tokens, recipe and files.

    recipe, environment: hashes of the resolved recipe and of environment.json in the run's directory.
    """

    id: str
    parent: str | None
    step: int
    tokens: int
    epoch: float
    message: str
    metrics: dict[str, float]
    recipe: str
    files: dict[str, str]  # name -> checksum
    time: float
    environment: str = ""  # commits of earlier versions do not say

    @classmethod
    def read(cls, path: Path) -> Commit:
        """From a commit.json; what a later version says besides is left out. Raises Damaged, and TypeError where
        something is missing."""
        return commit_of(read_json(path))


def by_number(name: str) -> list[str | int]:
    """To sort names by: `step-90` and `layers.9` before `step-100` and `layers.10`."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", name)]


_FIELDS = {field.name for field in fields(Commit)}


def commit_of(written: Mapping[str, Any]) -> Commit:
    """What commit.json says, whichever version wrote it. Raises TypeError when that is no commit."""
    return Commit(**{key: value for key, value in written.items() if key in _FIELDS})


@dataclass(frozen=True)
class Ranking:
    """What makes a commit better than another: a metric, and which way; or that somebody has picked `commit` itself."""

    metric: str = "eval/loss"
    lowest: bool = True
    commit: str | None = None

    @classmethod
    def of(cls, metric: str) -> Ranking:
        """By a metric of which less is better, or more where it is written `-metric`."""
        return cls(metric.removeprefix("-"), not metric.startswith("-"))

    @classmethod
    def read(cls, written: Any) -> Ranking | None:
        """What ranking.json says; None where that is nothing of the kind, for others may have written it."""
        with suppress(TypeError):
            found = cls(**written)
            if isinstance(found.metric, str) and isinstance(found.lowest, bool):
                return found
        return None

    @property
    def way(self) -> str:
        """Of the best one's value among all."""
        return "lowest" if self.lowest else "highest"

    def sort(self, commits: list[Commit]) -> list[Commit]:
        """The commits that can be ranked, the best first; of equal ones the earlier first."""
        sign = 1 if self.lowest else -1
        measured = [
            each for each in commits if self.metric in each.metrics and math.isfinite(each.metrics[self.metric])
        ]
        ranked = sorted(measured, key=lambda each: (sign * each.metrics[self.metric], each.step))
        return [each for each in commits if each.id == self.commit] + [
            each for each in ranked if each.id != self.commit
        ]
