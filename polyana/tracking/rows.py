"""The lines of an attempt's file sorted into matrices of numbers and records, damaged ones counted."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import chain, compress, islice
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from polyana.tracking.metrics import RECORDS

__all__ = ["Floats", "Rows", "parse", "read_lines"]

Floats = NDArray[np.float64]

_SLICE = 1 << 19  # bytes parsed at once: what comes of it stays in the processor's cache; 1.4 times as fast as 8 MB
_LARGEST_STEP = 2**53  # beyond it a float64, as steps are while they are parsed, skips numbers
_FIRST_LINES = 8  # of which one says what metrics a slice may have: a header or records may stand before it; guess
_KEPT = 64  # sets of metrics for which a class is kept; guess
_CLOCK = 1.0  # seconds that the clock may go back unmentioned; guess
_decoder = msgspec.json.Decoder()


@dataclass
class Rows:
    """What a piece of a file says.

    matrices: by the metrics of the rows, [2 + metrics, rows] with steps and times first. records: (kind, name, step,
    time, JSON). header: of the file, {} when it is damaged. damaged: lines, damaged_at: a byte not behind the first.
    moment: the last row's time; jumps: how often the clock went back.
    """

    matrices: dict[tuple[str, ...], list[Floats]] = field(default_factory=dict)
    records: list[tuple[str, str, int, float | None, str]] = field(default_factory=list)
    header: dict[str, Any] | None = None
    damaged: int = 0
    damaged_at: int | None = None
    moment: float = 0.0
    jumps: int = 0

    def add(self, later: Rows) -> None:
        """Take in what the lines behind these say."""
        for metrics, matrices in later.matrices.items():
            self.matrices.setdefault(metrics, []).extend(matrices)
        self.records += later.records
        self.header = later.header if self.header is None else self.header
        self.damaged += later.damaged
        self.damaged_at = later.damaged_at if self.damaged_at is None else self.damaged_at
        if later.matrices:
            self.jumps += later.jumps or int(later.moment < self.moment - _CLOCK)
            self.moment = later.moment


def read_lines(file: int, begin: int, end: int, into: Rows) -> int:
    """Sort the whole lines of an open file that stand from byte `begin` to `end`; the byte behind the last of them."""
    while begin < end:
        piece = os.pread(file, min(_SLICE, end - begin), begin)
        whole = piece.rfind(b"\n") + 1
        while not whole and (
            more := os.pread(file, min(max(_SLICE, len(piece)), end - begin - len(piece)), begin + len(piece))
        ):
            piece += more  # a line longer than a slice
            whole = piece.rfind(b"\n") + 1
        if not whole:
            break
        parse(piece[:whole], begin, into)
        begin += whole
    return begin


def parse(piece: bytes, offset: int, into: Rows) -> None:
    """Sort whole lines, which begin at byte `offset` of the file, into scalars and records."""
    moments: list[Floats] = []
    odd = _take_like_rows(piece, into, moments)
    try:
        found = _decoder.decode_lines(b"".join(odd.values()))
    except (msgspec.DecodeError, UnicodeDecodeError):
        found = list(_readable(odd, offset, into))
    if offset == 0 and found and isinstance(found[0], dict) and "resumes_at" in found[0]:
        into.header = _header(found.pop(0))
    if set(map(type, found)) - {dict}:
        rows = [row for row in found if isinstance(row, dict)]
        _damage(into, len(found) - len(rows), offset)
        found = rows
    shapes = list(map(tuple, found))
    for keys in dict.fromkeys(shapes):
        rows = list(compress(found, map(keys.__eq__, shapes)))  # no line of Python for each row
        kind = next((kind for kind in RECORDS if kind in keys), None)
        if kind is not None:
            for row in rows:
                _take_record(kind, row, offset, into)
            continue
        matrix = _matrix(keys, chain.from_iterable(map(dict.values, rows)), len(rows))
        if matrix is None:
            whole = [row for row in rows if _is_scalars(row)]
            _damage(into, len(rows) - len(whole), offset)
            numbers = [_number(value) for row in whole for value in row.values()]
            matrix = _matrix(keys, numbers, len(whole))
        if matrix is not None:
            _take_matrix(keys, matrix, into, moments)
    if moments:
        _watch_clock(moments, _time_of_last(piece), into)


def _take_like_rows(piece: bytes, into: Rows, moments: list[Floats]) -> dict[int, bytes]:
    """Take in the scalars with the metrics that most lines have; what is left, by where it stands in the piece.

    A class with a slot a metric takes half the time of a dict a row, and refuses every line that has other keys, or
    what is no number.
    """
    keys = next(filter(None, map(_scalar_keys, islice(_lines(piece), _FIRST_LINES))), None)
    if keys is None:
        return {0: piece}
    decoder, odd = _like(keys), dict[int, bytes]()
    try:
        rows = decoder.decode_lines(piece)
    except (msgspec.DecodeError, UnicodeDecodeError):
        rows, at = [], 0
        for line in _lines(piece):
            try:
                rows.append(decoder.decode(line))
            except (msgspec.DecodeError, UnicodeDecodeError):
                odd[at] = line
                if len(odd) > len(rows) + _FIRST_LINES:  # now these metrics, now those
                    return {0: piece}
            at += len(line)
    numbers = list(map(msgspec.structs.astuple, rows))
    matrix = _matrix(keys, chain.from_iterable(numbers), len(rows))
    if matrix is None:  # for there are nulls
        matrix = _matrix(keys, map(_number, chain.from_iterable(numbers)), len(rows))
    if matrix is None:
        return {0: piece}
    _take_matrix(keys, matrix, into, moments)
    return odd


def _lines(piece: bytes) -> Iterator[bytes]:
    begin = 0
    while end := piece.find(b"\n", begin) + 1:
        yield piece[begin:end]
        begin = end


def _scalar_keys(line: bytes) -> tuple[str, ...]:
    """The names in a line of scalars; () when it is none."""
    try:
        row = _decoder.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return ()
    if not isinstance(row, dict) or not _is_scalars(row) or any(kind in row for kind in RECORDS):
        return ()
    return tuple(row)


@lru_cache(_KEPT)
def _like(keys: tuple[str, ...]) -> msgspec.json.Decoder[Any]:
    """Reads lines that have these keys and no others, each with a number or null."""
    fields = [
        (f"f{place}", float if key in ("step", "time") else float | None, msgspec.field(name=key))
        for place, key in enumerate(keys)
    ]
    return msgspec.json.Decoder(msgspec.defstruct("Row", fields, gc=False, forbid_unknown_fields=True))


def _take_matrix(keys: tuple[str, ...], matrix: Floats, into: Rows, moments: list[Floats]) -> None:
    if matrix.shape[1]:
        names = [name for name in keys if name not in ("step", "time")]
        places = [keys.index("step"), keys.index("time"), *(keys.index(name) for name in names)]
        into.matrices.setdefault(tuple(names), []).append(matrix[places])
        moments.append(matrix[places[1]])


def _time_of_last(piece: bytes) -> Any:
    """What the last line says of its time."""
    try:
        row = _decoder.decode(piece[piece.rfind(b"\n", 0, -1) + 1 :])
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    return row.get("time") if isinstance(row, dict) else None


def _watch_clock(moments: list[Floats], last: Any, into: Rows) -> None:
    """Count where the clock went back; `moments`: the times of each set of rows, `last`: of the last row of all."""
    before, newest = into.moment, max(float(times.max()) for times in moments)
    jumps = sum(int(np.sum(np.diff(times) < -_CLOCK)) for times in moments)
    into.moment = float(last) if isinstance(last, int | float) else newest
    into.jumps += jumps or int(into.moment < max(before, newest) - _CLOCK)


def _readable(odd: dict[int, bytes], offset: int, into: Rows) -> Iterator[Any]:
    for at, lines in odd.items():
        place = offset + at
        for line in lines.splitlines(keepends=True):
            try:
                yield _decoder.decode(line)
            except (msgspec.DecodeError, UnicodeDecodeError):
                _damage(into, 1, place)
            place += len(line)


def _damage(into: Rows, lines: int, offset: int) -> None:
    into.damaged += lines
    if lines and into.damaged_at is None:
        into.damaged_at = offset


def _header(row: dict[str, Any]) -> dict[str, Any]:
    whole = isinstance(row["resumes_at"], int) and isinstance(row.get("time"), int | float)
    return row if whole else {}


def _matrix(keys: tuple[str, ...], numbers: Iterable[Any], rows: int) -> Floats | None:
    """[keys, rows] of what stands in the rows, one after the other; None unless all are numbers and each row has a step
    and a time."""
    if "step" not in keys or "time" not in keys:
        return None
    try:
        flat = np.fromiter(numbers, np.float64, len(keys) * rows)
    except (TypeError, ValueError):
        return None
    matrix = flat.reshape(rows, len(keys)).T
    steps = matrix[keys.index("step")]
    return matrix if bool(np.all((steps >= 0) & (steps == np.floor(steps)) & (steps < _LARGEST_STEP))) else None


def _is_scalars(row: dict[str, Any]) -> bool:
    step = row.get("step")
    numbers = all(value is None or isinstance(value, int | float) for value in row.values())
    return isinstance(step, int) and 0 <= step < _LARGEST_STEP and isinstance(row.get("time"), int | float) and numbers


def _number(value: float | None) -> float:
    return float("nan") if value is None else value


def _take_record(kind: str, row: dict[str, Any], offset: int, into: Rows) -> None:
    step, time, about = row.get("step"), row.get("time"), row[kind]
    named = about if kind == "histograms" else {about: row} if isinstance(about, str) else None
    if not isinstance(step, int) or not isinstance(named, dict):
        _damage(into, 1, offset)
        return
    for name, content in named.items():
        text = msgspec.json.encode(content).decode()
        into.records.append((kind, name, step, time if isinstance(time, int | float) else None, text))
