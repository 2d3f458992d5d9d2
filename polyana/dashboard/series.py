"""POST /api/series: curves as binary, ready to be drawn.

request   {"series": [{"run", "metric"}], "x", "from", "to", "width", "smoothing"}
          "from", "to" and "width" may also stand beside a series, for that one alone
answer    uint32 LE length of a JSON header, the header, zero bytes up to a multiple of 8; then for each series
          float64 LE arrays: x and y of the raw curve, of the smoothed one, of the ghost
header    [{"run", "metric", "raw": points, "smooth": points, "ghost": points, "total": points in view,
          "marks": [x where an attempt went on], "read": share of the run that the index has read}]

Where `read` is below 1, the run is long and is being read for the first time: the curve is what is read and slices of
the rest, and is to be asked for again.
"""

from __future__ import annotations

import math
from typing import Any

import msgspec
import numpy as np

from polyana.dashboard.errors import Refused
from polyana.dashboard.runs import Catalogue
from polyana.tracking import AXES, Curves, Drawn, Sketch, View

__all__ = ["draw_series", "encode"]

_MOST_SERIES = 1000  # 20 metrics of 50 runs; guess
_WIDEST = 20_000  # buckets; guess


def draw_series(catalogue: Catalogue, body: Any) -> tuple[bytes, bool]:
    """(the answer to a request, whether all runs are read). Raises Refused when it is not understood; a run that is
    gone has no points."""
    views, wanted = _read(body)

    def draw() -> tuple[list[Drawn], dict[str, float]]:
        index, sketches = catalogue.index, dict[str, Sketch | None]()
        read = dict.fromkeys((run for run, _ in wanted), 1.0)
        for run in read:
            sketches[run] = None
            try:
                if long := catalogue.read_on(run):
                    sketches[run], read[run] = long
            except Refused:
                index.forget(run)
        with index.snapshot():
            curves = {run: Curves(index, run, sketch) for run, sketch in sketches.items()}
            return [curves[run].draw(metric, view) for (run, metric), view in zip(wanted, views, strict=True)], read

    drawn, read = catalogue.index.use(draw)
    return encode(wanted, drawn, read), min(read.values(), default=1.0) >= 1


def encode(wanted: list[tuple[str, str]], drawn: list[Drawn], read: dict[str, float]) -> bytes:
    """Curves as the answer's bytes. read: the share of each run that is read."""
    header = [
        {
            "run": run, "metric": metric, "raw": len(one.raw[0]), "smooth": len(one.smooth[0]),
            "ghost": len(one.ghost[0]), "total": one.total, "marks": one.marks, "read": min(read[run], 1.0),
        }
        for (run, metric), one in zip(wanted, drawn, strict=True)
    ]  # fmt: skip
    text = msgspec.json.encode(header)
    parts = [len(text).to_bytes(4, "little"), text, b"\0" * (-(4 + len(text)) % 8)]
    for one in drawn:
        parts += [array.astype("<f8").tobytes() for curve in (one.raw, one.smooth, one.ghost) for array in curve]
    return b"".join(parts)


def _read(body: Any) -> tuple[list[View], list[tuple[str, str]]]:
    """(views, (run, metric)) of each series."""
    if not isinstance(body, dict) or not isinstance(body.get("series"), list):
        raise Refused(400, "`series` should be a list of {run, metric}")
    if len(body["series"]) > _MOST_SERIES:
        raise Refused(400, f"{len(body['series']):,} series at once; ask for {_MOST_SERIES:,} at most")
    views, wanted = [], []
    axis = body.get("x", "step")
    if axis not in AXES:
        raise Refused(400, f"`x: {axis}` should be one of: {', '.join(AXES)}")
    smoothing = _number(body, "smoothing", 0.0, 0.0, 0.999)
    common = _range(body)
    for each in body["series"]:
        if not isinstance(each, dict) or not all(isinstance(each.get(key), str) for key in ("run", "metric")):
            raise Refused(400, "`series` should be a list of {run, metric}")
        wanted.append((each["run"], each["metric"]))
        low, high, width = common if len(each) == 2 else _range(body | each)
        views.append(View(axis, low, high, width, smoothing or 0.0))
    return views, wanted


def _range(of: dict[str, Any]) -> tuple[float | None, float | None, int]:
    low, high = (_number(of, key, None, -math.inf, math.inf) for key in ("from", "to"))
    return low, high, int(_number(of, "width", 1000, 1, _WIDEST) or 1)


def _number(body: dict[str, Any], key: str, otherwise: float | None, low: float, high: float) -> float | None:
    value = body.get(key)
    if value is None:
        return otherwise
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high or np.isnan(value):
        raise Refused(400, f"`{key}: {value}` should be a number from {low:g} to {high:g}")
    return float(value)
