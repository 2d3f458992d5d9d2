"""One step: the gradients of all parts of a batch summed, divided once by what was summed over, clipped, applied.

A batch is named by its sequence numbers. Each rank computes its share of them; the next share is fetched meanwhile.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch

from polyana.data import Batch
from polyana.distributed import Strategy
from polyana.tracking import Histogram
from polyana.train.ahead import ReadAhead
from polyana.train.config import TrainConfig
from polyana.train.histograms import Histograms
from polyana.train.loss_scale import LEAST_SCALE
from polyana.train.optimizer import Optimizers
from polyana.train.plan import TrainingPlan
from polyana.train.precision import Precision
from polyana.train.speed import matmul_rate
from polyana.train.task import LossOutput, Task

__all__ = ["Measured", "NotFinite", "TrainingStep"]


class NotFinite(Exception):
    """The loss or its gradient is not a number; nothing was updated. Says what, and which documents it comes from."""


@dataclass(frozen=True)
class Measured:
    """What a step has found out.

    metrics: mean loss, what was added to it, the gradient's norm before clipping; speed.
    tokens: of all ranks. overflowed: fp16 could not hold the gradients, and nothing was updated. histograms: where they
    were asked for.
    """

    metrics: dict[str, float]
    tokens: int
    seconds: float
    overflowed: bool
    histograms: Mapping[str, Histogram] = field(default_factory=dict)


class TrainingStep:
    """Takes steps with one task, its optimizer and its devices."""

    def __init__(
        self,
        task: Task,
        plan: TrainingPlan,
        config: TrainConfig,
        precision: Precision,
        strategy: Strategy,
        optimizer: Optimizers,
        before_update: Callable[[], None],
    ) -> None:
        """`before_update` is called before weights and the optimizer's memory change."""
        self._task, self._plan, self._config, self._precision = task, plan, config, precision
        self._strategy, self._world, self._optimizer = strategy, strategy.world, optimizer
        self._before_update = before_update
        self._batches = ReadAhead(task.batch)
        self._histograms = Histograms(task.model, task.blocks, strategy)
        self._floor = matmul_rate(precision.device, precision.dtype) * strategy.world.size

    def close(self) -> None:
        self._batches.close()

    def take(
        self, first: int, sequences: int, lr: float, loss_scale: float = 1.0, histograms: bool = False
    ) -> Measured:
        """Learn the `sequences` sequences from `first` on. All ranks together; raises NotFinite on all of them.

        `loss_scale`: what the loss is multiplied with for backward, for fp16. `histograms`: measure how weights,
        gradients and updates are spread.
        """
        began = time.perf_counter()
        parts = self._parts(first, sequences)
        for group in self._optimizer.param_groups:
            group["lr"] = lr
        self._task.model.train()
        self._task.foresee(lambda compute: self._sum_over(parts, compute))
        sums, added, more = self._backward(parts, loss_scale)
        total, count, tokens, flops = sums
        gradients = [parameter.grad for parameter in self._task.model.parameters() if parameter.grad is not None]
        divisor = count * loss_scale / self._strategy.averaged_over
        norm = self._strategy.gradient_norm(gradients) / divisor
        fp16 = self._precision.dtype == torch.float16
        overflowed = fp16 and not math.isfinite(norm) and loss_scale * count >= LEAST_SCALE
        if not overflowed:
            if not math.isfinite(norm):
                what = f"the loss is {total / count:.4f} but its gradient's norm is {norm}"
                raise NotFinite(f"{what}, {self._origin(self._task.batch(first, sequences), 0)}")
            clip = min(1.0, self._config.clip / (norm + 1e-6)) if self._config.clip is not None else 1.0
            if histograms:
                self._histograms.before_update(1 / divisor)
            torch._foreach_mul_(gradients, clip / divisor)
            self._before_update()
            self._optimizer.step()
        self._optimizer.zero_grad()  # freed: the next forward pass, or an evaluation, has their memory
        spread = self._histograms.after_update() if histograms and not overflowed else {}
        seconds = time.perf_counter() - began
        metrics = {
            "train/loss": total / count,
            **{name: term / count for name, term in added.items()},
            **{name: part / whole for name, (part, whole) in more.items() if whole},
            "train/grad_norm": norm,
            "train/lr": lr,
            "train/tokens_per_second": tokens / seconds,
            "train/mfu": flops / seconds / self._floor,
            "train/data_wait": self._batches.waited / seconds,
        }
        return Measured(metrics, int(tokens), seconds, overflowed, spread)

    def _parts(self, first: int, sequences: int) -> list[tuple[Batch, bool]]:
        """This rank's share of the batch, in parts, each with whether it counts."""
        share = self._strategy.share(first, sequences, self._plan.micro_batch)
        after, following = first + sequences, None
        if more := self._plan.batch_at(after):
            next_share = self._strategy.share(after, more, self._plan.micro_batch)
            following = next_share.first, next_share.count
        batch = self._batches.get(share.first, share.count, following)
        return share.fill(batch.micro_batches(self._plan.micro_batch))

    def _backward(
        self, parts: list[tuple[Batch, bool]], loss_scale: float
    ) -> tuple[tuple[float, ...], dict[str, float], dict[str, tuple[float, float]]]:
        """Gradients of all parts, summed. Over all ranks: loss, what it sums over, tokens, flops; what was added; the
        task's metrics."""
        sums, added, trouble = [0.0] * 4, dict[str, float](), None
        more = dict[str, tuple[float, float]]()
        with self._strategy.accumulating():
            for number, (part, counts) in enumerate(parts):
                with self._strategy.exchanging(last=number == len(parts) - 1):
                    output = self._loss(part)
                    value = float(output.reported)
                    if not math.isfinite(value) and trouble is None:
                        trouble = f"the loss is {value}, {self._origin(part, number)}"
                    scale = torch.full_like(output.total, loss_scale if counts else 0.0)
                    output.total.backward(scale)  # type: ignore[no-untyped-call]
                if counts:
                    figures = value, output.count, float(part.tokens), self._task.flops(part)
                    sums = [so_far + more for so_far, more in zip(sums, figures, strict=True)]
                for name, term in output.added.items():
                    added[name] = added.get(name, 0.0) + float(term) * counts
                for name, (above, below) in output.metrics.items():
                    so_far = more.get(name, (0.0, 0.0))
                    more[name] = so_far[0] + above * counts, so_far[1] + below * counts
        told = [figure for pair in more.values() for figure in pair]
        sums[:] = self._world.sum(*sums, *added.values(), *told)
        if not math.isfinite(sums[0]):
            raise NotFinite(next(filter(None, self._world.gather(trouble))))
        told = sums[4 + len(added) :]
        return (
            tuple(sums[:4]),
            dict(zip(added, sums[4:], strict=False)),
            dict(zip(more, zip(told[::2], told[1::2], strict=True), strict=True)),
        )

    def _sum_over(
        self, parts: list[tuple[Batch, bool]], compute: Callable[[Batch], Sequence[float]]
    ) -> tuple[float, ...]:
        """The sum of `compute` over the parts that count, of all ranks."""
        total: list[float] = []
        with torch.no_grad(), self._precision.autocast():
            for part, counts in parts:
                figures = self._strategy.run(compute, part.to(self._precision.device))
                total = total or [0.0] * len(figures)
                total = [so_far + more * counts for so_far, more in zip(total, figures, strict=True)]
        return self._world.sum(*total)

    def _loss(self, part: Batch) -> LossOutput:
        def compute(part: Batch) -> tuple[torch.Tensor, LossOutput]:
            output = self._task.loss(part)
            return output.total, output

        with self._precision.autocast():
            return self._strategy.run(compute, part.to(self._precision.device))[1]

    def _origin(self, part: Batch, number: int) -> str:
        return f"in part {number + 1} of its batch, which comes from {self._task.describe(part)}"
