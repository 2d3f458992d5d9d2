"""The truth about a run's numbers: one append-only JSONL file per attempt, one write per step.

    metrics/attempt-0001.jsonl    {"attempt": 1, "parent": null, "resumes_at": 0, "time": ...}
                                  {"step": 1, "time": ..., "train/loss": 9.01, ...}
                                  {"step": 100, "time": ..., "event": "save", ...}
                                  {"step": 100, "time": ..., "histograms": {"weights/head": {"low": -0.1, ...}}}
                                  {"step": 100, "time": ..., "text": NAME, "value": "..."}
                                  {"step": 100, "time": ..., "table": NAME, "columns": [...], "rows": [[...]]}
                                  {"step": 100, "time": ..., "image": NAME, "file": "media/..."}

An attempt is one process's work on a run. It covers every step after the one it resumes at; where two attempts cover
a step, the newer one is the curve and the older one's tail is what was lost and done again.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from polyana.storage import retry_when_full

__all__ = [
    "RECORDS",
    "Attempt",
    "Histogram",
    "MetricLog",
    "SilentMetricLog",
    "read_attempts",
    "read_curves",
    "read_events",
]

RECORDS = ("event", "histograms", "text", "table", "image")
"""A row with one of these keys is a record of that kind; any other is scalars."""


@dataclass(frozen=True)
class Histogram:
    """How the numbers of a tensor are spread: `counts` of equal bins from `low` to `high`, the share of exact zeros,
    the L2 norm."""

    low: float
    high: float
    counts: Sequence[int]
    zeros: float
    norm: float


class MetricLog:
    """Appends the numbers of one attempt. What `log` has written survives SIGKILL of this process; what `sync` has
    flushed survives a power cut."""

    def __init__(self, directory: Path, resumes_at: int, recipe_hash: str, say: Callable[[str], None]) -> None:
        """`say` tells the user of a pause when the disk is full."""
        directory.mkdir(parents=True, exist_ok=True)
        earlier = sorted(directory.glob("attempt-*.jsonl"))
        self.attempt = int(earlier[-1].stem.removeprefix("attempt-")) + 1 if earlier else 1
        self.path = directory / f"attempt-{self.attempt:04d}.jsonl"
        self._file = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL, 0o644)
        self._say = say
        self._encode = msgspec.json.Encoder(enc_hook=float).encode  # the hook: numbers of numpy and torch
        parent = self.attempt - 1 or None
        header = {"attempt": self.attempt, "parent": parent, "resumes_at": resumes_at, "recipe": recipe_hash}
        self._pending = b""
        self._append(header)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Numbers of one step under the field's names (`train/loss`). Not-finite ones are written as null.

        20 of them cost 4 to 6 microseconds of the calling thread's processor time, the write to the file included.
        """
        self._append({"step": step, **values})

    def event(self, step: int, event: str, **about: Any) -> None:
        """Something that happened: save, best, eval, sample, stop, warning."""
        self._append({"step": step, "event": event, **about})

    def histograms(self, step: int, histograms: Mapping[str, Histogram]) -> None:
        """Spreads of one step, named `weights/GROUP`, `gradients/GROUP` or `updates/GROUP`."""
        self._append({"step": step, "histograms": dict(histograms)})

    def text(self, step: int, name: str, value: str) -> None:
        self._append({"step": step, "text": name, "value": value})

    def table(self, step: int, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """`rows` of numbers, texts and None, each as long as `columns`."""
        self._append({"step": step, "table": name, "columns": list(columns), "rows": [list(row) for row in rows]})

    def image(self, step: int, name: str, file: str) -> None:
        """A picture that lies in the run's directory; `file` is its path from there, as `media/attention-100.png`."""
        self._append({"step": step, "image": name, "file": file})

    def sync(self) -> None:
        os.fsync(self._file)

    def close(self) -> None:
        os.close(self._file)

    def _append(self, row: dict[str, Any]) -> None:
        row["time"] = round(time.time(), 3)
        self._pending += self._encode(row) + b"\n"
        retry_when_full(self._write_pending, self.path.parent, self._say)

    def _write_pending(self) -> None:
        while self._pending:  # a disk that fills up may take a part of it
            written = os.write(self._file, self._pending)
            self._pending = self._pending[written:]


class SilentMetricLog(MetricLog):
    """What ranks other than the first log to: they come to the same numbers."""

    def __init__(self, directory: Path, resumes_at: int, recipe_hash: str, say: Callable[[str], None]) -> None:  # noqa: ARG002
        self.attempt = 0

    def sync(self) -> None:
        pass

    def close(self) -> None:
        pass

    def _append(self, row: dict[str, Any]) -> None:
        pass


@dataclass(frozen=True)
class Attempt:
    """One attempt as its file tells it."""

    number: int
    resumes_at: int
    rows: list[dict[str, Any]]


def read_attempts(directory: Path) -> list[Attempt]:
    """Every attempt below `directory` in order; a torn last line (a crash while writing) is left out."""
    attempts = []
    for path in sorted(directory.glob("attempt-*.jsonl")):
        rows = list(_rows(path))
        if rows and "resumes_at" in rows[0]:
            attempts.append(Attempt(rows[0]["attempt"], rows[0]["resumes_at"], rows[1:]))
        elif rows:  # its header is damaged: it is taken to go on where its first row stands
            first = min((row["step"] for row in rows if "step" in row), default=1)
            number = int(path.stem.removeprefix("attempt-"))
            attempts.append(Attempt(number, first - 1 if number > 1 else 0, rows))
    return attempts


def read_curves(directory: Path) -> dict[str, list[tuple[int, float]]]:
    """For each metric its (step, value) points, steps strictly increasing, the newest attempt of each step."""
    curves: dict[str, dict[int, float]] = {}
    for attempt in read_attempts(directory):
        numbers = [row for row in attempt.rows if not any(kind in row for kind in RECORDS)]
        if not numbers:
            continue  # died before it did anything: it covers nothing
        for points in curves.values():
            for step in [step for step in points if step > attempt.resumes_at]:
                del points[step]
        for row in numbers:
            for name, value in row.items():
                if name not in ("step", "time") and value is not None:
                    curves.setdefault(name, {})[row["step"]] = value
    return {name: sorted(points.items()) for name, points in curves.items()}


def read_events(directory: Path) -> list[dict[str, Any]]:
    """The events of all attempts, in the order they were written."""
    return [row for attempt in read_attempts(directory) for row in attempt.rows if "event" in row]


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    for line in path.read_bytes().split(b"\n"):
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict) and ("step" in row or "resumes_at" in row):
            yield row
