"""Curves in a terminal: Braille letters, of which each is 2 x 4 dots, with axes of text."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from rich.text import Text

__all__ = ["Curve", "draw_chart"]

_BRAILLE = 0x2800
_DOTS = np.array([[0x01, 0x08], [0x02, 0x10], [0x04, 0x20], [0x40, 0x80]])  # [row, column] of a cell
_STYLES = ("cyan", "yellow", "magenta", "green")
_LABEL = 9  # columns of the y axis


@dataclass(frozen=True)
class Curve:
    """Points to draw, x never falling; NaN is a gap."""

    name: str
    x: NDArray[np.float64]
    y: NDArray[np.float64]


def draw_chart(title: str, curves: Sequence[Curve], width: int, height: int, *, log: bool = False) -> Text:
    """`height` lines of at most `width` letters: a title with the last values, the curves, the x axis.

    The y axis goes from the lowest to the highest value; with `log` by powers of ten, and values of 0 and below are
    left out.
    """
    columns, rows = max(width - _LABEL - 1, 8), max(height - 2, 2)
    scaled = [Curve(each.name, each.x, _scaled(each.y, log)) for each in curves]
    heading = Text(title, style="bold", no_wrap=True)
    for place, curve in enumerate(curves):
        finite = curve.y[np.isfinite(curve.y)]
        shown = _figure(float(finite[-1])) if len(finite) else "no finite value"
        heading.append(f"  {curve.name.partition('/')[0] + ' ' if len(curves) > 1 else ''}{shown}", _STYLES[place % 4])
    heading.truncate(width, overflow="ellipsis")
    known = [curve.y[np.isfinite(curve.y)] for curve in scaled]
    values = np.concatenate(known) if known else np.empty(0)
    places = np.concatenate([curve.x for curve in scaled]) if scaled else np.empty(0)
    if not len(values):
        return Text("\n").join([heading, *[Text("")] * (height - 1)])
    low, high = float(values.min()), float(values.max())
    if low == high:
        low, high = low - max(abs(low), 1e-12) / 2, high + max(abs(high), 1e-12) / 2
    begin, end = float(places.min()), float(places.max())
    dots = np.zeros((rows, columns), dtype=np.int64)
    owner = np.full((rows, columns), -1)
    for place, curve in enumerate(scaled):
        _draw(curve, dots, owner, place, (begin, end), (low, high))
    lines = [heading]
    for row in range(rows):
        labelled = row in (0, rows - 1) or (rows > 4 and row == rows // 2)
        at = high - (high - low) * row / (rows - 1) if labelled else math.nan
        value = 10**at if log and labelled else at
        line = Text(f"{'' if math.isnan(value) else _figure(value):>{_LABEL}} ", style="dim", no_wrap=True)
        for column in range(columns):
            style = _STYLES[owner[row, column] % 4] if owner[row, column] >= 0 else ""
            line.append(chr(_BRAILLE + int(dots[row, column])) if dots[row, column] else " ", style)
        lines.append(line)
    first, last = _step(begin), _step(end)
    between = " " * max(columns - len(first) - len(last), 1)
    lines.append(Text(f"{'':{_LABEL}} {first}{between}{last}", style="dim", no_wrap=True))
    return Text("\n").join(lines)


def _scaled(y: NDArray[np.float64], log: bool) -> NDArray[np.float64]:
    if not log:
        return np.where(np.isfinite(y), y, np.nan)
    return np.log10(np.where(np.isfinite(y) & (y > 0), y, np.nan))


def _draw(
    curve: Curve,
    dots: NDArray[np.int64],
    owner: NDArray[np.int64],
    name: int,
    reach: tuple[float, float],
    span: tuple[float, float],
) -> None:
    """Set the dots of one curve: in each column of dots all from the lowest to the highest, so nothing is torn."""
    rows, columns = dots.shape
    wide, tall = 2 * columns, 4 * rows
    finite = np.isfinite(curve.y)
    x = (curve.x - reach[0]) / ((reach[1] - reach[0]) or 1.0) * (wide - 1)
    y = (span[1] - np.where(finite, curve.y, span[0])) / (span[1] - span[0]) * (tall - 1)
    before = -1
    for place in np.flatnonzero(finite):
        across, down = round(float(x[place])), round(float(y[place]))
        start = before if before >= 0 and before == place - 1 else place
        from_x, from_y = round(float(x[start])), round(float(y[start]))
        steps = max(abs(across - from_x), abs(down - from_y), 1)
        for part in range(steps + 1):
            dot_x = from_x + round((across - from_x) * part / steps)
            dot_y = from_y + round((down - from_y) * part / steps)
            dots[dot_y // 4, dot_x // 2] |= _DOTS[dot_y % 4, dot_x % 2]
            owner[dot_y // 4, dot_x // 2] = name
        before = int(place)


def _figure(value: float) -> str:
    return f"{value:.0f}" if 1e3 <= abs(value) < 1e8 else f"{value:.4g}"


def _step(value: float) -> str:
    return f"{value:,.0f}"
