"""What the trainer asks of a task. The trainer knows nothing else of what is learned."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch

from polyana.data import Batch
from polyana.models import Activations
from polyana.train.precision import Precision

__all__ = ["LossOutput", "SumOver", "SumOverBatch", "Task", "Verdict"]

SumOver = Callable[[Sequence[Any], Callable[[Any], Sequence[float]]], Sequence[float]]
SumOverBatch = Callable[[Callable[[Batch], Sequence[float]]], Sequence[float]]


@dataclass(frozen=True, slots=True)
class LossOutput:
    """A sum and the number of items it sums over. Only the training step divides, once for a whole batch: that is what
    makes gradient accumulation equal to a big batch.

    `added`: the terms of `total` that are learned but are not the loss that is reported, as {"train/z_loss": sum}.
    `metrics`: what else is to be told of the batch, each a sum and what that is divided by; always the same names.
    """

    total: torch.Tensor
    count: float
    added: Mapping[str, torch.Tensor] = field(default_factory=dict)
    metrics: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    @property
    def reported(self) -> torch.Tensor:
        """`total` without what was added, and without its graph."""
        return self.total.detach() - sum(self.added.values())


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a task has to say of a run beside its metrics. kind: as events and advice name it."""

    kind: str
    text: str
    stop: bool
    """Whether training shall end."""


class Task(Protocol):
    """One kind of learning: its model, its data, its loss, its evaluation."""

    model: torch.nn.Module
    precision: Precision
    """What `loss` computes in; read anew at each call."""

    @property
    def best_by(self) -> str:
        """The metric that the best save has the lowest value of; with a `-` in front, the highest."""

    @property
    def blocks(self) -> Sequence[torch.nn.Module]:
        """The layers of the model, each computed as one."""

    @property
    def per_epoch(self) -> int:
        """Sequences in an epoch."""

    @property
    def tokens_per_epoch(self) -> int:
        """Tokens in an epoch."""

    @property
    def context(self) -> int:
        """Tokens that fit into a sequence."""

    def batch(self, first: int, count: int) -> Batch:
        """The training sequences numbered from `first` on; a pure function of its arguments and the seed."""

    def foresee(self, sum_over_batch: SumOverBatch) -> None:
        """Find out what the loss of each part needs to know of the whole batch, which comes next; for most tasks
        nothing.

        `sum_over_batch(compute)` gives the sum of `compute(part)` over all parts, of all ranks, figure by figure; the
        model is only used in there, and nothing has a gradient.
        """

    def loss(self, batch: Batch) -> LossOutput:
        """The loss of a part of a batch, with its graph."""

    def activations(self, sequences: int) -> Activations:
        """What so many sequences, each as long as may be, keep for their backward pass; losses included."""

    def flops(self, batch: Batch) -> float:
        """Floating point operations of training on a batch, forward and backward."""

    def describe(self, batch: Batch) -> str:
        """Which documents a batch comes from, for messages."""

    def evaluate(self, sum_over: SumOver) -> dict[str, float]:
        """Metrics on held-out data, `eval/loss` among them; empty when nothing is held out.

        `sum_over(items, compute)` gives the sum of `compute(item)`, figure by figure; the model is only used in there.
        """

    def score_answers(self, run: Path | None) -> dict[str, float]:
        """Metrics of what the model writes when it is asked what held-out data ask; empty for most tasks. Takes nothing
        from torch's random numbers. `run`: the run's directory, where scores that cost something are kept as they come;
        None on a rank whose model only writes along."""

    def keep_answers(self, run: Path, step: int) -> None:
        """Keep in the run's directory what it wrote last; written again, it comes to the same."""

    def verdict(self, run: Path, step: int) -> Verdict | None:
        """What the answers kept up to this step say of the run, where they have not said it before."""

    def sample(self) -> list[dict[str, str]]:
        """What the model writes now: [{"prompt": ..., "text": ...}]; takes nothing from torch's random numbers."""

    def save_settings(self, directory: Path) -> None:
        """Write all of a save but the weights, as Hugging Face tools read it: config, tokenizer. It never changes."""
