"""POST /api/series: curves as binary, ready to be drawn.

request   {"series": [{"run", "metric"}], "x", "from", "to", "width", "smoothing"}
answer    uint32 LE length of a JSON header, the header, zero bytes up to a multiple of 8; then for each series
          float64 LE arrays: x and y of the raw curve, of the smoothed one, of the ghost
header    [{"run", "metric", "raw": points, "smooth": points, "ghost": points, "total": points in view,
          "marks": [x where an attempt went on]}]
"""

from __future__ import annotations

import math
from typing import Any

import msgspec
import numpy as np

from polyana.dashboard.errors import Refused
from polyana.dashboard.runs import Catalogue
from polyana.tracking import AXES, Curves, Drawn, View

__all__ = ["draw_series", "encode"]

_MOST_SERIES = 1000  # 20 metrics of 50 runs; guess
_WIDEST = 20_000  # buckets; guess


def draw_series(catalogue: Catalogue, body: Any) -> bytes:
    """The answer to a request. Raises Refused when it is not understood; a run that is gone has no points."""
    view, wanted = _read(body)

    def draw() -> list[Drawn]:
        index, names = catalogue.index, dict.fromkeys(run for run, _ in wanted)
        for run in names:
            try:
                catalogue.catch_up(run)
            except Refused:
                index.forget(run)
        with index.snapshot():
            curves = {run: Curves(index, run) for run in names}
            return [curves[run].draw(metric, view) for run, metric in wanted]

    return encode(wanted, catalogue.index.use(draw))


def encode(wanted: list[tuple[str, str]], drawn: list[Drawn]) -> bytes:
    """Curves as the answer's bytes."""
    header = [
        {
            "run": run, "metric": metric, "raw": len(one.raw[0]), "smooth": len(one.smooth[0]),
            "ghost": len(one.ghost[0]), "total": one.total, "marks": one.marks,
        }
        for (run, metric), one in zip(wanted, drawn, strict=True)
    ]  # fmt: skip
    text = msgspec.json.encode(header)
    parts = [len(text).to_bytes(4, "little"), text, b"\0" * (-(4 + len(text)) % 8)]
    for one in drawn:
        parts += [array.astype("<f8").tobytes() for curve in (one.raw, one.smooth, one.ghost) for array in curve]
    return b"".join(parts)


def _read(body: Any) -> tuple[View, list[tuple[str, str]]]:
    if not isinstance(body, dict) or not isinstance(body.get("series"), list):
        raise Refused(400, "`series` should be a list of {run, metric}")
    if len(body["series"]) > _MOST_SERIES:
        raise Refused(400, f"{len(body['series']):,} series at once; ask for {_MOST_SERIES:,} at most")
    wanted = []
    for each in body["series"]:
        if not isinstance(each, dict) or not all(isinstance(each.get(key), str) for key in ("run", "metric")):
            raise Refused(400, "`series` should be a list of {run, metric}")
        wanted.append((each["run"], each["metric"]))
    axis = body.get("x", "step")
    if axis not in AXES:
        raise Refused(400, f"`x: {axis}` should be one of: {', '.join(AXES)}")
    low, high = (_number(body, key, None, -math.inf, math.inf) for key in ("from", "to"))
    width = _number(body, "width", 1000, 1, _WIDEST)
    smoothing = _number(body, "smoothing", 0.0, 0.0, 0.999)
    assert width is not None and smoothing is not None  # noqa: PT018
    return View(axis, low, high, int(width), float(smoothing)), wanted


def _number(body: dict[str, Any], key: str, otherwise: float | None, low: float, high: float) -> float | None:
    value = body.get(key)
    if value is None:
        return otherwise
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high or np.isnan(value):
        raise Refused(400, f"`{key}: {value}` should be a number from {low:g} to {high:g}")
    return float(value)
