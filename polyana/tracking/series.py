"""A metric as a chart needs it: the attempts put together, smoothed over all points, then as few as there are pixels.

For each step the newest attempt that covers it is the curve; what an earlier one had logged behind the step that the
next went on from is its *ghost*. Where a chart shows millions of points, the lowest and the highest of each 64 stand
for them, so no spike is lost.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from polyana.tracking.blocks import BLOCK, PEAK
from polyana.tracking.index import Blocks, Index, IndexedAttempt, Integers
from polyana.tracking.rows import Floats
from polyana.tracking.sketch import Sketch
from polyana.tracking.thinning import pick_extremes, smooth

__all__ = ["AXES", "Axis", "Curves", "Drawn", "View"]

Axis = Literal["step", "tokens", "epoch", "time", "relative"]
"""`time`: seconds since 1970; `relative`: seconds of training that led here, without pauses and work done again."""
AXES: tuple[str, ...] = get_args(Axis)

_FORGOTTEN = 1e-12  # a weight below which an earlier point no longer counts in a smoothed one: below any pixel
_PARTS_A_BUCKET = 2  # 64-point parts, at least, for a bucket to be drawn from them: else each is drawn from all points


@dataclass(frozen=True)
class View:
    """What part of a curve is drawn, and how.

    low, high: of x, both within; None: where the curve begins and ends. width: buckets. smoothing: 0 to below 1.
    """

    x: Axis = "step"
    low: float | None = None
    high: float | None = None
    width: int = 1000
    smoothing: float = 0.0


@dataclass(frozen=True)
class Drawn:
    """Points to draw, x increasing in each curve; y NaN: not finite. The attempts of the ghost are parted by NaN.

    total: points of the curve in view. marks: x where an attempt has gone on.
    """

    raw: tuple[Floats, Floats]
    smooth: tuple[Floats, Floats]
    ghost: tuple[Floats, Floats]
    total: int
    marks: list[float]


@dataclass(frozen=True)
class _Strip:
    """A metric's points in the rows of one shape of an attempt."""

    attempt: IndexedAttempt
    series: int
    shape: int
    blocks: Blocks


@dataclass(frozen=True)
class _Points:
    """N points of one attempt, steps strictly increasing."""

    attempt: IndexedAttempt
    steps_N: Integers
    times_N: Floats
    values_N: Floats

    def where(self, mask_N: np.ndarray) -> _Points:
        return _Points(self.attempt, self.steps_N[mask_N], self.times_N[mask_N], self.values_N[mask_N])


