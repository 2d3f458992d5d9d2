"""The reader's index of all runs' metrics: HOME/index.sqlite, made from the JSONL files and made again when it is lost.

Training never touches it. `catch_up` reads on in a run's files from where it stopped; whoever draws then reads a few
blobs instead of the files. Rows with the same metrics have the same *shape*, and 1,024 of them are a *block*:

    attempts    one file: how far it is read, what its header says, what is wrong with it
    shapes      the metrics that stand together in a row of an attempt
    series      one metric of a shape
    blocks      1,024 rows of a shape: how many, their first and last step       id = shape << 24 | number
    positions   their steps and times                                            same id
    chunks      the lowest and the highest of each 64 points of one metric, in   id = series << 24 | number
                full blocks
    points      the values themselves                                            same id
    records     events, histograms, texts, tables, images

Several servers may use one home: what is read on is decided and stored within one transaction.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from polyana.storage import locked
from polyana.tracking.blocks import BLOCK, PEAK, PEAKS, between, find, forget, read_on, take_in
from polyana.tracking.parsing import parse_spans
from polyana.tracking.rows import Floats, Rows

__all__ = ["SHORT", "Blocks", "Index", "IndexedAttempt", "Integers", "in_line"]

T = TypeVar("T")
Integers = NDArray[np.int64]

_VERSION = 1  # of the tables; a file with another is thrown away
SHORT = 48 << 20
"""Bytes that are read on while somebody waits: a million points, 0.15 s of work. Of more, `progress` is told."""
_LONG = 64 << 20  # bytes from which another process helps to parse: its start takes as long as half a second of parsing
_DAMAGE = {sqlite3.SQLITE_ERROR, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}

_TABLES = """
CREATE TABLE attempts(
    id INTEGER PRIMARY KEY, run TEXT NOT NULL, number INTEGER NOT NULL, inode INTEGER NOT NULL, beginning BLOB NOT NULL,
    resumes_at INTEGER, started REAL, size INTEGER NOT NULL, offset INTEGER NOT NULL, scalars INTEGER NOT NULL,
    damaged INTEGER NOT NULL, damaged_at INTEGER, jumps INTEGER NOT NULL, moment REAL NOT NULL, UNIQUE(run, number));
CREATE TABLE shapes(id INTEGER PRIMARY KEY, attempt INTEGER NOT NULL, metrics TEXT NOT NULL, UNIQUE(attempt, metrics));
CREATE TABLE series(id INTEGER PRIMARY KEY, attempt INTEGER NOT NULL, shape INTEGER NOT NULL, metric TEXT NOT NULL);
CREATE INDEX series_by_metric ON series(attempt, metric);
CREATE INDEX series_by_shape ON series(shape);
CREATE TABLE blocks(
    id INTEGER PRIMARY KEY, count INTEGER NOT NULL, first_step INTEGER NOT NULL, last_step INTEGER NOT NULL);
CREATE TABLE positions(id INTEGER PRIMARY KEY, steps BLOB NOT NULL, times BLOB NOT NULL);
CREATE TABLE chunks(id INTEGER PRIMARY KEY, peaks BLOB NOT NULL);
CREATE TABLE points(id INTEGER PRIMARY KEY, "values" BLOB NOT NULL);
CREATE TABLE records(
    id INTEGER PRIMARY KEY, attempt INTEGER NOT NULL, kind TEXT NOT NULL, name TEXT NOT NULL, step INTEGER NOT NULL,
    time REAL, content TEXT NOT NULL);
