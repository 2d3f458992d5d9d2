"""What a file's rows are in the index: shapes, blocks of 1,024 rows, and the lowest and highest of each 64 points."""

from __future__ import annotations

import os
import sqlite3

import msgspec
import numpy as np
from numpy.typing import NDArray

from polyana.tracking.rows import Floats, Rows, read_lines

__all__ = ["BLOCK", "PEAK", "PEAKS", "TRANSACTION", "between", "find", "find_peaks", "forget", "read_on", "take_in"]

BLOCK = 1024
"""Rows in a block. 8 KB a blob: rows of a database at 590 ms are 16 ms as blobs of this size (20 x 50,000 points)."""
PEAK = 64
"""Points that one lowest and highest stand for: a summary is then 1/25 of the values. Guess."""
PEAKS = np.dtype([("low_at", "<u2"), ("high_at", "<u2"), ("low", "<f8"), ("high", "<f8")])

TRANSACTION = 32 << 20
"""Bytes of a file behind which the index is stored and another server may have its turn; guess."""
_MOST_SHAPES = (
    64  # of an attempt; then each metric is by itself, for whoever logs now this, now that fills no block; guess
)


def between(identifier: int, first: int, last: int) -> tuple[int, int]:
    return int(identifier) << 24 | int(first), int(identifier) << 24 | int(last)


# One file


def find(connection: sqlite3.Connection, run: str, number: int, file: int) -> tuple[int, int, float]:
    """(attempt, how far it is read, its last row's time); from the beginning where it is another file, or a shorter one
    than was read."""
    found = os.fstat(file)
    row = connection.execute(
        "SELECT id, inode, beginning, offset, moment FROM attempts WHERE run = ? AND number = ?", (run, number)
    ).fetchone()
    if row is not None:
        attempt, inode, beginning, offset, moment = row
        if inode == found.st_ino and found.st_size >= offset and os.pread(file, len(beginning), 0) == beginning:
            return attempt, offset, moment
        forget(connection, run, number)
    cursor = connection.execute(
        "INSERT INTO attempts(run, number, inode, beginning, size, offset, scalars, damaged, jumps, moment) "
        "VALUES (?, ?, ?, '', 0, 0, 0, 0, 0, 0)",
        (run, number, found.st_ino),
    )
    assert cursor.lastrowid is not None
    return cursor.lastrowid, 0, 0.0


def read_on(connection: sqlite3.Connection, run: str, number: int, file: int) -> tuple[int, bool]:
    """Take in the next part of an attempt's file; how far it is read now, and whether there is more."""
    attempt, begin, moment = find(connection, run, number, file)
    rows, size = Rows(moment=moment), os.fstat(file).st_size
    end = read_lines(file, begin, min(size, begin + TRANSACTION), rows)
    if end == begin and size > begin + TRANSACTION:  # a line longer than that
        end = read_lines(file, begin, size, rows)
    more = end > begin and begin + TRANSACTION < size
    take_in(connection, attempt, rows, file, end, end if more else size)
    return end, more


def take_in(connection: sqlite3.Connection, attempt: int, rows: Rows, file: int, end: int, size: int) -> None:
    """Store the rows of an attempt's file that stand before byte `end` and behind what is stored. size: bytes that have
    been looked at; behind `end` they are a torn line."""
    _store(connection, attempt, rows)
    header = rows.header or {}
    scalars = sum(matrix.shape[1] for matrices in rows.matrices.values() for matrix in matrices)
    connection.execute(
        "UPDATE attempts SET resumes_at = coalesce(resumes_at, ?), started = coalesce(started, ?), beginning = ?, "
        "size = ?, offset = ?, scalars = scalars + ?, damaged = damaged + ?, damaged_at = coalesce(damaged_at, ?), "
        "jumps = jumps + ?, moment = ? WHERE id = ?",
        (header.get("resumes_at"), header.get("time"), os.pread(file, min(512, end), 0), size, end,
         scalars, rows.damaged, rows.damaged_at, rows.jumps, rows.moment, attempt),
    )  # fmt: skip


def forget(connection: sqlite3.Connection, run: str, number: int) -> None:
    row = connection.execute("SELECT id FROM attempts WHERE run = ? AND number = ?", (run, number)).fetchone()
    if row is None:
        return
    for (shape,) in connection.execute("SELECT id FROM shapes WHERE attempt = ?", row).fetchall():
        for table in ("blocks", "positions"):
            connection.execute(f"DELETE FROM {table} WHERE id BETWEEN ? AND ?", between(shape, 0, 0xFFFFFF))
    for (series,) in connection.execute("SELECT id FROM series WHERE attempt = ?", row).fetchall():
        for table in ("chunks", "points"):
            connection.execute(f"DELETE FROM {table} WHERE id BETWEEN ? AND ?", between(series, 0, 0xFFFFFF))
    for table in ("shapes", "series", "records"):
        connection.execute(f"DELETE FROM {table} WHERE attempt = ?", row)
    connection.execute("DELETE FROM attempts WHERE id = ?", row)


# Storing


