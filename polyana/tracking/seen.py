"""What is looked at for advice, and what advice is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from polyana.tracking.rows import Floats

__all__ = ["CURVES", "ENOUGH", "Advice", "Seen", "Severity", "Spread"]

Severity = Literal["info", "warning"]
Curve = tuple[Floats, Floats]

LOSS, EVAL, NORM, RATE, EPOCH, WAIT = (
    "train/loss", "eval/loss", "train/grad_norm", "train/lr", "train/epoch", "train/data_wait",
)  # fmt: skip
GOLD, PROXY, HACKED = "gold/reward", "gold/proxy", "alarm/reward_hacking"
CURVES = (LOSS, EVAL, NORM, RATE, EPOCH, WAIT, GOLD, PROXY, HACKED)
"""The metrics that are looked at."""

ENOUGH = 40
"""Steps, before anything is said of what is measured at each; guess."""


@dataclass(frozen=True)
class Advice:
    """kind: "reward_hacking", "overfitting", "plateau", "divergence", "lr_too_high", "lr_too_low", "data_waits",
    "dead_gradients", "vanishing_gradients", "exploding_gradients". evidence: {"metric", "from", "to" (steps), and
    figures}."""

    kind: str
    title: str
    text: str
    severity: Severity
    evidence: dict[str, Any]


@dataclass(frozen=True)
class Spread:
    """What is looked at of one group's gradients over the steps: the share of exact zeros, the L2 norm."""

    steps: Sequence[int]
    zeros: Sequence[float]
    norm: Sequence[float]


@dataclass(frozen=True)
class Seen:
    """What is known of a run. curves: by metric (steps, values), steps increasing, NaN where not finite.

    gradients: by group. clip: the largest norm a gradient may have. planned_steps: of the whole run.
    """

    curves: Mapping[str, Curve]
    gradients: Mapping[str, Spread] = field(default_factory=dict)
    clip: float | None = None
    planned_steps: int | None = None

    def curve(self, metric: str) -> Curve:
        """The finite points of a metric; none where it was not logged."""
        steps, values = self.curves.get(metric, (np.empty(0), np.empty(0)))
        finite = np.isfinite(values)
        return np.asarray(steps, dtype=np.float64)[finite], np.asarray(values, dtype=np.float64)[finite]

    def at(self, metric: str, steps: Floats) -> Floats | None:
        """A metric at these steps, between its points in a straight line; None where it was not logged."""
        known, values = self.curve(metric)
        return np.interp(steps, known, values) if len(known) else None
