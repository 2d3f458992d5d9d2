"""MLflow into SQLite, the store that its server begins with.

A million points by `log_metrics` would take minutes, so `fill` writes the same rows straight into the tables.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

import mlflow
from contestant import Log, compete
from values import METRICS, rows


def begin(directory: Path) -> tuple[Log, Callable[[], None]]:
    mlflow.set_tracking_uri(f"sqlite:///{directory / 'mlflow.db'}")
    mlflow.set_experiment("race")
    mlflow.start_run(run_name="run", log_system_metrics=False)
    return lambda step, row: mlflow.log_metrics(row, step=step), mlflow.end_run


def fill(directory: Path, steps: int) -> None:
    log, finish = begin(directory)
    run = mlflow.active_run()
    assert run is not None
    for step, row in rows(1):
        log(step, row)  # the newest value of each metric has a table of its own
    now = int(time.time() * 1000)
    with sqlite3.connect(directory / "mlflow.db") as connection:
        connection.executemany(
            "INSERT INTO metrics(key, value, timestamp, step, is_nan, run_uuid) VALUES (?, ?, ?, ?, 0, ?)",
            (
                (name, value, now + step, step, run.info.run_id)
                for step, row in rows(steps)
                if step > 1
                for name, value in row.items()
            ),
        )
        *_, (last, row) = rows(steps)
        connection.executemany(
            "UPDATE latest_metrics SET value = ?, timestamp = ?, step = ? WHERE key = ?",
            [(row[name], now + last, last, name) for name in METRICS],
        )
    finish()
    (directory / "run_id").write_text(run.info.run_id)


if __name__ == "__main__":
    compete(begin, fill)
