"""A learning-rate range test (Smith 2017, section 3.3): the loss while the rate rises from far too low to far too high.

As in fastai the rate rises by the same factor each step, the loss is smoothed, and the test ends when it has grown to
four times its lowest. The suggestion is the rate at which the smoothed loss falls fastest. The other usual choice, a
tenth of the rate of the lowest loss, is not steady here: with clipped
gradients nothing diverges, so beyond the valley the loss is flat and noise decides where it is lowest (docs/log.md).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from polyana.errors import TrainingFailed
from polyana.storage import write_file
from polyana.tracking import sparkline
from polyana.train.optimizer import Optimizers

__all__ = ["RangeTest", "find_lr", "put_back"]

_LOWEST, _HIGHEST, _STEPS = 1e-6, 1.0, 100  # fastai's number of steps; its 1e-7 to 10, without what nobody trains at
_SMOOTHING = 0.9  # share of the past in the running mean; 0.8 to 0.95 suggest about the same (docs/log.md)
_DIVERGED = 4.0  # times the lowest loss: fastai


@dataclass(frozen=True)
class RangeTest:
    """What was tried: rates, the loss of each step, and its running mean."""

    rates: list[float]
    losses: list[float]
    smoothed: list[float]

    @property
    def suggestion(self) -> float:
        """The rate in the middle of the two steps over which the smoothed loss falls most."""
        inner = range(1, len(self.rates) - 1)
        return self.rates[min(inner, key=lambda i: self.smoothed[i + 1] - self.smoothed[i - 1], default=0)]

    def lines(self, lr: float) -> list[str]:
        """For the terminal, beside the recipe's `lr`."""
        ratio = lr / self.suggestion
        verdict = "about the same" if 1 / 3 <= ratio <= 3 else f"{ratio:.2g} times that"
        return [
            f"range test  lr {self.rates[0]:.0e} {sparkline(self.smoothed, 50)} {self.rates[-1]:.0e}  "
            f"loss {self.smoothed[0]:.3f} to {min(self.smoothed):.3f}",
            f"range test  suggests lr {self.suggestion:.1e}; the recipe's, which is used, is {lr:.1e}: {verdict}",
        ]

    def table(self) -> str:
        rows = zip(self.rates, self.losses, self.smoothed, strict=True)
        return "lr,loss,smoothed\n" + "".join(f"{lr:.6g},{loss:.6f},{mean:.6f}\n" for lr, loss, mean in rows)

    def picture(self, lr: float) -> str:
        """An SVG: losses as dots, their running mean as a line, upright the suggested rate and the recipe's."""
        width, height, edge = 640, 400, 50
        low, high = min(self.losses), max(self.smoothed[0], *self.smoothed) * 1.05
        left, right = math.log10(self.rates[0]), math.log10(self.rates[-1])

        def x(rate: float) -> float:
            return edge + (math.log10(rate) - left) / (right - left or 1) * (width - 2 * edge)

        def y(loss: float) -> float:
            return height - edge - (min(loss, high) - low) / (high - low or 1) * (height - 2 * edge)

        dots = "".join(
            f'<circle cx="{x(rate):.1f}" cy="{y(loss):.1f}" r="2" fill="#bbb"/>'
            for rate, loss in zip(self.rates, self.losses, strict=True)
        )
        line = " ".join(f"{x(rate):.1f},{y(mean):.1f}" for rate, mean in zip(self.rates, self.smoothed, strict=True))
        marks = "".join(
            f'<line x1="{x(rate):.1f}" x2="{x(rate):.1f}" y1="{edge}" y2="{height - edge}" stroke="{colour}"/>'
            f'<text x="{x(rate) + 4:.1f}" y="{edge + 14 * number}" fill="{colour}">{name} {rate:.1e}</text>'
            for number, (name, rate, colour) in enumerate(
                [("suggested", self.suggestion, "#080"), ("recipe", lr, "#c00")]
            )
            if self.rates[0] <= rate <= self.rates[-1]
        )
        scale = "".join(
            f'<text x="{x(10.0**power):.1f}" y="{height - edge + 18}" text-anchor="middle">1e{power}</text>'
            for power in range(math.ceil(left), math.floor(right) + 1)
        ) + "".join(
            f'<text x="{edge - 6}" y="{y(loss) + 4:.1f}" text-anchor="end">{loss:.2f}</text>' for loss in (low, high)
        )
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" font-family="sans-serif" '
            f'font-size="12"><rect width="100%" height="100%" fill="#fff"/>{dots}'
            f'<polyline points="{line}" fill="none" stroke="#05a" stroke-width="2"/>{marks}{scale}'
            f'<text x="{width / 2}" y="{height - 8}" text-anchor="middle">learning rate</text>'
            f'<text x="{edge}" y="{edge - 20}">loss</text></svg>\n'
        )

    def write(self, directory: Path, lr: float) -> None:
        """find_lr.csv and find_lr.svg."""
        write_file(directory / "find_lr.csv", self.table())
        write_file(directory / "find_lr.svg", self.picture(lr))


def find_lr(step: Callable[[int, float], float], stopped: Callable[[], bool] = lambda: False) -> RangeTest:
    """Train with rising rates: `step(number, lr)` takes a step and gives its loss before it. Ends once `stopped()`.

    Weights and optimizer are changed: see `put_back`. Raises TrainingFailed when even the first loss is not finite.
    """
    rates: list[float] = []
    losses: list[float] = []
    smoothed: list[float] = []
    mean = 0.0
    for number in range(_STEPS):
        rate = _LOWEST * (_HIGHEST / _LOWEST) ** (number / (_STEPS - 1))
        try:
            loss = step(number, rate)
        except TrainingFailed:  # not finite any more, which is what the test is after
            if not rates:
                raise
            break
        mean = _SMOOTHING * mean + (1 - _SMOOTHING) * loss
        rates.append(rate)
        losses.append(loss)
        smoothed.append(mean / (1 - _SMOOTHING ** (number + 1)))
        if smoothed[-1] > _DIVERGED * min(smoothed) or stopped():
            break
    return RangeTest(rates, losses, smoothed)


@contextmanager
def put_back(model: nn.Module, optimizer: Optimizers) -> Iterator[None]:
    """After the block weights, buffers and the optimizer, which has not stepped yet, are as they were before, bit for
    bit. The random state is not: who trains sets its seed afterwards."""
    moved = [*(each for each in model.parameters() if each.requires_grad), *model.buffers()]
    before = [each.detach().clone() for each in moved]
    state = optimizer.state_dict()
    try:
        yield
    finally:
        with torch.no_grad():
            for each, value in zip(moved, before, strict=True):
                each.copy_(value)
        optimizer.load_state_dict(state)
        optimizer.zero_grad()
