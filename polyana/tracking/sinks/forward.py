"""Passing a run's metrics on: the work of a sink's own process.

What is sent is read from the run's files (metrics.py), which grow meanwhile. How far a sink has come is kept beside
them, so a later process goes on there, also with what an earlier one was killed before.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from polyana.storage import read_json, write_json
from polyana.tracking.metrics import RECORDS, Histogram
from polyana.tracking.run_directory import RunDirectory, flat
from polyana.tracking.sinks.config import SinkConfig
from polyana.tracking.sinks.sink import About, Sink

__all__ = ["Forwarder", "Progress", "make_sink", "unsent"]

_SLICE = 1 << 20  # bytes of a file at once: some 1,500 steps of 20 numbers; guess
_MAKERS = {
    "csv": ("csv_file", "CsvSink"),
    "tensorboard": ("tensorboard", "TensorboardSink"),
    "wandb": ("wandb_run", "WandbSink"),
    "mlflow": ("mlflow_run", "MlflowSink"),
    "trackio": ("trackio_run", "TrackioSink"),
}
_decoder = msgspec.json.Decoder()


def make_sink(config: SinkConfig) -> Sink:
    """The sink of a config; its library is imported now."""
    module, name = _MAKERS[config.kind]
    made = getattr(importlib.import_module(f"polyana.tracking.sinks.{module}"), name)(config)
    assert isinstance(made, Sink)
    return made


@dataclass
class Progress:
    """How far a sink has come. attempt, offset: the file, and bytes of it that were sent; furthest: step sent so far,
    `before`: by earlier attempts; kept: what the sink needs to go on; where: what the user opens."""

    settings: dict[str, Any]
    attempt: int = 0
    offset: int = 0
    furthest: int = -1
    before: int = -1
    kept: dict[str, Any] = field(default_factory=dict)
    where: str = ""

    @classmethod
    def read(cls, path: Path, settings: dict[str, Any]) -> Progress:
        """What is kept in `path`, if it was kept with these settings; else a beginning."""
        if path.exists():
            kept = read_json(path)
            if kept["settings"] == settings:
                return cls(**kept)
        return cls(settings)


class Forwarder:
    """Sends what is new, as often as it is asked to."""

    def __init__(self, run: RunDirectory, name: str, config: SinkConfig) -> None:
        """`name` tells sinks of one run apart; what is kept lies in RUN/sinks/NAME.json. Raises what a sink raises."""
        self._run, self._path = run, run.path / "sinks" / f"{name}.json"
        self.progress = Progress.read(self._path, config.model_dump())
        self._sink = make_sink(config)
        about = run.about()
        told = About(run.name, about["recipe"], about["stage"], flat(about.get("settings") or {}), run.path,
                     self._path.with_suffix(""))  # fmt: skip
        self.progress.kept = self._sink.begin(told, self.progress.kept)
        self.progress.where = self._sink.where
        self._ends = float("inf")  # the last step that no later attempt does again
        self._keep()

    def send(self) -> int:
        """Send what has been written since; how many rows."""
        progress, sent = self.progress, 0
        attempts = _attempts(self._run.metrics)
        for number in sorted(number for number in attempts if number >= progress.attempt):
            if number != progress.attempt:
                progress.attempt, progress.offset, progress.before = number, 0, progress.furthest
            later = [_resumes_at(attempts[other]) for other in attempts if other > number]
            self._ends = min((step for step in later if step is not None), default=float("inf"))
            while piece := _whole_lines(attempts[number], progress.offset):
                for row in _rows(piece):
                    sent += self._send(row)
                self._sink.flush()
                progress.offset += len(piece)
                self._keep()
        return sent

    def close(self) -> None:
        self._sink.close(str(self._run.about().get("outcome", "interrupted")))

    def _keep(self) -> None:
        write_json(self._path, asdict(self.progress))

    def _send(self, row: dict[str, Any]) -> bool:
        progress, sink = self.progress, self._sink
        if "resumes_at" in row:
            if sink.takes_back and progress.furthest > row["resumes_at"]:
                sink.go_on_from(row["resumes_at"])
            return False
        step, time = row.pop("step"), float(row.pop("time", 0.0))
        if step > self._ends or (not sink.takes_back and step <= progress.before):
            return False
        match next((kind for kind in RECORDS if kind in row), None):
            case "event":
                return False
            case "histograms":
                for name, spread in row["histograms"].items():
                    sink.histogram(step, time, name, Histogram(**spread))
            case "text":
                sink.text(step, time, row["text"], row["value"])
            case "table":
                sink.table(step, time, row["table"], row["columns"], row["rows"])
            case "image":
                sink.image(step, time, row["image"], self._run.path / row["file"])
            case None:
                sink.scalars(step, time, {name: math.nan if value is None else value for name, value in row.items()})
        progress.furthest = max(progress.furthest, step)
        return True


def unsent(run: RunDirectory, name: str) -> int:
    """Rows of the newest attempts that a sink was not told."""
    path = run.path / "sinks" / f"{name}.json"
    kept = read_json(path) if path.exists() else {"attempt": 0, "offset": 0}
    count = 0
    for number, file in _attempts(run.metrics).items():
        offset = kept["offset"] if number == kept["attempt"] else 0
        while number >= kept["attempt"] and (piece := _whole_lines(file, offset)):
            count += sum("resumes_at" not in row and "event" not in row for row in _rows(piece))
            offset += len(piece)
    return count


def _attempts(metrics: Path) -> dict[int, Path]:
    return {int(path.stem.removeprefix("attempt-")): path for path in metrics.glob("attempt-*.jsonl")}


def _resumes_at(path: Path) -> int | None:
    """What a file's header says; None where it is not written yet or damaged."""
    with path.open("rb") as file:
        row = next(_rows(file.readline()), {})
    return row.get("resumes_at")


def _whole_lines(path: Path, offset: int) -> bytes:
    """The next lines from a byte on, about a slice of them; none while the next line is not whole."""
    with path.open("rb") as file:
        file.seek(offset)
        piece = file.read(_SLICE)
        while b"\n" not in piece and (more := file.read(_SLICE)):
            piece += more
    return piece[: piece.rfind(b"\n") + 1]


def _rows(piece: bytes) -> Iterator[dict[str, Any]]:
    """The rows of some lines; damaged ones are left out."""
    for line in piece.splitlines():
        try:
            row = _decoder.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError):
            continue
        if isinstance(row, dict) and isinstance(row.get("step", row.get("resumes_at")), int):
            yield row
