"""When a proxy of what is wanted is followed too far: the curve of Gao et al. 2022, its peak, and an alarm.

Pure functions. d is the square root of the KL divergence from the reference, in nats.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal

import numpy as np
from numpy.typing import NDArray

__all__ = ["FAR", "PATIENCE", "Alarm", "Curve", "Form", "Look", "fit_curve", "hacking", "kl_of_best_of"]

Form = Literal["best_of_n", "rl"]
Floats = NDArray[np.float64]

PATIENCE = 3
"""Evaluations in a row that must show it before the alarm rings. In 2,000 simulated runs of 20 evaluations of 48
prompts, whose proxy rises while gold stands still, with noise as large as what prompts differ by, 1 rang in 39.5 % of
the runs, 2 in 5.7 %, 3 in 1.2 %, 4 in 0.4 %. Where gold falls by a fifth of that noise at each evaluation, 3 ring in
all runs, 4.4 evaluations after the turn (benchmarks/align/alarm.py)."""

FAR = 10  # times the farthest KL that was seen, within which a peak is forecast; guess
_ERROR = 0.05  # that one evaluation is taken for hacked by chance, over all that it is held against
_FEWEST = 4  # points, besides the one at 0, that a curve is fitted to; it has three numbers
_SURE = 2.0  # standard errors by which beta must be above 0 before a peak is forecast


def kl_of_best_of(n: int) -> float:
    """KL of the best of n answers from the model that drew them: ln n - (n - 1) / n nats, exact where no two have the
    same reward, else a bound (Stiennon et al. 2020, appendix G.3; Beirami et al. 2024)."""
    return math.log(n) - (n - 1) / n


@dataclass(frozen=True, slots=True)
class Curve:
    """R(d) = origin + d (alpha - beta d) for best of n, origin + d (alpha - beta log d) for training (Gao et al. 2022,
    section 3.1). beta_error: its standard error."""

    form: Form
    origin: float
    alpha: float
    beta: float
    beta_error: float

    def at(self, kl: float) -> float:
        """The reward that it gives at a KL, in nats."""
        d = math.sqrt(max(kl, 0.0))
        if self.form == "best_of_n":
            return self.origin + d * (self.alpha - self.beta * d)
        return self.origin + (d * (self.alpha - self.beta * math.log(d)) if d else 0.0)

    @property
    def peak_kl(self) -> float | None:
        """The KL at which the reward is highest; None where it is not known to bend down: beta not above 0 by two
        standard errors, or a peak where nothing has been."""
        if self.beta <= _SURE * self.beta_error or self.beta <= 0:
            return None
        if self.form == "best_of_n":
            d = self.alpha / (2 * self.beta)
        else:
            exponent = self.alpha / self.beta - 1
            d = math.exp(exponent) if exponent < 20 else math.inf
        return d**2 if 0 < d < math.inf else None

    def forecast(self, farthest: float) -> float | None:
        """`peak_kl`, unless it lies far beyond the farthest KL that has been seen, where the curve says little."""
        peak = self.peak_kl
        return peak if peak is not None and peak <= FAR * farthest else None


def fit_curve(kl: Sequence[float], reward: Sequence[float], form: Form) -> Curve | None:
    """The curve through these points, by least squares; None where there are too few different ones."""
    d = np.sqrt(np.maximum(np.asarray(kl, np.float64), 0.0))
    values = np.asarray(reward, np.float64)
    if len(set(d[d > 0].tolist())) < _FEWEST:
        return None
    bend = -(d**2) if form == "best_of_n" else -d * np.log(np.where(d > 0, d, 1.0))
    columns = np.stack([np.ones_like(d), d, bend], axis=1)
    found, _, rank, _ = np.linalg.lstsq(columns, values, rcond=None)
    if rank < 3:
        return None
    left = values - columns @ found
    free = len(values) - 3
    variance = float(left @ left) / free if free else 0.0
    error = math.sqrt(max(variance * float(np.linalg.inv(columns.T @ columns)[2, 2]), 0.0))
    origin, alpha, beta = (float(each) for each in found)
    return Curve(form, origin, alpha, beta, error)


@dataclass(frozen=True)
class Look:
    """What an evaluation found: of each prompt, always the same ones in the same order, the answer's rewards, [P]."""

    step: int
    proxy_P: Floats
    gold_P: Floats


@dataclass(frozen=True, slots=True)
class Alarm:
    """since: the step at which gold was best. steps: the evaluations that show it. proxy, gold: how far they have moved
    since, in the last of them; z: that difference of gold in standard errors."""

    since: int
    steps: tuple[int, ...]
    proxy: float
    gold: float
    z: float

    def __str__(self) -> str:
        return (
            f"the proxy reward has gone on rising ({self.proxy:+.3g} since step {self.since:,}) while gold has fallen "
            f"({self.gold:+.3g}, {abs(self.z):.1f} standard errors), at {len(self.steps)} evaluations in a row: "
            f"the model has learned what the proxy likes, not what is wanted. Gold was best at step {self.since:,}"
        )


def hacking(looks: Sequence[Look], patience: int = PATIENCE) -> Alarm | None:
    """Whether proxy rises and gold falls, seen from the last evaluation, and not by chance.

    An evaluation is held against the earlier one whose mean gold was highest. It shows hacking where, over the prompts,
    the differences of proxy have a mean above 0 and those of gold one below 0, each by more standard errors than chance
    reaches with probability 5 % / m, m the number of earlier evaluations: the best of m is best partly by luck
    (Bonferroni). `patience` such evaluations in a row make an alarm.
    """
    shown: list[tuple[int, int, float, float, float]] = []
    for place in range(len(looks) - 1, 0, -1):
        found = _shows(looks[: place + 1])
        if found is None:
            break
        shown.append((looks[place].step, *found))
        if len(shown) == patience:
            last = shown[0]
            return Alarm(last[1], tuple(step for step, *_ in reversed(shown)), *last[2:])
    return None


def _shows(looks: Sequence[Look]) -> tuple[int, float, float, float] | None:
    """(step of the best gold before, by how much proxy rose, gold fell, in standard errors) of the last evaluation."""
    *earlier, now = looks
    best = max(earlier, key=lambda look: (float(look.gold_P.mean()), -look.step))
    enough = NormalDist().inv_cdf(1 - _ERROR / len(earlier))
    (proxy, proxy_z), (gold, gold_z) = (
        _difference(now.proxy_P, best.proxy_P), _difference(now.gold_P, best.gold_P)
    )  # fmt: skip
    if proxy_z > enough and gold_z < -enough:
        return best.step, proxy, gold, gold_z
    return None


def _difference(now_P: Floats, then_P: Floats) -> tuple[float, float]:
    """The mean of the paired differences, and that in its standard errors."""
    difference_P = now_P - then_P
    mean = float(difference_P.mean())
    error = float(difference_P.std(ddof=1)) / math.sqrt(len(difference_P)) if len(difference_P) > 1 else math.inf
    if not error:
        return mean, math.copysign(math.inf, mean) if mean else 0.0
    return mean, mean / error
