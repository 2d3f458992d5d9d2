"""Whether two ways of training differ: by models of several seeds that were measured on the same documents.

Shapes: S seeds, D documents.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from polyana.evaluate.bootstrap import drawn_ratios

__all__ = ["Difference", "bits_per_byte_difference", "mean_and_interval"]


@dataclass(frozen=True)
class Difference:
    """One mean minus the other, and the ends of its 95 % interval; None where nothing can be said of chance."""

    first: float
    second: float
    low: float | None
    high: float | None

    @property
    def value(self) -> float:
        return self.first - self.second

    @property
    def is_seen(self) -> bool:
        """Whether the interval leaves 0 out."""
        return self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)


def bits_per_byte_difference(
    first_SD: NDArray[np.float64], second_SD: NDArray[np.float64], bytes_D: NDArray[np.int64]
) -> Difference:
    """Of all documents together, from what each costs each model in bits.

    Models of one seed are a pair. Both seeds and documents are samples, so the variance of the mean is that between
    seeds (their differences, divided by S) plus that between documents (of the mean over seeds, by a paired bootstrap).
    Both count what is by chance in a single document of a single seed, so the interval is rather too wide than too
    narrow (Owen 2007, "The pigeonhole bootstrap"). Degrees of freedom after Welch (1947) and Satterthwaite (1946).
    """
    seeds, documents = first_SD.shape
    size = bytes_D.sum()
    first, second = first_SD.sum() / seeds / size, second_SD.sum() / seeds / size
    if seeds < 2 or documents < 2:
        return Difference(float(first), float(second), None, None)
    paired_SD = first_SD - second_SD
    of_seeds = float(np.var(paired_SD.sum(1) / size, ddof=1)) / seeds
    draws = drawn_ratios(paired_SD.mean(0)[None], bytes_D[None])
    of_documents = float(np.var(draws, ddof=1)) * documents / (documents - 1)
    variance = of_seeds + of_documents
    middle = float(first - second)
    if not variance:
        return Difference(float(first), float(second), middle, middle)
    freedom = variance**2 / (of_seeds**2 / (seeds - 1) + of_documents**2 / (documents - 1))
    reach = _student_t(freedom) * variance**0.5
    return Difference(float(first), float(second), middle - reach, middle + reach)


def mean_and_interval(values_SN: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The mean over seeds at each of N points, and how far its 95 % interval reaches to both sides."""
    seeds = len(values_SN)
    reach = _student_t(seeds - 1) * np.std(values_SN, axis=0, ddof=1) / seeds**0.5
    return values_SN.mean(0), reach


def _student_t(freedom: float) -> float:
    """What Student's t is not further from 0 than with 95 %. With t = sqrt(freedom) tan(a) the density of a is
    cos(a)^(freedom - 1), without its factor; from 1,000 degrees of freedom on it does not change by 0.2 %."""
    freedom = min(freedom, 1000.0)
    angle = np.linspace(0, np.pi / 2, 1 << 14)
    density = np.cos(angle) ** (freedom - 1)
    share = np.cumsum((density[1:] + density[:-1]) / 2)
    return float(freedom**0.5 * np.tan(np.interp(0.95 * share[-1], share, angle[1:])))
