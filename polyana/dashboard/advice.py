"""Advice on the runs of a home, from the index: on the curve without ghosts. It is kept until the run moves."""

from __future__ import annotations

import threading
import time
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from polyana.tracking import Curves, Index
from polyana.tracking.advice import advise
from polyana.tracking.seen import CURVES, Seen, Spread

__all__ = ["Adviser"]

_REST = 20.0  # times as long as looking took, nothing new is looked for: at most a twentieth of one processor
_LEAST_REST = 5.0  # seconds; guess
_NEWEST = 200  # histograms of a group that are looked at; guess


@dataclass(frozen=True)
class _Found:
    """Advice as JSON. stamp: what the run had come to; until: a moment before which it is not looked at again."""

    stamp: tuple[Any, ...]
    until: float
    advice: list[dict[str, Any]]


class Adviser:
    """Remembers what was said of each run."""

    def __init__(self, index: Index) -> None:
        self._index = index
        self._found: dict[str, _Found] = {}
        self._one_at_a_time = threading.Lock()

    def of(self, run: str, summary: dict[str, Any]) -> list[dict[str, Any]]:
        """Advice on a run whose files the index has read. A million points take 0.2 s; they are looked at again when
        the run has moved on, and not at once while it is being trained."""
        with self._one_at_a_time:
            stamp, known, began = _stamp(summary), self._found.get(run), time.monotonic()
            if known is not None:
                rests = stamp[0] == known.stamp[0] == "training" and began < known.until
                if rests or stamp == known.stamp:
                    return known.advice
            advice = [asdict(each) for each in advise(self._see(run, summary))]
            now = time.monotonic()
            self._found[run] = _Found(stamp, now + max(_LEAST_REST, _REST * (now - began)), advice)
            return advice

    def is_due(self, run: str, summary: dict[str, Any]) -> bool:
        """Whether looking again might find something else."""
        known = self._found.get(run)
        return known is None or (known.stamp != _stamp(summary) and time.monotonic() >= known.until)

    def mark(self, run: str) -> dict[str, str] | None:
        """{"kind", "severity"} of the worst that was found; None: nothing was, or nobody has looked."""
        known = self._found.get(run)
        if known is None or not known.advice:
            return None
        return {name: known.advice[0][name] for name in ("kind", "severity")}

    def forget(self, run: str) -> None:
        self._found.pop(run, None)

    def _see(self, run: str, summary: dict[str, Any]) -> Seen:
        with self._index.snapshot():
            read = Curves(self._index, run)
            curves = {metric: read.points(metric) for metric in CURVES}
            names = [name for name in self._index.names(run, "histograms") if name.startswith("gradients/")]
            gradients = {name.removeprefix("gradients/"): self._spread(run, name) for name in names}
        clip = summary["config"].get("train.clip")
        return Seen(
            {metric: (steps.astype(np.float64), values) for metric, (steps, values) in curves.items()},
            gradients,
            float(clip) if isinstance(clip, int | float) else None,
            summary["steps"] if isinstance(summary["steps"], int) else None,
        )

    def _spread(self, run: str, name: str) -> Spread:
        rows = {row["step"]: row for row in self._index.records(run, "histograms", name)}
        steps = [step for step in sorted(rows) if _is_whole(rows[step])][-_NEWEST:]
        return Spread(steps, [rows[step]["zeros"] for step in steps], [rows[step]["norm"] for step in steps])


def _is_whole(row: dict[str, Any]) -> bool:
    return all(isinstance(row.get(key), int | float) for key in ("zeros", "norm"))


def _stamp(summary: dict[str, Any]) -> tuple[Any, ...]:
    return summary["status"], summary["attempts"], summary["updated"]
