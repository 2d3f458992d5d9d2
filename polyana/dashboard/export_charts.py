"""Charts of an exported run as coordinates of SVG, for a page without scripts; in the order of the live page."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from polyana.tracking import Curves, Drawn, View

__all__ = ["draw_charts", "short"]

WIDTH, HEIGHT = 440, 170  # of a plot, in pixels
_FIRST = (
    ("Loss", ("train/loss", "eval/loss")),
    ("Learning rate", ("train/lr",)),
    ("Gradient norm", ("train/grad_norm",)),
    ("Tokens per second", ("train/tokens_per_second",)),
    ("Model FLOPs utilisation", ("train/mfu",)),
)
_AXES = ("train/tokens", "train/epoch")  # what the live page has as x axes
_SMOOTH, _NOISY = 0.9, 60  # smoothing, and points from which a curve of training is smoothed; guesses
_ROUNDING = 1e-12  # of a constant that is smoothed, and more
_PLAIN = ("train/lr", *_AXES)  # nothing in them is noise


def draw_charts(curves: Curves, metrics: Iterable[str], saves: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """{"title", "lines": [{"d", "kind"}], "ticks", "left", "right", "dots", "last"} of each chart that has a finite
    point. kind: main, raw, eval or ghost. ticks: [(label, y)]; dots: (x, y, title) of saves; marks: x where an attempt
    has gone on."""
    left = [metric for metric in metrics if metric not in _AXES]
    panels = [(title, [metric for metric in some if metric in left]) for title, some in _FIRST]
    taken = {metric for _, some in panels for metric in some}
    panels += [(metric, [metric]) for metric in left if metric not in taken]
    return [chart for title, some in panels if (chart := _chart(curves, title, some, saves))]


def _chart(curves: Curves, title: str, metrics: list[str], saves: list[dict[str, Any]]) -> dict[str, Any] | None:
    lines: list[tuple[str, np.ndarray, np.ndarray]] = []
    last, marks, on = [], [], None
    for metric in metrics:
        drawn = curves.draw(metric, View(width=WIDTH))
        x, y = drawn.raw
        if not np.isfinite(y).any():
            continue
        noisy = metric.startswith("train/") and metric not in _PLAIN and drawn.total > _NOISY
        lines.append(("ghost", *drawn.ghost))
        if noisy:
            lines += [("raw", x, y), ("main", *_smoothed(curves, metric).smooth)]
        else:
            lines.append(("eval" if metric.startswith("eval/") and len(metrics) > 1 else "main", x, y))
        last.append((metric, float(y[np.isfinite(y)][-1])))
        marks = drawn.marks
        on = lines[-1][1:]
    if on is None:
        return None
    xs, ys = (np.concatenate([line[place] for line in lines]) for place in (1, 2))
    begin, end = float(np.nanmin(xs)), float(np.nanmax(xs))
    low, high = float(ys[np.isfinite(ys)].min()), float(ys[np.isfinite(ys)].max())
    if high - low <= _ROUNDING * max(abs(low), abs(high)):
        room = abs(high) / 10 or 1.0
        low, high = low - room, high + room

    def across(x: Any) -> Any:
        return (x - begin) / (end - begin or 1) * WIDTH

    def down(y: Any) -> Any:
        return HEIGHT - (y - low) / (high - low) * HEIGHT

    dots = [
        (float(across(save["step"])), float(down(np.interp(save["step"], *_finite(*on)))), _told(save))
        for save in saves
        if title == "Loss" and begin <= save["step"] <= end
    ]
    return {
        "title": title,
        "lines": [{"kind": kind, "d": _path(across(x), down(y))} for kind, x, y in lines if len(x)],
        "ticks": [(short(value), float(down(value))) for value in sorted({low, (low + high) / 2, high})],
        "left": f"{begin:,.0f}", "right": f"{end:,.0f}", "dots": dots, "marks": [float(across(x)) for x in marks],
        "last": [(metric, short(value)) for metric, value in last], "width": WIDTH, "height": HEIGHT,
    }  # fmt: skip


def _smoothed(curves: Curves, metric: str) -> Drawn:
    return curves.draw(metric, View(width=WIDTH, smoothing=_SMOOTH))


def _finite(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return x[np.isfinite(y)], y[np.isfinite(y)]


def _told(save: dict[str, Any]) -> str:
    return f"save at step {save['step']:,}" + (", best" if "best" in save["refs"] else "")


def short(value: float) -> str:
    """Four digits, in thousands, millions, ... where it is large."""
    for factor, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= max(factor, 1e4):
            return f"{value / factor:.4g}{letter}"
    return f"{value:.4g}"


def _path(x: np.ndarray, y: np.ndarray) -> str:
    """A line, broken where it has no value."""
    parts, pen = [], "M"
    for a, b in zip(x, y, strict=True):
        if math.isnan(a) or math.isnan(b):
            pen = "M"
            continue
        parts.append(f"{pen}{a:.1f} {b:.1f}")
        pen = "L"
    return "".join(parts)