class Curves:
    """The curves of one run; what several of them share is read once. Used within one `snapshot` of the index, unless
    nobody else reads on. `sketch`: of what the index has not read."""

    def __init__(self, index: Index, run: str, sketch: Sketch | None = None) -> None:
        self._index, self._sketch = index, sketch
        known = index.attempts(run)
        self.attempts = known if sketch is None else sketch.beside(known)
        self._positions: dict[tuple[int, int, int], tuple[Integers, Floats]] = {}
        self._blocks: dict[int, Blocks] = {}
        self._references: dict[str, tuple[Floats, Floats]] = {}
        self._offsets = self._before_each()

    def points(self, metric: str) -> tuple[Integers, Floats]:
        """(steps, values) of the whole curve, steps strictly increasing."""
        kept, _ = self._read(self._strips(metric), self._sketched(metric), None, None)
        steps, _, values = _joined(kept, [points.times_N for points in kept])
        return steps, values

    def draw(self, metric: str, view: View) -> Drawn:
        """A curve in a view. Without points where the run has no such metric, or none to tell its x by."""
        strips, sketched = self._strips(metric), self._sketched(metric)
        first, last = self._steps_in(strips, sketched, view)
        blocks = self._in_reach(strips, first, last)
        parts = sum(int(strip.blocks.counts_B[chosen].sum()) for strip, chosen in blocks) / PEAK
        summarised = view.smoothing == 0 and parts >= _PARTS_A_BUCKET * view.width
        begin = first if view.smoothing == 0 else self._reach_back(strips, first, view.smoothing)
        kept, lost = self._read(strips, sketched, begin, last, summarised)
        each_x = [self._x(view.x, points.attempt, points.steps_N, points.times_N) for points in kept]
        _, x, values = _joined(kept, each_x)
        inside = _inside(x, view)
        smoothed = smooth(values, view.smoothing)[inside] if view.smoothing else np.empty(0)
        x, values = x[inside], values[inside]
        total = self._count(blocks, first, last, view) if summarised and not sketched else len(x)
        return Drawn(
            _thinned(x, values, view),
            _thinned(x, smoothed, view) if view.smoothing else (np.empty(0), np.empty(0)),
            self._ghost(lost, view),
            total,
            self._marks(view),
        )

    # Reading

    def _strips(self, metric: str) -> list[_Strip]:
        return [
            _Strip(attempt, series, shape, self._blocks_of(shape))
            for attempt in self.attempts
            for series, shape in self._index.strips(attempt.id, metric)
        ]

    def _sketched(self, metric: str) -> list[_Points]:
        """A metric's points in the slices of what the index has not read, some of which it may have read since."""
        found = []
        for attempt in self.attempts if self._sketch is not None else []:
            assert self._sketch is not None
            points = self._sketch.points(attempt.number, metric)
            if points is not None:
                found.append(_Points(attempt, points[0].astype(np.int64), points[1], points[2]))
        return found

    def _blocks_of(self, shape: int) -> Blocks:
        if shape not in self._blocks:
            self._blocks[shape] = self._index.blocks(shape)
        return self._blocks[shape]

    def _in_reach(self, strips: list[_Strip], first: float | None, last: float | None) -> list[tuple[_Strip, slice]]:
        """The blocks of each strip that may hold steps from `first` to `last`."""
        found = []
        for strip in strips:
            reach = np.ones(len(strip.blocks.counts_B), dtype=bool)
            if first is not None:
                reach &= strip.blocks.lasts_B >= first
            if last is not None:
                reach &= strip.blocks.firsts_B <= last
            places = np.flatnonzero(reach)
            if len(places):
                found.append((strip, slice(int(places[0]), int(places[-1]) + 1)))
        return found

    def _read(
        self,
        strips: list[_Strip],
        sketched: list[_Points],
        first: float | None,
        last: float | None,
        summarised: bool = False,
    ) -> tuple[list[_Points], list[_Points]]:
        """(curve, ghost) between two steps, by attempts; `summarised`: the extremes of each 64 points alone."""
        by_attempt: dict[int, list[_Points]] = {}
        for points in sketched:
            inside = (points.steps_N >= _or(first, -math.inf)) & (points.steps_N <= _or(last, math.inf))
            by_attempt[points.attempt.number] = [points.where(inside)]
        for strip, chosen in self._in_reach(strips, first, last):
            numbers = strip.blocks.numbers_B[chosen]
            steps, times = self._places(strip.shape, int(numbers[0]), int(numbers[-1]))
            if summarised:
                at, values = self._extremes(strip, chosen)
                steps, times = steps[at], times[at]
            else:
                values = self._index.values(strip.series, int(numbers[0]), int(numbers[-1]))
            points = _Points(strip.attempt, steps, times, values)
            if first is not None or last is not None:
                points = points.where((steps >= _or(first, -math.inf)) & (steps <= _or(last, math.inf)))
            by_attempt.setdefault(strip.attempt.number, []).append(points)
        kept: list[_Points] = []
        lost: list[_Points] = []
        for number in sorted(by_attempt):
            points = _in_order(by_attempt[number])
            if not len(points.steps_N):
                continue
            if points.steps_N[-1] > points.attempt.covers_to:
                lost.append(points.where(points.steps_N > points.attempt.covers_to))
                points = points.where(points.steps_N <= points.attempt.covers_to)
            kept.append(points)
        return kept, lost

    def _places(self, shape: int, first: int, last: int) -> tuple[Integers, Floats]:
        key = (shape, first, last)
        if key not in self._positions:
            self._positions[key] = self._index.positions(*key)
        return self._positions[key]

    def _extremes(self, strip: _Strip, chosen: slice) -> tuple[Integers, Floats]:
        """(where, what) the lowest and the highest of each 64 points are; all points of the first and the last block,
        and of that in which the curve becomes a ghost."""
        numbers, counts = strip.blocks.numbers_B[chosen], strip.blocks.counts_B[chosen]
        peaks = self._index.peaks(strip.series, int(numbers[0]), int(numbers[-1]))
        begins, covers_to = np.arange(len(numbers)) * BLOCK, strip.attempt.covers_to
        whole = (strip.blocks.firsts_B[chosen] <= covers_to) & (strip.blocks.lasts_B[chosen] >= covers_to)
        whole[[0, -1]] = True
        summed = peaks[~whole[: len(peaks)]]
        at = [(summed[name] + begins[~whole, None]).ravel() for name in ("low_at", "high_at")]
        values = [summed[name].ravel() for name in ("low", "high")]
        for place in np.flatnonzero(whole):
            at.append(begins[place] + np.arange(counts[place]))
            values.append(self._index.values(strip.series, int(numbers[place]), int(numbers[place])))
        where, places = np.unique(np.concatenate(at), return_index=True)
        return where, np.concatenate(values)[places]

    def _reach_back(self, strips: list[_Strip], first: float | None, smoothing: float) -> float | None:
        """The step to read from, so that points from `first` on are smoothed as if all were read."""
        if first is None:
            return None
        wanted = math.log(_FORGOTTEN) / math.log(smoothing)
        before = [
            (int(start), int(count))
            for strip in strips
            for start, end, count in zip(
                strip.blocks.firsts_B, strip.blocks.lasts_B, strip.blocks.counts_B, strict=True
            )
            if end < first and end <= strip.attempt.covers_to
        ]
        for start, count in sorted(before, reverse=True):
            wanted -= count
            if wanted <= 0:
                return start
        return None

    def _count(self, blocks: list[tuple[_Strip, slice]], first: float | None, last: float | None, view: View) -> int:
        """How many points of the curve are in view; one where a step was logged twice counts twice."""
        total = 0
        for strip, chosen in blocks:
            numbers = strip.blocks.numbers_B[chosen]
            steps, times = self._places(strip.shape, int(numbers[0]), int(numbers[-1]))
            inside = steps <= min(_or(last, math.inf), strip.attempt.covers_to)
            if first is not None:
                inside &= steps >= first
            if view.x != "step" and (view.low is not None or view.high is not None):
                inside &= _inside(self._x(view.x, strip.attempt, steps, times), view)
            total += int(np.count_nonzero(inside))
        return total

    # x

    def _steps_in(self, strips: list[_Strip], sketched: list[_Points], view: View) -> tuple[float | None, float | None]:
        """Steps between which everything in view lies."""
        if view.low is None and view.high is None:
            return None, None
        if view.x == "step":
            return view.low, view.high
        if view.x in ("tokens", "epoch"):
            steps, x = self._reference(view.x)
            before = int(np.searchsorted(x, _or(view.low, -math.inf), side="left")) - 1
            behind = int(np.searchsorted(x, _or(view.high, math.inf), side="right"))
            return float(steps[before]) if before >= 0 else None, float(steps[behind]) if behind < len(x) else None
        first, last = math.inf, -math.inf
        each = [(points.attempt, points.steps_N, points.times_N) for points in sketched]
        for strip in strips:
            numbers = strip.blocks.numbers_B
            if len(numbers):
                each.append((strip.attempt, *self._places(strip.shape, int(numbers[0]), int(numbers[-1]))))
        for attempt, steps_N, times in each:
            inside = steps_N[_inside(self._x(view.x, attempt, steps_N, times), view)]
            first = min([first, *inside[:1], *inside[-1:]])
            last = max([last, *inside[:1], *inside[-1:]])
        return first, last

    def _x(self, axis: Axis, attempt: IndexedAttempt, steps: Integers, times: Floats) -> Floats:
        """x of points of one attempt; never falling, even where the clock does."""
        if axis == "step":
            return steps.astype(np.float64)
        if axis in ("tokens", "epoch"):
            reference_steps, reference = self._reference(axis)
            if not len(reference):
                return np.full(len(steps), np.nan)
            same = max(len(reference_steps) - len(steps), 0)  # where its own steps begin when it has them all
            if np.array_equal(steps, reference_steps[same:]):
                return reference[same:]
            return np.interp(steps, reference_steps, reference)
        if axis == "relative":
            times = times + (self._offsets[attempt.number] - attempt.started)
        return np.maximum.accumulate(times) if len(times) else times

    def _reference(self, axis: str) -> tuple[Floats, Floats]:
        """(steps, x) of the curve that says how far training was at each step; begins at step 0, where x is 0."""
        if axis not in self._references:
            steps, x = self.points(f"train/{axis}")
            known = ~np.isnan(x)
            steps, x = steps[known], x[known]
            if len(steps) and steps[0] > 0:
                steps, x = np.concatenate([[0], steps]), np.concatenate([[0.0], x])
            rising = np.maximum.accumulate(x) if len(x) else x
            self._references[axis] = steps.astype(np.float64), rising
        return self._references[axis]

    def _before_each(self) -> dict[int, float]:
        """Attempt -> seconds of training that led to where it went on."""
        offsets: dict[int, float] = {}
        for place, attempt in enumerate(self.attempts):
            earlier = [one for one in self.attempts[:place] if one.resumes_at < attempt.resumes_at]
            offsets[attempt.number] = 0.0
            if earlier:
                # the newest one before it that has come so far is what it went on from
                moment = self._index.time_of(earlier[-1].id, attempt.resumes_at)
                if self._sketch is not None:
                    moment = max(moment, self._sketch.time_of(earlier[-1].number, attempt.resumes_at))
                offsets[attempt.number] = offsets[earlier[-1].number] + max(moment - earlier[-1].started, 0.0)
        return offsets

    def _marks(self, view: View) -> list[float]:
        marks = []
        for attempt in self.attempts[1:]:
            at = np.array([attempt.resumes_at])
            x = float(self._x(view.x, attempt, at, np.array([attempt.started]))[0])
            if not math.isnan(x) and _or(view.low, -math.inf) <= x <= _or(view.high, math.inf):
                marks.append(x)
        return marks

    def _ghost(self, lost: list[_Points], view: View) -> tuple[Floats, Floats]:
        """The pieces that were done again, NaN between two."""
        pieces: list[tuple[Floats, Floats]] = []
        for points in lost:
            x = self._x(view.x, points.attempt, points.steps_N, points.times_N)
            inside = _inside(x, view)
            piece = _thinned(x[inside], points.values_N[inside], view)
            if len(piece[0]):
                pieces += [(np.array([np.nan]), np.array([np.nan]))] if pieces else []
                pieces.append(piece)
        if not pieces:
            return np.empty(0), np.empty(0)
        x, y = (np.concatenate(each) for each in zip(*pieces, strict=True))
        return x, y


