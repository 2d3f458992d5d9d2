"""Whether torch.compile pays for itself within the planned training: measured where that was asked for."""

from __future__ import annotations

import math

import torch

from polyana.plan.figures import Choice, Time
from polyana.tracking import show_clock
from polyana.train import TrainConfig, TrainingPlan

__all__ = ["compile_choice", "why_not_compiled"]

_SECONDS, _MORE_SPEED = (25, 60), 0.09  # at each start; at most: docs/log.md


def why_not_compiled(train: TrainConfig) -> str | None:
    """What the recipe's reader would say of `compile: true`."""
    compiled = train.model_copy(update={"compile": True})
    return next((what for key, what in compiled.problems() if key == ("compile",)), None)


def compile_choice(
    train: TrainConfig, time: Time | None, plan: TrainingPlan | None, other: Time | None, device: torch.device
) -> Choice:
    """`other`: the time of the same training with the other setting of `compile`, where it was rehearsed."""
    chosen = "true" if train.compile else "false"
    if trouble := why_not_compiled(train):
        return Choice("compile", chosen, trouble)
    if time is not None and plan is not None and other is not None:
        plain, compiled = (other, time) if train.compile else (time, other)
        return Choice("compile", chosen, _compared(plain, compiled, plan.steps, train.compile))
    if train.compile:
        start = f", {time.compile:.0f} s in the first steps" if time else ""
        return Choice("compile", chosen, f"as the recipe says{start}; `--compile` tries whether it pays")
    if device.type != "cpu":
        return Choice("compile", chosen, "what it saves on a GPU was not measured yet; `--compile` tries it")
    least, most = _SECONDS
    known = (
        f"{least} to {most} s at each start for 0 to {_MORE_SPEED:.0%} more speed, as measured on a CPU (docs/log.md)"
    )
    if time is None or plan is None:
        return Choice("compile", chosen, known)
    gain = plan.steps * time.step * (1 - 1 / (1 + _MORE_SPEED))
    if gain < least:
        return Choice("compile", chosen, f"{known}: could not pay within {show_clock(time.total)}")
    saved = f"saves {show_clock(gain - least)} at best, nothing at worst; `--compile` measures it"
    return Choice("compile", chosen, f"{known}: {saved}")


def _compared(plain: Time, compiled: Time, steps: int, chosen: bool) -> str:
    saved, better = plain.step - compiled.step, compiled.total < plain.total
    pays = f"pays after {math.ceil(compiled.compile / saved):,} steps, and there are {steps:,}" if saved > 0 else ""
    words = f"measured {compiled.step:.3g} s a step instead of {plain.step:.3g}, for {compiled.compile:.0f} s once"
    advice = f"`compile: {'true' if better else 'false'}` saves {show_clock(abs(plain.total - compiled.total))}"
    return f"{words}: {pays or 'never pays'}{f'; {advice}' if better != chosen else ''}"
