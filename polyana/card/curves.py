"""A run's losses up to a step, as many as a small picture has room for, without reading the whole run.

What comes out follows from the steps alone, not from when or in how many attempts they were taken: a run that was
killed and resumed has the same curve, bit for bit. Rows of an attempt stand in the order of their steps, so those of a
step are found in a few looks; evaluations, which may be anywhere, are looked for once in each byte.
"""

from __future__ import annotations

import mmap
import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import msgspec

__all__ = ["Curve", "CurveReader"]

Curve = list[tuple[int, float]]
"""(step, loss), steps rising."""

_POINTS = 200  # of the training loss; a picture has three pixels for each
_MEAN_OF = 8  # steps at most that a point is the mean of; guess
_NEAR = 2048  # bytes: about seven rows, which are read faster than halved
_AT_ONCE = 8 << 20  # bytes looked through for evaluations at once
_STEP = re.compile(rb'\{"step":(\d+)')
_EVALUATED = b'"eval/loss":'


class _Row(msgspec.Struct):
    step: int = -1
    train: float | None = msgspec.field(default=None, name="train/loss")
    eval: float | None = msgspec.field(default=None, name="eval/loss")


_decode = msgspec.json.Decoder(_Row).decode


class _Attempt:
    """One file of metrics: the step it resumes at, and the evaluations in as much of it as was looked through."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with path.open("rb") as stream:
            header = msgspec.json.decode(stream.readline())
        self.resumes_at = int(header["resumes_at"])
        self.seen, self.evaluations = 0, dict[int, float]()

    def look(self, text: mmap.mmap) -> None:
        while self.seen < len(text):
            piece = text[self.seen : self.seen + _AT_ONCE]
            whole = piece.rfind(b"\n") + 1
            at = piece.find(_EVALUATED, 0, whole)
            while at >= 0:
                end = piece.find(b"\n", at) + 1
                row = _read(piece[piece.rfind(b"\n", 0, at) + 1 : end])
                if row is not None and row.eval is not None:
                    self.evaluations[row.step] = row.eval
                at = piece.find(_EVALUATED, end, whole)
            if not whole and len(piece) < _AT_ONCE:
                return  # a line that is being written
            self.seen += whole or len(piece)


class CurveReader:
    """The curves of the run whose metrics lie in a directory; asked again, it reads what has come."""

    def __init__(self, metrics: Path) -> None:
        self._metrics = metrics
        self._attempts: dict[Path, _Attempt] = {}

    def curves(self, step: int) -> tuple[Curve, Curve]:
        """The losses of training and of evaluation up to `step`."""
        train, evaluations = dict[int, float](), dict[int, float]()
        wanted = _wanted(step)
        for attempt, low, high in self._parts(step):
            with attempt.path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as text:
                attempt.look(text)
                mine = [each for each in wanted if low < each <= high]
                train |= _losses(text, mine)
            evaluations |= {at: loss for at, loss in attempt.evaluations.items() if low <= at <= high}
        points: Curve = []
        for begin, end in _windows(step):
            known = [train[each] for each in range(begin, end) if each in train]
            if known:
                points.append((end - 1, sum(known) / len(known)))
        return points, _thinned(sorted(evaluations.items()))

    def _parts(self, step: int) -> Iterator[tuple[_Attempt, int, int]]:
        """Each attempt, and the steps behind the first and up to the second of which it is the newest."""
        paths = sorted(self._metrics.glob("attempt-*.jsonl"))
        for path in paths:
            if path not in self._attempts:
                self._attempts[path] = _Attempt(path)
        high = step
        for path in reversed(paths):
            attempt = self._attempts[path]
            if attempt.resumes_at <= high:
                yield attempt, attempt.resumes_at, high
                high = attempt.resumes_at


def _windows(step: int) -> list[tuple[int, int]]:
    """(first step, one behind the last) of each point."""
    ends = sorted({round(number * step / _POINTS) for number in range(1, _POINTS + 1)} | ({1} if step else set()))
    width = max(1, min(_MEAN_OF, step // _POINTS))
    return [(end - width + 1, end + 1) for end in ends if end >= width]


def _wanted(step: int) -> list[int]:
    return sorted({each for begin, end in _windows(step) for each in range(begin, end)})


def _thinned(curve: Curve) -> Curve:
    """At most `_POINTS` of many, the first and the last among them."""
    if len(curve) <= _POINTS:
        return curve
    return [curve[round(place * (len(curve) - 1) / (_POINTS - 1))] for place in range(_POINTS)]


def _losses(text: mmap.mmap, steps: list[int]) -> dict[int, float]:
    """The training losses of some steps, rising, of one file."""
    found: dict[int, float] = {}
    gaps = [place for place, (one, other) in enumerate(pairwise(steps), 1) if other > one + 1]
    at, near = 0, 0
    for begin, end in pairwise([0, *gaps, len(steps)]):
        if begin == end:
            continue
        at = _find(text, steps[begin], at, near, steps[-1])
        near, last = steps[begin], steps[end - 1]
        for row in _rows(text, at):
            if row.step > last:
                break
            if row.train is not None and row.step >= steps[begin]:
                found[row.step] = row.train
    return found


def _rows(text: mmap.mmap, at: int) -> Iterator[_Row]:
    text.seek(at)
    while line := text.readline():
        row = _read(line)
        if row is not None:
            yield row


def _read(line: bytes) -> _Row | None:
    try:
        return _decode(line)
    except msgspec.DecodeError:  # torn, or by somebody else
        return None


def _find(text: mmap.mmap, step: int, low: int, low_step: int, high_step: int) -> int:
    """The beginning of a line not far before the first row of `step`, at `low`, where about `low_step` is, or behind
    it; about `high_step` is where the file ends. Rows are nearly of one length, so guessing finds it in a few looks."""
    high, looks = len(text), 0
    while high - low > _NEAR:
        looks += 1
        share = (step - low_step) / max(high_step - low_step, 1) if looks % 3 else 0.5
        middle = min(max(low + int((high - low) * share) - _NEAR // 2, low + 1), high - 1)
        at = text.find(b"\n", middle) + 1
        found = None
        while at and at < high and (found := _STEP.match(text, at)) is None:
            at = text.find(b"\n", at) + 1
        if not at or at >= high or found is None:
            high = middle
        elif int(found[1]) >= step:
            high, high_step = middle, int(found[1])
        else:
            low, low_step = at, int(found[1])
    return low
