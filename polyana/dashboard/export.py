"""A run to send to somebody: one HTML file that needs nothing else, and its numbers as CSV."""

from __future__ import annotations

import csv
import io
import math
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, select_autoescape

from polyana.dashboard.files import read_recipe, read_samples
from polyana.dashboard.runs import Catalogue
from polyana.tracking import Curves, Drawn, View

__all__ = ["export_csv", "export_html"]

_WIDTH, _HEIGHT = 440, 170  # of a chart, in pixels
_ROWS = 2000  # of CSV made at once; guess
_MOST_SAMPLES = 12  # steps whose samples an export shows, evenly; guess


def export_html(catalogue: Catalogue, name: str) -> str:
    """A run's figures, charts, samples and recipe as one page without scripts; what the run has written is text."""
    detail = catalogue.detail(name)
    with catalogue.index.snapshot():
        curves, view = Curves(catalogue.index, name), View(width=_WIDTH, smoothing=0.9)
        charts = [chart for metric in detail["metrics"] if (chart := _chart(metric, curves.draw(metric, view)))]
    found = read_samples(catalogue, name)
    steps, samples = found["steps"], found["samples"]
    if len(steps) > _MOST_SAMPLES:
        steps = [steps[place * (len(steps) - 1) // (_MOST_SAMPLES - 1)] for place in range(_MOST_SAMPLES)]
    page = Environment(loader=PackageLoader("polyana.dashboard", "."), autoescape=select_autoescape(default=True))
    page.filters["moment"] = lambda moment: time.strftime("%Y-%m-%d %H:%M", time.localtime(moment))
    return page.get_template("export.html.jinja").render(
        run=detail, charts=charts, samples=[(step, samples[step]) for step in steps],
        recipe=read_recipe(catalogue, name) if (catalogue.run(name).path / "recipe.yaml").exists() else "",
        width=_WIDTH, height=_HEIGHT,
    )  # fmt: skip


def _chart(metric: str, drawn: Drawn) -> dict[str, Any] | None:
    """A curve's lines as coordinates of SVG; None where it has no finite point."""
    x, y = drawn.raw
    finite = np.isfinite(y)
    if not finite.any():
        return None
    left, right = float(x[0]), float(x[-1])
    low, high = float(y[finite].min()), float(y[finite].max())

    def line(x: Any, y: Any) -> str:
        across = (x - left) / (right - left or 1) * _WIDTH
        down = _HEIGHT - (y - low) / (high - low or 1) * _HEIGHT
        parts, pen = [], "M"
        for a, b in zip(across, down, strict=True):
            if math.isnan(a) or math.isnan(b):
                pen = "M"
                continue
            parts.append(f"{pen}{a:.1f} {b:.1f}")
            pen = "L"
        return "".join(parts)

    return {
        "metric": metric, "raw": line(x, y), "smooth": line(*drawn.smooth), "last": float(y[finite][-1]),
        "low": low, "high": high, "left": left, "right": right,
    }  # fmt: skip


def export_csv(catalogue: Catalogue, name: str) -> Iterator[str]:
    """A line for each step and a column for each metric; empty where it was not measured or not finite."""
    catalogue.run(name)
    catalogue.catch_up(name)
    with catalogue.index.snapshot():
        metrics, curves = catalogue.index.metrics(name), Curves(catalogue.index, name)
        points = [curves.points(metric) for metric in metrics]
    steps = np.unique(np.concatenate([steps for steps, _ in points])) if points else np.empty(0, dtype=np.int64)
    table = np.full((len(steps), len(metrics)), np.nan)
    for column, (at, values) in enumerate(points):
        table[np.searchsorted(steps, at), column] = values
    return _lines(["step", *metrics], steps, table)


def _lines(heading: list[str], steps: Any, table: Any) -> Iterator[str]:
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(heading)
    for begin in range(0, max(len(steps), 1), _ROWS):
        for step, row in zip(steps[begin : begin + _ROWS].tolist(), table[begin : begin + _ROWS].tolist(), strict=True):
            writer.writerow([step, *("" if math.isnan(value) else repr(value) for value in row)])
        yield out.getvalue()
        out.seek(0)
        out.truncate()
