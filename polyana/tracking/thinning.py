"""What is drawn of a curve of many points: the extremes of each stretch, and a moving average over all."""

from __future__ import annotations

import math

import numpy as np

from polyana.tracking.index import Integers
from polyana.tracking.rows import Floats

__all__ = ["pick_extremes", "smooth"]

_ROW = 32  # points that are smoothed by one product of matrices; 16 to 128 are equally fast


def pick_extremes(x: Floats, y: Floats, width: int, low: float | None = None, high: float | None = None) -> Integers:
    """Which points to draw: of each of `width` equal stretches of x from `low` to `high` the lowest and the highest,
    where they are, and the first and the last point of all.

    x never falls. A stretch without a finite y gives its first point.
    """
    count = len(x)
    if count <= 2 * width:
        return np.arange(count)
    begin, end = float(x[0]) if low is None else low, float(x[-1]) if high is None else high
    starts = np.searchsorted(x, np.linspace(begin, end, width + 1)[1:-1])
    starts = np.unique(np.concatenate([[0], starts[starts < count]]))
    lengths = np.diff(np.append(starts, count))
    chosen = [np.array([0, count - 1])]
    for extreme in (np.fmin.reduceat(y, starts), np.fmax.reduceat(y, starts)):
        at = np.flatnonzero(y == np.repeat(extreme, lengths))
        stretch = np.searchsorted(starts, at, side="right")
        chosen.append(at[np.flatnonzero(np.diff(stretch, prepend=0))])
        chosen.append(starts[np.isnan(extreme)])
    return np.unique(np.concatenate(chosen))


def smooth(values: Floats, factor: float) -> Floats:
    """The exponential moving average of values [N], weight `factor` for what came before, 0 <= factor < 1, divided by
    the sum of the weights so far (Kingma and Ba 2015, section 3). NaN stays NaN and does not count."""
    finite = ~np.isnan(values)
    known = values if bool(finite.all()) else values[finite]
    averaged = _recurrence((1 - factor) * known, factor)
    if factor > 0:
        averaged /= -np.expm1(math.log(factor) * np.arange(1, len(known) + 1))
    if known is values:
        return averaged
    spread = np.full(len(values), np.nan)
    spread[finite] = averaged
    return spread


def _recurrence(added: Floats, factor: float) -> Floats:
    """y[i] = factor * y[i - 1] + added[i] with y[-1] = 0: rows of 32 by one product of matrices, then the ends of the
    rows in the same way. Only sums of positive weights below one, so rounding does not grow."""
    count = len(added)
    rows = -(-count // _ROW)
    padded = np.zeros(rows * _ROW)
    padded[:count] = added
    powers = np.arange(_ROW)
    weights = np.tril(factor ** np.maximum(powers[:, None] - powers[None, :], 0).astype(np.float64))
    within = padded.reshape(rows, _ROW) @ weights.T
    if rows > 1:
        ends = _recurrence(within[:, -1], factor**_ROW)
        within[1:] += ends[:-1, None] * factor ** (powers + 1.0)
    return np.asarray(within.reshape(-1)[:count], dtype=np.float64)
