"""What the table says of a run's numbers, from the ends of its files alone."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from polyana.tracking.metrics import RECORDS

__all__ = ["attempt_files", "last_rows"]

_TAIL = 16 << 10  # bytes at a file's end that hold its last rows: some 25 steps of 20 numbers
_EVALUATION_WITHIN = 4 << 20  # bytes from the end within which the last evaluation is looked for; guess
_decoder = msgspec.json.Decoder()


def attempt_files(metrics: Path) -> list[Path]:
    """The files of a run's attempts, the oldest first."""
    try:
        with os.scandir(metrics) as entries:
            names = sorted(entry.name for entry in entries)
    except OSError:
        return []
    return [metrics / name for name in names if name.startswith("attempt-") and name.endswith(".jsonl")]


def last_rows(attempts: list[Path]) -> dict[str, Any]:
    """{"step": of the last row, metric: its last value} from the ends of the files, the newest first."""
    last: dict[str, Any] = {}
    for path in reversed(attempts):
        with suppress(OSError):
            for row in _rows_backwards(path):
                if not isinstance(row.get("step"), int) or any(kind in row for kind in RECORDS):
                    continue
                for key, value in row.items():
                    if key != "time":
                        last.setdefault(key, value)
        if len(last) > 1:
            break
    return last


def _rows_backwards(path: Path) -> Iterator[dict[str, Any]]:
    """The last rows of a file, then that of its last evaluation, where that lies further up."""
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        begin = max(0, size - _TAIL)
        file.seek(begin)
        tail = file.read(size - begin)
        lines = tail.splitlines()
        yield from _decoded(reversed(lines[1:] if begin else lines))
        if begin and b'"eval/' not in tail:
            begin = max(0, size - _EVALUATION_WITHIN)
            file.seek(begin)
            wider = file.read(size - begin)
            at = wider.rfind(b'"eval/')
            if at >= 0:
                start = wider.rfind(b"\n", 0, at) + 1
                yield from _decoded([wider[start:].partition(b"\n")[0]])


def _decoded(lines: Any) -> Iterator[dict[str, Any]]:
    for line in lines:
        try:
            row = _decoder.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError):
            continue
        if isinstance(row, dict):
            yield row
