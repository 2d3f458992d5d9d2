"""A run to send to somebody: one HTML file that needs nothing else, and its numbers as CSV."""

from __future__ import annotations

import csv
import io
import math
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, select_autoescape

from polyana.dashboard.export_charts import draw_charts, short
from polyana.dashboard.files import read_recipe, read_samples
from polyana.dashboard.runs import Catalogue
from polyana.errors import Damaged
from polyana.storage import read_json
from polyana.tracking import Curves, flat

__all__ = ["export_csv", "export_html"]

_ROWS = 2000  # of CSV made at once; guess
_MOST_SAMPLES = 12  # steps whose samples an export shows, evenly; guess


def export_html(catalogue: Catalogue, name: str) -> str:
    """A run's figures, advice, charts, saves, samples and recipe as one page without scripts; what the run has written
    is text."""
    run = catalogue.run(name)
    catalogue.catch_up(name)
    detail = catalogue.detail(name)
    with catalogue.index.snapshot():
        charts = draw_charts(Curves(catalogue.index, name), detail["metrics"], detail["checkpoints"])
    found = read_samples(catalogue, name)
    steps, samples = found["steps"], found["samples"]
    if len(steps) > _MOST_SAMPLES:
        steps = [steps[place * (len(steps) - 1) // (_MOST_SAMPLES - 1)] for place in range(_MOST_SAMPLES)]
    environment: dict[str, Any] = {}
    with suppress(OSError, Damaged, TypeError, ValueError):
        environment = flat(read_json(run.path / "environment.json"))
    page = Environment(loader=PackageLoader("polyana.dashboard", "."), autoescape=select_autoescape(default=True))
    page.filters["moment"] = lambda moment: time.strftime("%Y-%m-%d %H:%M", time.localtime(moment))
    page.filters["number"] = lambda value: short(value) if isinstance(value, int | float) else value
    return page.get_template("export.html.jinja").render(
        run=detail, charts=charts, samples=[(step, samples[step]) for step in steps], environment=environment,
        recipe=read_recipe(catalogue, name) if (run.path / "recipe.yaml").exists() else "",
    )  # fmt: skip


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