def _store(connection: sqlite3.Connection, attempt: int, rows: Rows) -> None:
    connection.executemany(
        f"INSERT INTO records(attempt, kind, name, step, time, content) VALUES ({attempt}, ?, ?, ?, ?, ?)", rows.records
    )
    for metrics, matrices in rows.matrices.items():
        matrix = np.concatenate(matrices, axis=1)
        for shape, series, places in _shapes(connection, attempt, metrics):
            _append(connection, shape, series, matrix[[0, 1, *places]])


def _shapes(
    connection: sqlite3.Connection, attempt: int, metrics: tuple[str, ...]
) -> list[tuple[int, list[int], list[int]]]:
    """(shape, its series, the rows of a matrix that hold them) for rows with these metrics."""
    name = msgspec.json.encode(metrics).decode()
    known = connection.execute("SELECT id FROM shapes WHERE attempt = ? AND metrics = ?", (attempt, name)).fetchone()
    if known is None:
        (count,) = connection.execute("SELECT count(*) FROM shapes WHERE attempt = ?", (attempt,)).fetchone()
        if count >= _MOST_SHAPES and len(metrics) > 1:
            single = [_shapes(connection, attempt, (metric,)) for metric in metrics]
            return [(shape, series, [place + 2]) for place, ((shape, series, _),) in enumerate(single)]
        known = (connection.execute("INSERT INTO shapes(attempt, metrics) VALUES (?, ?)", (attempt, name)).lastrowid,)
        connection.executemany(
            "INSERT INTO series(attempt, shape, metric) VALUES (?, ?, ?)",
            [(attempt, known[0], metric) for metric in metrics],
        )
    listed = connection.execute("SELECT id FROM series WHERE shape = ? ORDER BY id", known).fetchall()
    return [(known[0], [series for (series,) in listed], list(range(2, 2 + len(metrics))))]


def _append(connection: sqlite3.Connection, shape: int, series: list[int], matrix: Floats) -> None:
    """Add rows to a shape. matrix: [2 + series, rows], steps and times first."""
    last = connection.execute(
        "SELECT id & 16777215, count FROM blocks WHERE id BETWEEN ? AND ? ORDER BY id DESC LIMIT 1",
        between(shape, 0, 0xFFFFFF),
    ).fetchone()
    number = 0
    if last is not None:
        number, count = last
        if count < BLOCK:
            matrix = np.concatenate([_block(connection, shape, series, number), matrix], axis=1)
        else:
            number += 1
    steps, times = matrix[0].astype(np.int64), np.ascontiguousarray(matrix[1])
    starts = range(0, len(steps), BLOCK)
    identifiers = [shape << 24 | number + place for place in range(len(starts))]
    parts = [slice(start, start + BLOCK) for start in starts]
    connection.executemany(
        "INSERT OR REPLACE INTO blocks VALUES (?, ?, ?, ?)",
        [
            (identifier, len(steps[part]), int(steps[part].min()), int(steps[part].max()))
            for identifier, part in zip(identifiers, parts, strict=True)
        ],
    )
    connection.executemany(
        "INSERT OR REPLACE INTO positions VALUES (?, ?, ?)",
        [(identifier, steps[part].data, times[part].data) for identifier, part in zip(identifiers, parts, strict=True)],
    )
    full = len(steps) // BLOCK
    for one, row in zip(series, matrix[2:], strict=True):
        values, names = np.ascontiguousarray(row), [one << 24 | number + place for place in range(len(parts))]
        connection.executemany(
            "INSERT OR REPLACE INTO points VALUES (?, ?)",
            [(identifier, values[part].data) for identifier, part in zip(names, parts, strict=True)],
        )
        connection.executemany(
            "INSERT INTO chunks VALUES (?, ?)",
            list(zip(names[:full], map(bytes, find_peaks(values[: full * BLOCK])), strict=True)),
        )


def _block(connection: sqlite3.Connection, shape: int, series: list[int], number: int) -> Floats:
    """A stored block as the matrix that it came from."""
    steps, times = connection.execute(
        "SELECT steps, times FROM positions WHERE id = ?", (shape << 24 | number,)
    ).fetchone()
    rows = [np.frombuffer(steps, dtype=np.int64).astype(np.float64), np.frombuffer(times, dtype=np.float64)]
    for one in series:
        (values,) = connection.execute('SELECT "values" FROM points WHERE id = ?', (one << 24 | number,)).fetchone()
        rows.append(np.frombuffer(values, dtype=np.float64))
    return np.stack(rows)


def find_peaks(values: Floats) -> NDArray[np.void]:
    """PEAKS x [blocks, BLOCK / PEAK] of values [blocks * BLOCK]; NaN where a part has no finite value."""
    parts = values.reshape(-1, BLOCK // PEAK, PEAK)
    missing = np.isnan(parts)
    some = bool(missing.any())
    peaks = np.zeros(parts.shape[:2], dtype=PEAKS)
    begin = np.arange(BLOCK // PEAK) * PEAK
    for name, worst, find in (("low", np.inf, np.argmin), ("high", -np.inf, np.argmax)):
        at = find(np.where(missing, worst, parts) if some else parts, axis=2)
        peaks[name] = np.take_along_axis(parts, at[..., None], axis=2)[..., 0]
        peaks[f"{name}_at"] = at + begin
    return peaks
