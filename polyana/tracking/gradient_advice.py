"""Advice on gradients: parts of a model that learn nothing, or too wildly."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np

from polyana.tracking.seen import ENOUGH, NORM, Advice, Seen

__all__ = ["dead_gradients", "exploding_gradients", "vanishing_gradients"]

_DEAD = 0.9  # share of exact zeros; ReLU layers have up to half; guess
_VANISHED = 1e-3  # of the median of all groups; guess
_EXPLODED = 20.0  # times the lowest before, in medians of a twentieth of the run; recorded: 30, others at most 3
_PARTS = 20  # of the run, whose medians are compared; guess


def dead_gradients(seen: Seen) -> Advice | None:
    dead = {
        group: spread for group, spread in seen.gradients.items()
        if group != "embeddings" and len(spread.steps) >= 2 and min(spread.zeros[-2:]) >= _DEAD
    }  # fmt: skip  # of embeddings most rows have no gradient: tokens that the batch does not hold
    if not dead:
        return None
    group, spread = max(dead.items(), key=lambda entry: entry[1].zeros[-1])
    since = next(step for step, zeros in zip(spread.steps, spread.zeros, strict=True) if zeros >= _DEAD)
    text = (
        f"{spread.zeros[-1]:.1%} of the gradients of {_listed(dead)} are exactly zero since step {since:,}: nothing is "
        "learned there. An activation that is always on its flat side, or a layer of zeros, does that."
    )
    evidence = {
        "metric": f"gradients/{group}", "from": int(since), "to": int(spread.steps[-1]), "zeros": spread.zeros[-1],
        "groups": sorted(dead),
    }  # fmt: skip
    return Advice("dead_gradients", "Part of the model does not learn", text, "warning", evidence)


def vanishing_gradients(seen: Seen) -> Advice | None:
    """A group whose gradients are far smaller than the others'."""
    lasting = {
        group: float(np.median(spread.norm[-3:])) for group, spread in seen.gradients.items() if len(spread.steps) >= 3
    }
    usual = float(np.median(list(lasting.values()))) if lasting else 0.0
    vanished = [group for group, norm in lasting.items() if norm < _VANISHED * usual]
    if not vanished:
        return None
    group = min(vanished, key=lambda group: lasting[group])
    text = (
        f"The gradients of {_listed(vanished)} are {lasting[group] / usual:.0e} of the others' size, so hardly "
        "anything is learned there. Norms, residual connections and the initial weights decide how much comes through."
    )
    steps = seen.gradients[group].steps
    evidence = {
        "metric": f"gradients/{group}", "from": int(steps[-3]), "to": int(steps[-1]), "norm": lasting[group],
        "usual": usual, "groups": sorted(vanished),
    }  # fmt: skip
    return Advice("vanishing_gradients", "Gradients vanish in part of the model", text, "warning", evidence)


def exploding_gradients(seen: Seen) -> Advice | None:
    steps, norms = seen.curve(NORM)
    if len(norms) < ENOUGH:
        return None
    cuts = np.linspace(0, len(norms), min(_PARTS, len(norms) // 8) + 1).astype(int)
    medians = np.array([np.median(norms[begin:end]) for begin, end in pairwise(cuts)])
    usual = np.minimum.accumulate(medians)
    grown = medians > _EXPLODED * usual
    if not grown.any():
        return None
    first = int(np.argmax(grown))
    begin, end = int(steps[cuts[first]]), int(steps[-1])
    times, most = float(medians[first:].max() / usual[first]), float(norms.max())
    growth = {group: max(each.norm) / max(min(each.norm), 1e-30) for group, each in seen.gradients.items() if each.norm}
    worst = max(growth, key=lambda group: growth[group], default="")
    text = (
        f"From step {begin:,} on the gradient's norm is up to {times:,.0f} times what it was before, {most:.3g} at "
        "most. "
        + ("`clip: 1` bounds what a step can do; " if seen.clip is None else "Clipping holds the steps small; ")
        + "a lower `lr` or a longer `warmup` keeps it from happening."
        + (f" They have grown most in {worst}." if worst else "")
    )
    evidence: dict[str, Any] = {
        "metric": NORM, "from": begin, "to": end, "times": times, "highest": most, "before": float(usual[first]),
    } | ({"group": worst} if worst else {})  # fmt: skip
    return Advice("exploding_gradients", "Gradients explode", text, "warning", evidence)


def _listed(groups: Any) -> str:
    names = sorted(groups)
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
