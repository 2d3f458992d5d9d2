"""A training cut short, to learn what the whole one will cost: the trainer itself, watched.

It evaluates, samples, takes steps, evaluates again and saves, as every run does, on the run's own data. Steps have a
few parts of the run's batches; what a step of all parts takes follows.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from statistics import median
from typing import Any

from polyana.data import Batch
from polyana.train.memory import forget_peak, held_bytes, peak_bytes
from polyana.train.plan import TrainingPlan
from polyana.train.speed import matmul_rate
from polyana.train.task import Task
from polyana.train.trainer import Trainer

__all__ = ["Costs", "Rehearsal", "cut_short"]

_STEP_SECONDS = 4.0  # that a step of the rehearsal should take; guess: short, and long against the clock's noise
_SHARE_OF_RATE = 0.4  # of the rate of matrix products that a step reaches, about: docs/performance.md
_LEAST, _MOST, _ENOUGH = 3, 12, 12.0  # steps, and seconds of timed steps after which no more are taken; guess
_LEAST_DIFFERING = 8  # steps, where texts differ in length: guess: holes grow in every second or third
_LOOK_AT = 64  # micro-batches, among which the heaviest is looked for; guess


@dataclass
class Costs:
    """What each of evaluation, sample, step and save has cost, in this process.

    peaks: bytes of all memory that the process held. growth: by how much the peak was above what was held before, the
    first time. seconds: of one time, by rank 0's clock; a step has `sequences` sequences, a save is without the
    evaluation in it; `compile` is what the first step took beyond the others, where layers are compiled.
    """

    sequences: int
    peaks: dict[str, int] = field(default_factory=dict)
    growth: dict[str, int] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)


def cut_short(task: Task, plan: TrainingPlan, micro_batch: int, processes: int = 1) -> TrainingPlan:
    """A plan of a few short steps, whose parts are of `micro_batch` sequences.

    At least two parts a process, where the run has them: the second adds to gradients that are there already.
    """
    parts = -(-plan.batch // (micro_batch * processes))
    first = task.batch(0, 1)
    flops = task.flops(first) / first.tokens * plan.tokens_per_epoch / plan.per_epoch * micro_batch
    precision = task.precision
    part = flops / (_SHARE_OF_RATE * matmul_rate(precision.device, precision.dtype))
    taken = min(parts, max(2, int(_STEP_SECONDS / part)))
    batch = min(plan.batch, taken * micro_batch * processes)
    sequences = _LOOK_AT * micro_batch + (_MOST + 1) * batch  # it may begin anywhere among those looked at
    return replace(plan, sequences=sequences, batch=batch, micro_batch=micro_batch, steps=_MOST)


class Rehearsal(Trainer):
    """A Trainer with a plan that was `cut_short`; `rehearse` trains and tells what it cost."""

    def __init__(self, task: Task, plan: TrainingPlan, *others: Any, saves: bool, **more: Any) -> None:
        """`saves`: whether there is room to save once."""
        super().__init__(task, plan, *others, **more)
        self._saves = plan.cadence(None)  # only at the end
        self._saves_once = saves
        self._heaviest = _heaviest(task, plan.micro_batch)
        self._differing = self.config.packing != "concat"  # texts, in their lengths
        self._costs = Costs(plan.batch)
        self._timed: list[float] = []

    def rehearse(self) -> Costs:
        """Raises what training raises."""
        self.fit()
        step = self._costs.seconds["step"] = median(self._timed[1:])
        if self.config.compile:
            self._costs.seconds["compile"] = max(self._timed[0] - step, 0.0)
        if self._differing:
            self._costs.peaks["step"] = max(self._costs.peaks["step"], self._memory.most)
        return self._costs

    def _finished(self) -> bool:
        taken = self._timed[1:]  # the first one also finds memory and chooses kernels
        least = _LEAST_DIFFERING if self._differing else _LEAST
        return len(taken) >= _MOST - 1 or (len(taken) >= least - 1 and sum(taken) > _ENOUGH)

    def _step(self, gauge: Any) -> None:
        if not self._timed:
            self.position.sequences = self._heaviest
        before = self.position.seconds
        with self._watched("step"):
            super()._step(gauge)
        self._timed.append(self.world.agree(self.position.seconds - before, None)[0])

    def _predict(self) -> dict[str, float]:
        with self._watched("evaluation"):
            return super()._predict()

    def _answer(self) -> dict[str, float]:
        with self._watched("answers"):
            return super()._answer()

    def _sample(self) -> None:
        with self._watched("sample"):
            super()._sample()

    def _save(self, message: str) -> None:
        if not self._saves_once:
            return
        self._evaluate()  # a save does it anyway
        with self._watched("save"):
            super()._save(message)
            self._finish_save()

    @contextmanager
    def _watched(self, what: str) -> Iterator[None]:
        """Note the highest peak of all times, and the seconds of the last."""
        device, costs = self.precision.device, self._costs
        forget_peak(device)
        held, began = held_bytes(device), time.perf_counter()
        yield
        costs.seconds[what] = time.perf_counter() - began
        peak = peak_bytes(device)
        costs.peaks[what] = max(costs.peaks.get(what, 0), peak)
        costs.growth.setdefault(what, max(peak - held, 0))


def _heaviest(task: Task, micro_batch: int) -> int:
    """Where, near the beginning, the micro-batch begins that needs the most memory: that with the most tokens and,
    of those, with the longest texts."""

    def weight(batch: Batch) -> tuple[int, int]:
        return batch.tokens, sum(length**2 for length in batch.lengths)

    return max(range(0, _LOOK_AT * micro_batch, micro_batch), key=lambda at: weight(task.batch(at, micro_batch)))