def _or(value: float | None, otherwise: float) -> float:
    return otherwise if value is None else value


def _inside(x: Floats, view: View) -> np.ndarray:
    return np.asarray((x >= _or(view.low, -math.inf)) & (x <= _or(view.high, math.inf)))


def _in_order(strips: list[_Points]) -> _Points:
    """The points of one attempt by step; of several at one step what was written last."""
    if len(strips) == 1 and bool(np.all(np.diff(strips[0].steps_N) > 0)):
        return strips[0]
    steps, times, values = (
        np.concatenate([getattr(points, name) for points in strips]) for name in ("steps_N", "times_N", "values_N")
    )
    order = np.lexsort((times, steps)) if len(strips) > 1 else np.argsort(steps, kind="stable")
    final = order[np.append(np.diff(steps[order]) > 0, True)] if len(order) else order
    return _Points(strips[0].attempt, steps[final], times[final], values[final])


def _joined(attempts: list[_Points], x: list[Floats]) -> tuple[Integers, Floats, Floats]:
    """(steps, x, values) of a curve from its attempts and their x; where two have a step, the newer one's."""
    if not attempts:
        return np.empty(0, dtype=np.int64), np.empty(0), np.empty(0)
    if len(attempts) == 1:
        return attempts[0].steps_N, x[0], attempts[0].values_N
    steps = np.concatenate([points.steps_N for points in attempts])
    joined_x, values = np.concatenate(x), np.concatenate([points.values_N for points in attempts])
    if bool(np.any(np.diff(steps) <= 0)):
        order = np.argsort(steps, kind="stable")
        order = order[np.append(np.diff(steps[order]) > 0, True)]
        steps, joined_x, values = steps[order], joined_x[order], values[order]
    return steps, np.maximum.accumulate(joined_x), values


def _thinned(x: Floats, y: Floats, view: View) -> tuple[Floats, Floats]:
    chosen = pick_extremes(x, y, view.width, view.low, view.high)
    return x[chosen], y[chosen]
