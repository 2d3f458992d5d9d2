"""Trackio's stores: one SQLite file a project, a row for each `log`."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from polyana.importers.foreign import ForeignAttempt, ForeignRun

__all__ = ["is_trackio", "read_trackio"]

_NOT_FINITE = ("NaN", "Infinity", "-Infinity")


def is_trackio(file: Path) -> bool:
    """Whether a file is an SQLite database with a table of metrics as Trackio's."""
    try:
        with file.open("rb") as stream:
            if stream.read(16) != b"SQLite format 3\0":
                return False
        with _opened(file) as connection:
            return {"run_name", "step", "metrics", "timestamp"} <= _columns(connection, "metrics")
    except (OSError, sqlite3.DatabaseError):
        return False


def read_trackio(file: Path) -> list[ForeignRun]:
    """The runs of a project. Where a run's steps go back, a later attempt begins."""
    runs: dict[str, ForeignRun] = {}
    with _opened(file) as connection:
        key = "run_id" if "run_id" in _columns(connection, "metrics") else "run_name"
        rows = connection.execute(
            f"SELECT coalesce({key}, run_name), run_name, timestamp, step, metrics FROM metrics ORDER BY id"
        )
        trouble = ""
        try:
            for identifier, name, moment, step, content in rows:
                run = runs.get(identifier)
                if run is None:
                    identity = f"trackio:{file.stem}/{identifier}:{moment}"
                    run = ForeignRun("Trackio", identity, file.stem, name, [ForeignAttempt(file)])
                    runs[identifier] = run
                _take(run, file, moment, step, content)
            configs = "configs" if _columns(connection, "configs") else None
            if configs:
                named = "run_id" if "run_id" in _columns(connection, "configs") else "run_name"
                for identifier, content in connection.execute(
                    f"SELECT coalesce({named}, run_name), config FROM configs"
                ):
                    if identifier in runs:
                        found = json.loads(content)
                        runs[identifier].config = {k: v for k, v in found.items() if not k.startswith("_")}
                        runs[identifier].group = str(found.get("_Group") or "")
        except (sqlite3.DatabaseError, ValueError) as error:
            trouble = f"{file}: damaged, and read only up to there: {error}"
    for run in runs.values():
        run.troubles += [trouble] if trouble else []
    return list(runs.values())


def _take(run: ForeignRun, file: Path, moment: str, step: Any, content: str) -> None:
    try:
        values = json.loads(content)
        time = _seconds(moment)
        assert isinstance(values, dict)
        assert isinstance(step, int)
    except (ValueError, TypeError, AssertionError):
        run.troubles.append(f"{file}: a row of {run.name} at step {step} is damaged and left out")
        return
    numbers: dict[str, float | None] = {}
    for name, value in values.items():
        if isinstance(value, bool | int | float):
            numbers[name] = float(value)
        elif value in _NOT_FINITE:
            numbers[name] = None
    attempt = run.attempts[-1]
    if any(step < attempt.last.get(name, step) for name in numbers):
        attempt = ForeignAttempt(file)
        run.attempts.append(attempt)
    if numbers:
        attempt.scalars(step, time, numbers)
    for name, value in values.items():
        if isinstance(value, str) and value not in _NOT_FINITE:
            attempt.record(step, time, text=name, value=value)
        elif isinstance(value, dict) and isinstance(rows := value.get("_value"), list):
            columns = list(dict.fromkeys(key for row in rows for key in row))
            cells = [[row.get(column) for column in columns] for row in rows]
            attempt.record(step, time, table=name, columns=columns, rows=cells)


def _seconds(moment: str) -> float:
    found = datetime.fromisoformat(moment)
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()


def _columns(connection: sqlite3.Connection, table: str) -> set[str]:
    return {row[1] for row in connection.execute(f"PRAGMA table_info({table})")}


def _opened(file: Path) -> closing[sqlite3.Connection]:
    """A database to read, which nobody is kept from writing to."""
    return closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True))
