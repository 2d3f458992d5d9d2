"""How many layers must be computed again in the backward pass for a training step to fit into memory."""

from __future__ import annotations

from dataclasses import dataclass

from polyana.distributed import Strategy
from polyana.storage import show_bytes
from polyana.train.config import TrainConfig
from polyana.train.memory import available_bytes
from polyana.train.optimizer import optimizer_bytes
from polyana.train.plan import TrainingPlan
from polyana.train.task import Task

__all__ = ["Checkpointing", "choose_checkpointing"]

_BACKWARD = 2  # layers' worth of memory for what the backward pass of one layer makes beside what was kept
_HOLES = 1.25  # between freed tensors that the next ones do not fit into
"""Both from 8 x 512, 8 texts of 1024, gpt2 and llama with 0, 4 and 8 layers computed again: with them the estimate is
0.95 to 1.34 of what was measured."""
_SHARE = 0.9  # of the memory that is available which a step may take; guess


@dataclass(frozen=True)
class Checkpointing:
    """`recomputed` of `layers` layers, and why, in a clause."""

    recomputed: int
    layers: int
    reason: str

    @property
    def choice(self) -> tuple[str, str]:
        """What was chosen, and why."""
        return f"{self.recomputed} of {self.layers} layers" if self.recomputed else "none", self.reason

    def __str__(self) -> str:
        return f"the backward pass computes {self.choice[0]} again: {self.reason}"


def choose_checkpointing(
    config: TrainConfig, plan: TrainingPlan, task: Task, strategy: Strategy, available: int | None = None
) -> Checkpointing:
    """As few layers as let a step of `plan` fit into the memory that is `available` (default: to this process, now,
    with the weights already in it), or what the recipe says. To be asked before the strategy prepares the model."""
    layers, wanted = len(task.blocks), config.checkpointing
    if wanted != "auto":
        recomputed = layers * wanted if isinstance(wanted, bool) else min(wanted, layers)
        return Checkpointing(recomputed, layers, "as the recipe says")
    device = task.precision.device
    if available is None:
        sharing = strategy.world.local_size if device.type == "cpu" else 1
        available = available_bytes(device) // sharing
    trained = 4 * sum(each.numel() for each in task.model.parameters() if each.requires_grad)
    held = (trained + optimizer_bytes(task.model, config.optimizer)) // strategy.weights_cut_into
    activations = task.activations(plan.micro_batch)

    def needed(recomputed: int) -> int:
        return round(held + _HOLES * (activations.kept(recomputed) + _BACKWARD * activations.block))

    fitting = (count for count in range(layers + 1) if needed(count) <= _SHARE * available)
    recomputed = next(fitting, layers)
    whole, there = f"a step needs about {show_bytes(needed(0))} more", f"{show_bytes(available)} are available"
    if recomputed and needed(recomputed) > _SHARE * available:
        there += f"; {show_bytes(needed(recomputed))} as it is, so it may not fit: write a smaller `micro_batch`"
    return Checkpointing(recomputed, layers, f"{whole} without, and {there}" if recomputed else f"{whole}, {there}")
