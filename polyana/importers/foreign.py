"""A run of another tracker as its reader gives it, in the shape of our own: attempts of rows (tracking/metrics.py)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["ForeignAttempt", "ForeignRun", "rebinned"]

_BINS = 64


@dataclass
class ForeignAttempt:
    """One process's work. `rows`: scalars and records, as a line of metrics holds them; `last`: of each metric the
    highest step; resumes_at: where its file says so."""

    source: Path
    rows: list[dict[str, Any]] = field(default_factory=list)
    last: dict[str, int] = field(default_factory=dict)
    resumes_at: int | None = None

    def scalars(self, step: int, time: float, values: dict[str, float | None]) -> None:
        """Numbers of a step; what is logged of one step bit by bit becomes one row."""
        for name in values:
            self.last[name] = max(step, self.last.get(name, step))
        last = self.rows[-1] if self.rows else {}
        if last.get("step") == step and last.get("scalars") and not last.keys() & values.keys():
            last.update(values)
        else:
            self.rows.append({"step": step, "time": time, "scalars": True} | values)

    def record(self, step: int, time: float, **content: Any) -> None:
        """A histogram, text, table or image."""
        self.rows.append({"step": step, "time": time} | content)

    def begins_at(self) -> int:
        """The step it goes on from: what its file says, else the one before its first."""
        if self.resumes_at is not None:
            return self.resumes_at
        return max(min((row["step"] for row in self.rows), default=1) - 1, 0)

    def shares_with(self, earlier: ForeignAttempt) -> bool:
        """Whether a metric is in both."""
        return bool(self.last.keys() & earlier.last.keys())


@dataclass
class ForeignRun:
    """identity: what tells it from all others, wherever its files lie; media: files of the run -> their content."""

    kind: str
    identity: str
    project: str
    name: str
    attempts: list[ForeignAttempt]
    config: dict[str, Any] = field(default_factory=dict)
    outcome: str = "finished"
    tags: list[str] = field(default_factory=list)
    notes: str = ""
    group: str = ""
    media: dict[str, bytes] = field(default_factory=dict)
    troubles: list[str] = field(default_factory=list)

    @property
    def started(self) -> float:
        return min((row["time"] for attempt in self.attempts for row in attempt.rows), default=0.0)

    @property
    def ended(self) -> float:
        return max((row["time"] for attempt in self.attempts for row in attempt.rows), default=0.0)

    @property
    def sources(self) -> list[Path]:
        return list(dict.fromkeys(attempt.source for attempt in self.attempts))


def rebinned(edges: Sequence[float], counts: Sequence[float], squares: float | None = None) -> dict[str, Any]:
    """A histogram with any edges [bins + 1] as one of 64 equal bins; within a bin its numbers count as evenly spread.

    squares: the sum of the numbers' squares; default: as if each stood in the middle of its bin. The share of exact
    zeros, which nobody else tells, is 0.
    """
    low, high = float(edges[0]), float(edges[-1])
    if not high > low:  # all numbers are one
        low, high = low - 0.5, high + 0.5
        edges = [low, high]
        counts = [sum(counts)]
    summed = np.concatenate([[0.0], np.cumsum(counts)])
    at = np.interp(np.linspace(low, high, _BINS + 1), np.asarray(edges, dtype=np.float64), summed)
    if squares is None:
        middles = (np.asarray(edges[1:], dtype=np.float64) + np.asarray(edges[:-1], dtype=np.float64)) / 2
        squares = float(np.sum(np.asarray(counts) * middles**2))
    spread = np.diff(np.rint(at)).astype(int).tolist()
    return {"low": low, "high": high, "counts": spread, "zeros": 0.0, "norm": math.sqrt(squares)}