CREATE INDEX records_by_name ON records(attempt, kind, name, step);
"""


@dataclass(frozen=True)
class IndexedAttempt:
    """One attempt. `covers_to`: the last step that no later attempt did again; infinity where none did."""

    id: int
    number: int
    resumes_at: int
    started: float
    covers_to: float


def in_line(attempts: list[IndexedAttempt]) -> list[IndexedAttempt]:
    """Attempts, oldest first, each of which covers the steps up to the first that a later one did again."""
    found: list[IndexedAttempt] = []
    for attempt in reversed(attempts):
        covers_to = min((later.resumes_at for later in found), default=float("inf"))
        found.append(replace(attempt, covers_to=covers_to))
    return found[::-1]


@dataclass(frozen=True)
class Blocks:
    """B blocks of a shape: the number of each, its rows, the lowest and the highest step."""

    numbers_B: Integers
    counts_B: Integers
    firsts_B: Integers
    lasts_B: Integers


class Index:
    """One index file, used by any number of threads and processes. `place` is deleted at will."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self._local = threading.local()
        self._generation = 0
        self._long: dict[str, threading.Lock] = {}  # run -> held by the thread that reads a long file of it

    # The file

    def use(self, work: Callable[[], T]) -> T:
        """The result of `work`, done again with a new file when this one turns out to be damaged."""
        generation = self._generation
        try:
            return work()
        except sqlite3.DatabaseError as error:
            if not _is_damage(error):
                raise
        with self._alone():
            if generation == self._generation:  # else another thread has done it
                _delete(self.place)
                self._generation += 1
        return work()

    def close(self) -> None:
        """Close this thread's connection."""
        if opened := getattr(self._local, "opened", None):
            opened[1].close()
            del self._local.opened

    def _connection(self) -> sqlite3.Connection:
        generation, connection = getattr(self._local, "opened", (-1, None))
        if connection is None or generation != self._generation:
            self.close()
            with self._alone():
                connection = self._open()
            self._local.opened = self._generation, connection
        assert isinstance(connection, sqlite3.Connection)
        return connection

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Nobody else makes or deletes the file meanwhile."""
        self.place.parent.mkdir(parents=True, exist_ok=True)
        with locked(self.place.with_suffix(".lock"), f"{self.place} is being opened"):
            yield

    def _open(self) -> sqlite3.Connection:
        for _ in range(2):
            connection = sqlite3.connect(self.place, timeout=60, isolation_level=None)
            try:
                # The log is there before the file's name can be given to another, so nobody mixes two files' logs.
                connection.execute("PRAGMA page_size = 4096")  # on pages of 16 KB blobs of 8 KB leave half empty
                connection.execute("PRAGMA journal_mode = WAL")
                connection.execute("PRAGMA synchronous = NORMAL")
                connection.execute(
                    "PRAGMA wal_autocheckpoint = 32768"
                )  # 128 MB: the first reading of 10 million points
                connection.execute("PRAGMA journal_size_limit = 16777216")
                connection.execute("PRAGMA cache_size = -16384")
                (version,) = connection.execute("PRAGMA user_version").fetchone()
                (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
                if version == _VERSION:
                    return connection
                if not tables:
                    connection.executescript(f"BEGIN IMMEDIATE; {_TABLES} PRAGMA user_version = {_VERSION}; COMMIT;")
                    return connection
            except sqlite3.DatabaseError as error:
                if not _is_damage(error):
                    connection.close()
                    raise
            connection.close()
            _delete(self.place)
        raise sqlite3.DatabaseError(f"{self.place} cannot be made")

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """In the block everything that this thread reads is of one moment, whatever is read on meanwhile."""
        connection = self._connection()
        connection.execute("BEGIN")
        try:
            yield
        finally:
            with suppress(sqlite3.Error):
                connection.execute("ROLLBACK")  # there is nothing to store

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        connection = self._connection()
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield connection
        except BaseException:
            with suppress(sqlite3.Error):
                connection.execute("ROLLBACK")
            raise
        connection.execute("COMMIT")

    # Reading on

    def catch_up(self, run: str, metrics: Path, progress: Callable[[float], None] | None = None) -> None:
        """Read what has been written to the files in `metrics` since the last time.

        `progress` is told the share of the bytes that are read, now and then, when they are many. A file that is gone
        or was replaced takes along what was read of it.
        """
        files = {int(path.stem.removeprefix("attempt-")): path for path in metrics.glob("attempt-*.jsonl")}
        known = {
            number: (inode, size)
            for number, inode, size in self._connection().execute(
                "SELECT number, inode, size FROM attempts WHERE run = ?", (run,)
            )
        }
        for number in known.keys() - files.keys():
            with self._transaction() as connection:
                forget(connection, run, number)
        moved = {}
        for number, path in sorted(files.items()):
            with suppress(FileNotFoundError):  # deleted this very moment
                found = path.stat()
                if known.get(number) != (found.st_ino, found.st_size):
                    moved[number] = found.st_size
        done, total = 0, sum(moved.values())
        for number, size in moved.items():
            with suppress(FileNotFoundError), files[number].open("rb") as file:
                for offset in self._read_whole(run, number, file.fileno()):
                    if progress is not None and total > SHORT:
                        progress((done + min(offset, size)) / total)
            done += size

    def read_to(self, run: str) -> dict[int, tuple[int, int]]:
        """Attempt -> (its file's inode, how far it is read)."""
        rows = self._connection().execute("SELECT number, inode, offset FROM attempts WHERE run = ?", (run,))
        return {number: (inode, offset) for number, inode, offset in rows}

    def _read_whole(self, run: str, number: int, file: int) -> Iterator[int]:
        """Read an attempt's file to its end; yields where it stands, now and then."""
        if os.fstat(file).st_size > _LONG:
            with self._long.setdefault(run, threading.Lock()):  # who comes second finds that all is read
                yield from self._read_long(run, number, file)
        while True:
            with self._transaction() as connection:
                offset, more = read_on(connection, run, number, file)
            yield offset
            if not more:
                break

    def _read_long(self, run: str, number: int, file: int) -> Iterator[int]:
        """The same with two processes, until little is left, or until another server reads it, too."""
        with self._transaction() as connection:
            _, begin, _ = find(connection, run, number, file)
        size = os.fstat(file).st_size
        if size - begin <= _LONG:
            return
        with closing(parse_spans(file, begin, size)) as spans:
            for begin, end, found in spans:
                with self._transaction() as connection:
                    attempt, offset, moment = find(connection, run, number, file)
                    if offset != begin:
                        return
                    rows = Rows(moment=moment)
                    rows.add(found)
                    take_in(connection, attempt, rows, file, end, end)
                yield end

    def forget(self, run: str) -> None:
        """Drop what is known of a run."""
        with self._transaction() as connection:
            for (number,) in connection.execute("SELECT number FROM attempts WHERE run = ?", (run,)).fetchall():
                forget(connection, run, number)

    # What is there

    def attempts(self, run: str) -> list[IndexedAttempt]:
        """The attempts that have logged numbers, oldest first."""
        rows = self._connection().execute(
            "SELECT id, number, resumes_at, started FROM attempts WHERE run = ? AND scalars > 0 ORDER BY number", (run,)
        )
        found = []
        for identifier, number, told, began in rows.fetchall():
            resumes_at, started = told, began
            if resumes_at is None:  # its header is damaged
                step, started = self._first_row(identifier)
                resumes_at = step - 1 if number > 1 else 0
            found.append(IndexedAttempt(identifier, number, resumes_at, started, float("inf")))
        return in_line(found)

    def all_attempts(self, run: str) -> list[dict[str, Any]]:
        """{"attempt", "step" (it resumed at), "time"} of each, also of those that died before they did anything."""
        rows = self._connection().execute(
            "SELECT number, resumes_at, started FROM attempts WHERE run = ? ORDER BY number", (run,)
        )
        return [{"attempt": number, "step": step, "time": time} for number, step, time in rows]

    def metrics(self, run: str) -> list[str]:
        """The names of all metrics, sorted."""
        rows = self._connection().execute(
            "SELECT DISTINCT metric FROM series JOIN attempts ON attempts.id = attempt WHERE run = ? ORDER BY metric",
            (run,),
        )
        return [metric for (metric,) in rows]

    def troubles(self, run: str) -> list[str]:
        """What is wrong with a run's files, in words."""
        said = []
        rows = self._connection().execute(
            "SELECT number, resumes_at, size, offset, damaged, damaged_at, jumps FROM attempts WHERE run = ? "
            "ORDER BY number",
            (run,),
        )
        for number, resumes_at, size, offset, damaged, damaged_at, jumps in rows:
            name = f"attempt-{number:04d}.jsonl"
            if damaged:
                lines = "one line is damaged" if damaged == 1 else f"{damaged:,} lines are damaged"
                said.append(f"{name}: {lines} and left out, the first at byte {damaged_at:,}")
            if resumes_at is None and offset:
                said.append(f"{name}: its header is damaged; it is taken to go on where its first row stands")
            if size > offset:
                said.append(f"{name}: the last line is torn, {size - offset:,} bytes: at most one step is missing")
            if jumps:
                often = "once" if jumps == 1 else f"{jumps:,} times"
                said.append(f"{name}: the clock went back {often}; curves over time stand still there")
        return said

    def strips(self, attempt: int, metric: str) -> list[tuple[int, int]]:
        """(series, shape) of each set of rows in which an attempt has `metric`."""
        return self._connection().execute(
            "SELECT id, shape FROM series WHERE attempt = ? AND metric = ? ORDER BY id", (attempt, metric)
        ).fetchall()  # fmt: skip

    def blocks(self, shape: int) -> Blocks:
        """The blocks of a shape, in the order they were written."""
        rows = self._connection().execute(
            "SELECT id & 16777215, count, first_step, last_step FROM blocks WHERE id BETWEEN ? AND ? ORDER BY id",
            between(shape, 0, 0xFFFFFF),
        ).fetchall()  # fmt: skip
        return Blocks(*np.array(rows, dtype=np.int64).reshape(-1, 4).T)

    def positions(self, shape: int, first: int, last: int) -> tuple[Integers, Floats]:
        """Steps and times (seconds since 1970) of the rows in the blocks from number `first` to `last`."""
        rows = self._connection().execute(
            "SELECT steps, times FROM positions WHERE id BETWEEN ? AND ? ORDER BY id", between(shape, first, last)
        ).fetchall()  # fmt: skip
        steps = np.frombuffer(b"".join([steps for steps, _ in rows]), dtype=np.int64)
        return steps, np.frombuffer(b"".join([times for _, times in rows]), dtype=np.float64)

    def values(self, series: int, first: int, last: int) -> Floats:
        """The values beside them; NaN: not finite."""
        rows = self._connection().execute(
            'SELECT "values" FROM points WHERE id BETWEEN ? AND ? ORDER BY id', between(series, first, last)
        )
        return np.frombuffer(b"".join([values for (values,) in rows]), dtype=np.float64)

    def peaks(self, series: int, first: int, last: int) -> NDArray[np.void]:
        """PEAKS x [blocks, BLOCK / PEAK]: the lowest and the highest of each 64 points, and where in the block; of
        full blocks, which the last may not be."""
        rows = self._connection().execute(
            "SELECT peaks FROM chunks WHERE id BETWEEN ? AND ? ORDER BY id", between(series, first, last)
        )
        return np.frombuffer(b"".join([peaks for (peaks,) in rows]), dtype=PEAKS).reshape(-1, BLOCK // PEAK)

    def records(self, run: str, kind: str, name: str | None = None) -> list[dict[str, Any]]:
        """Rows of a kind, oldest first, {"step", "time", "attempt", ...}; without what a later attempt did again,
        but for events."""
        found = []
        rows = self._connection().execute(
            "SELECT number, step, time, content FROM records JOIN attempts ON attempts.id = attempt "
            "WHERE run = ?1 AND kind = ?2 AND (?3 IS NULL OR name = ?3) ORDER BY number, records.id",
            (run, kind, name),
        )
        ends = {attempt.number: attempt.covers_to for attempt in self.attempts(run)}
        for number, step, time, content in rows:
            if kind == "event" or step <= ends.get(number, float("inf")):
                found.append({"step": step, "time": time, "attempt": number, **msgspec.json.decode(content)})
        return found

    def names(self, run: str, kind: str) -> list[str]:
        """The names of the records of a kind, sorted."""
        rows = self._connection().execute(
            "SELECT DISTINCT name FROM records JOIN attempts ON attempts.id = attempt WHERE run = ? AND kind = ? "
            "ORDER BY name",
            (run, kind),
        )
        return [name for (name,) in rows]

    def time_of(self, attempt: int, step: int) -> float:
        """When an attempt was done with `step`, in seconds since 1970; 0 where it has nothing so early."""
        newest = 0.0
        connection = self._connection()
        for (shape,) in connection.execute("SELECT id FROM shapes WHERE attempt = ?", (attempt,)).fetchall():
            row = connection.execute(
                "SELECT max(id) FROM blocks WHERE id BETWEEN ? AND ? AND first_step <= ?",
                (*between(shape, 0, 0xFFFFFF), step),
            ).fetchone()
            if row[0] is not None:
                steps, times = self.positions(shape, row[0] & 0xFFFFFF, row[0] & 0xFFFFFF)
                newest = max(newest, float(times[steps <= step].max()))
        return newest

    def _first_row(self, attempt: int) -> tuple[int, float]:
        """The lowest step and the earliest time of an attempt that has rows."""
        shapes = self._connection().execute("SELECT id FROM shapes WHERE attempt = ?", (attempt,)).fetchall()
        firsts = [self.positions(shape, 0, 0) for (shape,) in shapes]
        return min(int(steps.min()) for steps, _ in firsts), min(float(times.min()) for _, times in firsts)


def _is_damage(error: sqlite3.DatabaseError) -> bool:
    return (getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & 0xFF) in _DAMAGE  # the rest: kinds of it


def _delete(place: Path) -> None:
    for suffix in ("", "-wal", "-shm"):
        place.with_name(place.name + suffix).unlink(missing_ok=True)
