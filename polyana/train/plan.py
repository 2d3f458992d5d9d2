"""Quantities with units turned into steps, once the data is known."""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass

from polyana.config import Quantity
from polyana.errors import UserError
from polyana.train.config import TrainConfig

__all__ = ["Cadence", "TrainingPlan", "micro_batch_of", "sequences_in"]

_MICRO_BATCH_TOKENS = 8192
"""Tokens in memory at once when the recipe does not say: a guess that bounds memory and keeps products large."""


def sequences_in(batch: Quantity, context: int) -> int:
    """How many sequences of `context` tokens a batch is. Raises ValueError when it is no whole number of them."""
    if batch.unit == "sequences":
        return int(batch.amount)
    count, rest = divmod(int(batch.amount), context)
    if rest:
        near = " or ".join(f"{number * context} tokens" for number in (count, count + 1) if number)
        raise ValueError(f"{batch} is not a multiple of the {context} tokens of a sequence; try {near}")
    return count


def micro_batch_of(config: TrainConfig, context: int) -> int:
    """How many sequences of `context` tokens are in memory at once: the recipe's, or as even parts as possible."""
    batch = sequences_in(config.batch, context)
    if config.micro_batch is not None:
        return min(batch, sequences_in(config.micro_batch, context))
    return math.ceil(batch / math.ceil(batch * context / _MICRO_BATCH_TOKENS))


@dataclass(frozen=True)
class TrainingPlan:
    """The whole run in numbers.

    sequences: to be seen in all; the last step's batch is smaller when they are no multiple of `batch`.
    """

    sequences: int
    batch: int
    micro_batch: int
    per_epoch: int
    tokens_per_epoch: int
    steps: int
    warmup_steps: int
    decay_steps: int
    restarts: tuple[int, ...] = ()  # of warm_restarts: the step each cycle ends with, the last at or after `steps`

    @classmethod
    def of(cls, config: TrainConfig, per_epoch: int, tokens_per_epoch: int, context: int) -> TrainingPlan:
        """`per_epoch`, `tokens_per_epoch`: sequences and tokens in an epoch; `context`: tokens that a sequence holds.

        Raises UserError when warm-up and decay do not fit into the duration.
        """
        batch, micro_batch = sequences_in(config.batch, context), micro_batch_of(config, context)
        units = {"steps": batch, "epochs": per_epoch, "tokens": per_epoch / tokens_per_epoch}
        sequences = math.ceil(config.duration.amount * units[config.duration.unit] - 1e-9)
        steps = math.ceil(sequences / batch)

        def part(portion: Quantity) -> int:
            if portion.unit == "%":
                return round(steps * portion.amount / 100)
            return round(portion.amount * units[portion.unit] / batch)

        warmup, decay = part(config.warmup), part(config.decay) if config.schedule == "wsd" else 0
        if warmup + decay > steps:
            falls = f" and `decay: {config.decay}` ({decay} steps)" if decay else ""
            raise UserError(
                f"`warmup: {config.warmup}` ({warmup} steps){falls} do not fit into `duration: {config.duration}` "
                f"({steps} steps); shorten them or train longer"
            )
        restarts: list[int] = []
        if config.schedule == "warm_restarts":
            growth = config.cycle_growth
            three = (steps - warmup) / (1 + growth + growth**2)  # so long is the first of three that fill the run
            length, end = max(part(config.cycle), 1) if config.cycle is not None else three, float(warmup)
            while not restarts or restarts[-1] < steps:
                end, length = end + length, length * growth
                restarts.append(round(end))
        return cls(sequences, batch, micro_batch, per_epoch, tokens_per_epoch, steps, warmup, decay, tuple(restarts))

    @property
    def tokens(self) -> int:
        """To be seen in all; where sequences differ in length, as many as their mean length says."""
        return round(self.sequences * self.tokens_per_epoch / self.per_epoch)

    def cycle_of(self, step: int) -> tuple[int, int]:
        """The finished steps between which the cycle lies that the step after `step` finished ones is part of."""
        number = bisect_right(self.restarts, step)
        return (self.warmup_steps, *self.restarts)[number], self.restarts[number]

    def remarks(self) -> list[str]:
        """What somebody may not have meant."""
        if not self.restarts or self.restarts[-1] == self.steps:
            return []
        began, ends = self.cycle_of(self.steps - 1)
        before = f"{began} or " if began > self.warmup_steps else ""
        return [
            f"training ends within a cycle of the learning rate, {self.steps - began} of its {ends - began} steps on; "
            f"with a duration of {before}{ends} steps it would end where the rate is low"
        ]

    def batch_at(self, sequences_seen: int) -> int:
        """The size of the batch that comes after so many sequences."""
        return min(self.batch, self.sequences - sequences_seen)

    def cadence(self, every: Quantity | None) -> Cadence:
        """When something is due that happens `every` so often; never for None."""
        if every is None:
            return Cadence(None, None)
        if every.unit in ("steps", "epochs", "tokens"):
            units = {"steps": self.batch, "epochs": self.per_epoch, "tokens": self.per_epoch / self.tokens_per_epoch}
            return Cadence(max(1, round(every.amount * units[every.unit] / self.batch)), None)
        return Cadence(None, every.seconds)


class Cadence:
    """Says when something is due: at multiples of a number of steps, or when so many seconds have passed."""

    def __init__(self, steps: int | None, seconds: float | None) -> None:
        self.steps, self.seconds = steps, seconds
        self._last: float | None = None

    def due(self, step: int, now: float) -> bool:
        """Whether it is due after `step`; `now` in seconds of any clock that only goes forward."""
        if self.steps is not None:
            return step % self.steps == 0
        if self.seconds is None:
            return False
        if self._last is None:
            self._last = now
        if now - self._last < self.seconds:
            return False
        self._last = now
        return True
