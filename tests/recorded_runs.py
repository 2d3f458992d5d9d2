"""Curves of real trainings in tests/tracking/recorded; tests/tracking/record_runs.py makes them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from polyana.tracking.seen import Seen, Spread

PLACE = Path(__file__).parent / "tracking" / "recorded"
NAMES = sorted(path.stem for path in PLACE.glob("*.json"))


def read_recorded(name: str, until: float = 1.0) -> Seen:
    """A recorded run as it was when that share of its steps was done."""
    told = json.loads((PLACE / f"{name}.json").read_text(encoding="utf-8"))
    last = until * told["planned_steps"]
    curves = {}
    for metric, curve in told["curves"].items():
        steps, values = np.array(unfold(curve["steps"], len(curve["values"])), dtype=float), np.array(curve["values"])
        curves[metric] = steps[steps <= last], values[steps <= last]
    gradients = {}
    for group, found in told["histograms"].items():
        count = sum(step <= last for step in found["steps"])
        gradients[group.removeprefix("gradients/")] = Spread(
            found["steps"][:count], found["zeros"][:count], found["norm"][:count]
        )
    return Seen(curves, gradients, told["clip"], told["planned_steps"])


def unfold(steps: list[int], count: int) -> list[int]:
    """Steps from [first, last, between two], where they are kept so."""
    return steps if len(steps) == count else list(range(steps[0], steps[1] + 1, steps[2]))
