"""A first look at a run whose files are long and have not been read: slices spread evenly over what is left.

A thousand slices of some lines each are read in a moment, however long the file is. They show the shape of every curve,
and not yet each of its points: whoever draws them says how much has been read, and draws again.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from polyana.tracking.index import SHORT, Index, IndexedAttempt, in_line
from polyana.tracking.rows import Floats, Rows, parse

__all__ = ["Sketch", "draw_sketch"]

_SLICES = 1024  # about as many as a chart has pixels
_LINES = 4  # whole ones in a slice, so that it shows how wide the noise is
_LEAST, _MOST = 4 << 10, 8 << 20  # bytes of a slice (a page of the file's cache), and of all: 80 ms of parsing
_PIECE = 512 << 10  # bytes parsed at once
_BEGINNING = 64 << 10  # bytes that tell how long a line is


@dataclass(frozen=True)
class Sketch:
    """rows: by attempt's number. Times are seconds since 1970."""

    rows: dict[int, Rows]

    def metrics(self) -> set[str]:
        return {metric for rows in self.rows.values() for metrics in rows.matrices for metric in metrics}

    def beside(self, known: list[IndexedAttempt]) -> list[IndexedAttempt]:
        """All attempts: those that the index knows, and those of which only slices are known, with an id that no
        attempt has."""
        numbers = {attempt.number for attempt in known}
        more = [
            IndexedAttempt(-number, number, *_header(rows, number), math.inf)
            for number, rows in self.rows.items()
            if number not in numbers and rows.matrices
        ]
        return in_line(sorted([*known, *more], key=lambda attempt: attempt.number)) if more else known

    def points(self, attempt: int, metric: str) -> Floats | None:
        """[3, N]: steps, times and values of one metric in the slices of an attempt."""
        rows = self.rows.get(attempt)
        matrices = [] if rows is None else rows.matrices.items()
        found = [
            matrix[[0, 1, 2 + metrics.index(metric)]]
            for metrics, each in matrices
            if metric in metrics
            for matrix in each
        ]
        return np.concatenate(found, axis=1) if found else None

    def time_of(self, attempt: int, step: int) -> float:
        """When an attempt was done with `step`, as far as the slices know; 0 where they have nothing so early."""
        rows = self.rows.get(attempt)
        each = [] if rows is None else [matrix for matrices in rows.matrices.values() for matrix in matrices]
        return max((float(matrix[1, matrix[0] <= step].max(initial=0.0)) for matrix in each), default=0.0)


def draw_sketch(index: Index, run: str, metrics: Path) -> Sketch | None:
    """Slices of what the index has not read of a run's files; None where that is so little that reading it all takes
    no longer."""
    read, left = index.read_to(run), []
    for path in sorted(metrics.glob("attempt-*.jsonl")):
        number = int(path.stem.removeprefix("attempt-"))
        with suppress(FileNotFoundError):  # deleted this very moment
            found = path.stat()
            inode, offset = read.get(number, (found.st_ino, 0))
            begin = offset if inode == found.st_ino and offset <= found.st_size else 0
            left.append((number, path, begin, found.st_size))
    total = sum(end - begin for _, _, begin, end in left)
    if total <= SHORT:
        return None
    sketched = {}
    for number, path, begin, end in left:
        rows = Rows()
        with suppress(FileNotFoundError), path.open("rb") as file:
            for piece in _pieces(_slices(file.fileno(), begin, end, (end - begin) / total)):
                parse(piece, 0, rows)
        sketched[number] = rows
    return Sketch(sketched)


def _header(rows: Rows, number: int) -> tuple[int, float]:
    """(step at which it resumes, when it started); from its first row where the header is damaged."""
    if rows.header:
        return rows.header["resumes_at"], rows.header["time"]
    firsts = [matrices[0][:2, 0] for matrices in rows.matrices.values()]
    step, time = min(int(first[0]) for first in firsts), min(float(first[1]) for first in firsts)
    return step - 1 if number > 1 else 0, time


def _slices(file: int, begin: int, end: int, share: float) -> Iterator[bytes]:
    """Whole lines of an open file, from slices between two bytes; the first byte begins a line. share: of all that is
    spent on a run."""
    beginning = os.pread(file, min(_BEGINNING, end - begin), begin)
    long = max(_LEAST, min(_LINES * len(beginning) // max(1, beginning.count(b"\n")), _MOST))
    count = max(1, min(int(share * _SLICES), int(share * _MOST) // long))
    apart = (end - begin) / count
    if apart <= long:
        yield from _whole(file, begin, end, True)
        return
    for place in range(count):
        at = begin + int(place * apart)
        yield from _whole(file, at, at + long, place == 0)
    yield from _whole(file, end - long, end, False)


def _whole(file: int, begin: int, end: int, at_line: bool) -> Iterator[bytes]:
    piece = os.pread(file, end - begin, begin)
    first, last = 0 if at_line else piece.find(b"\n") + 1, piece.rfind(b"\n") + 1
    if first < last:
        yield piece[first:last]


def _pieces(slices: Iterator[bytes]) -> Iterator[bytes]:
    """Slices put together until it is worth while to parse them."""
    waiting, size = [], 0
    for each in slices:
        waiting.append(each)
        size += len(each)
        if size >= _PIECE:
            yield b"".join(waiting)
            waiting, size = [], 0
    yield b"".join(waiting)
