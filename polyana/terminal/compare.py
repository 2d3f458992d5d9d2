"""`polyana compare` for runs: their last numbers side by side, and what of their settings differs."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from polyana.tracking import Curves, Index, RunDirectory, flat

__all__ = ["compare_runs", "comparison_picture"]

_LOWEST = ("loss", "perplexity", "bits_per_byte")  # what is best where it is lowest; of others the last is compared


def compare_runs(a: RunDirectory, b: RunDirectory, home: Path) -> dict[str, Any]:
    """{"runs": [two summaries], "metrics": [{"metric", "a", "b", "step_a", "step_b", "by"}], "settings": [{"key", "a",
    "b"}]}: of what is best where it is lowest the lowest value, of everything else the last; settings that differ."""
    index = Index(home / "index.sqlite")
    curves: list[Curves] = []
    for run in (a, b):
        index.use(lambda run=run: index.catch_up(run.name, run.metrics))  # type: ignore[misc]
        curves.append(Curves(index, run.name))
    names = [index.metrics(run.name) for run in (a, b)]
    rows = []
    for metric in sorted({*names[0], *names[1]}, key=lambda name: (not name.startswith("eval/"), name)):
        lowest = metric.startswith("eval/") and metric.rpartition("/")[2] in _LOWEST
        (step_a, value_a), (step_b, value_b) = (_value(each, metric, lowest) for each in curves)
        by = "lowest" if lowest else "last"
        rows.append({"metric": metric, "by": by, "a": value_a, "b": value_b, "step_a": step_a, "step_b": step_b})
    settings = [flat(run.about().get("settings") or {}) for run in (a, b)]
    missing = object()
    differing = [
        {"key": key, "a": settings[0].get(key), "b": settings[1].get(key)}
        for key in dict.fromkeys([*settings[0], *settings[1]])
        if settings[0].get(key, missing) != settings[1].get(key, missing)
    ]
    summaries = [{"run": run.name, "status": run.status()} for run in (a, b)]
    index.close()
    return {"runs": summaries, "metrics": rows, "settings": differing}


def comparison_picture(found: dict[str, Any]) -> RenderableType:
    """Both tables, for a terminal."""
    one, other = found["runs"]
    heading = Text.assemble(
        ("A  ", "bold"), f"{one['run']}  {one['status']}\n", ("B  ", "bold"), f"{other['run']}  {other['status']}\n"
    )
    metrics = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for name in ("metric", "", "A", "at step", "B", "at step", "B - A", ""):
        metrics.add_column(name, justify="left" if name in ("metric", "") else "right", no_wrap=True)
    for row in found["metrics"]:
        a, b = row["a"], row["b"]
        both = a is not None and b is not None
        shown = [_figure(a), _whole(row["step_a"]), _figure(b), _whole(row["step_b"])]
        difference = f"{b - a:+.4g}" if both else ""
        share = f"{(b - a) / abs(a):+.1%}" if both and a else ""
        metrics.add_row(Text(row["metric"]), row["by"], *shown, difference, share)
    if not found["settings"]:
        return Group(heading, metrics, Text("\nThe settings are the same."))
    settings = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for name in ("setting", "A", "B"):
        settings.add_column(name, overflow="fold")
    for row in found["settings"]:
        settings.add_row(Text(row["key"]), Text(_setting(row["a"])), Text(_setting(row["b"])))
    return Group(heading, metrics, Text(""), settings)


def _value(curves: Curves, metric: str, lowest: bool) -> tuple[int | None, float | None]:
    steps, values = curves.points(metric)
    finite = np.flatnonzero(np.isfinite(values))
    if not len(finite):
        return None, None
    place = finite[np.argmin(values[finite])] if lowest else finite[-1]
    return int(steps[place]), float(values[place])


def _figure(value: float | None) -> str:
    if value is None or math.isnan(value):
        return ""
    return f"{value:,.0f}" if abs(value) >= 1e4 else f"{value:.4g}"


def _whole(value: int | None) -> str:
    return "" if value is None else f"{value:,}"


def _setting(value: Any) -> str:
    return "" if value is None else str(value)
