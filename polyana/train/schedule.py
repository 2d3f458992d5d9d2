"""The learning rate over a run."""

from __future__ import annotations

import math

from polyana.train.config import TrainConfig
from polyana.train.plan import TrainingPlan

__all__ = ["learning_rate"]


def learning_rate(step: int, config: TrainConfig, plan: TrainingPlan) -> float:
    """The learning rate of the step after `step` finished ones, 0 <= step < plan.steps.

    Warm-up rises linearly and reaches `lr` in its last step. Then: cosine (Loshchilov and Hutter 2017, eq. 5, one
    cycle) and linear fall to `final_lr` x lr at the end; wsd stays at lr and falls linearly over the last `decay`
    steps; constant stays.
    """
    if step < plan.warmup_steps:
        return config.lr * (step + 1) / plan.warmup_steps
    if config.schedule == "constant":
        return config.lr
    begin = plan.steps - plan.decay_steps if config.schedule == "wsd" else plan.warmup_steps
    if step < begin:
        return config.lr
    progress = (step - begin + 1) / (plan.steps - begin)
    falling = (1 + math.cos(math.pi * progress)) / 2 if config.schedule == "cosine" else 1 - progress
    return config.lr * (config.final_lr + (1 - config.final_lr) * falling)
