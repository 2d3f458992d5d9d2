"""metrics.csv: for spreadsheets and scripts."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Mapping
from typing import Any, TextIO

from polyana.tracking.sinks.config import CsvConfig
from polyana.tracking.sinks.sink import About, Sink

__all__ = ["CsvSink"]


class CsvSink(Sink):
    """A row for each time something was logged: `step`, `time`, then a column for each metric, in the order they came.

    Steps that are done again, and a metric that comes later, rewrite the file; else it is appended to.
    """

    takes_back = True

    def __init__(self, config: CsvConfig) -> None:  # noqa: ARG002
        self._columns: list[str] = ["step", "time"]
        self._file: TextIO | None = None

    def begin(self, about: About, kept: dict[str, Any]) -> dict[str, Any]:
        self._path = about.directory / "metrics.csv"
        self.where = str(self._path)
        if kept and self._path.exists():
            rows = self._read()
            self._rewrite(row for row in rows if row)
        else:
            self._file = self._path.open("w", newline="", encoding="utf-8")
            csv.writer(self._file).writerow(self._columns)
        return {"path": str(self._path)}

    def go_on_from(self, step: int) -> None:
        self._rewrite(row for row in self._read() if int(row["step"]) <= step)

    def scalars(self, step: int, time: float, values: Mapping[str, float]) -> None:
        new = [name for name in values if name not in self._columns]
        if new:
            self._columns += new
            self._rewrite(self._read())
        shown = {name: "" if math.isnan(value) else value for name, value in values.items()}
        self._writer().writerow({"step": step, "time": time} | shown)

    def flush(self) -> None:
        if self._file is not None:
            self._file.flush()

    def close(self, outcome: str) -> None:  # noqa: ARG002
        if self._file is not None:
            self._file.close()
            self._file = None

    def _writer(self) -> csv.DictWriter[str]:
        if self._file is None:
            self._file = self._path.open("a", newline="", encoding="utf-8")
        return csv.DictWriter(self._file, self._columns, restval="")

    def _read(self) -> list[dict[str, str]]:
        """The rows so far, but for a torn last one; their columns are known afterwards."""
        self.close("")
        with self._path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file, restval=None)
            rows = [row for row in reader if None not in row.values() and None not in row]
            self._columns = list(dict.fromkeys([*(reader.fieldnames or ()), *self._columns]))
        return rows

    def _rewrite(self, rows: Iterable[dict[str, str]]) -> None:
        self.close("")
        new = self._path.with_suffix(".csv.new")
        with new.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, self._columns, restval="")
            writer.writeheader()
            writer.writerows(rows)
        new.replace(self._path)
