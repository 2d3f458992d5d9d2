"""The learning rate over a run."""

from __future__ import annotations

import math

from polyana.train.config import TrainConfig
from polyana.train.plan import TrainingPlan

__all__ = ["learning_rate", "sampled_schedule"]

_POINTS = 500  # as many as a chart of a schedule needs; guess


def learning_rate(step: int, config: TrainConfig, plan: TrainingPlan) -> float:
    """The learning rate of the step after `step` finished ones, 0 <= step < plan.steps.

    Warm-up rises linearly and reaches `lr` in its last step. Then: cosine (Loshchilov and Hutter 2017, eq. 5, one
    cycle) and linear fall to `final_lr` x lr at the end; wsd stays at lr and falls linearly over the last `decay`
    steps; warm_restarts is a cosine in each of its cycles; inverse_sqrt falls as (Vaswani et al. 2017, eq. 3), which
    without warm-up counts the first step as one; constant stays.
    """
    if step < plan.warmup_steps:
        return config.lr * (step + 1) / plan.warmup_steps
    if config.schedule == "constant":
        return config.lr
    if config.schedule == "inverse_sqrt":
        return config.lr * math.sqrt(max(plan.warmup_steps, 1) / (step + 1))
    begin, end = plan.warmup_steps, plan.steps
    if config.schedule == "wsd":
        begin = plan.steps - plan.decay_steps
    elif config.schedule == "warm_restarts":
        begin, end = plan.cycle_of(step)
    if step < begin:
        return config.lr
    progress = (step - begin + 1) / (end - begin)
    falling = 1 - progress if config.schedule in ("linear", "wsd") else (1 + math.cos(math.pi * progress)) / 2
    return config.lr * (config.final_lr + (1 - config.final_lr) * falling)


def sampled_schedule(config: TrainConfig, plan: TrainingPlan) -> dict[str, list[float]]:
    """The whole schedule to draw: {"steps", "lr"}, the rate that each of these steps is taken with, as it is logged."""
    count = min(_POINTS, plan.steps)
    steps = sorted({1 + round(place * (plan.steps - 1) / max(count - 1, 1)) for place in range(count)})
    return {"steps": [*steps], "lr": [learning_rate(step - 1, config, plan) for step in steps]}
