"""Offline runs of W&B: a .wandb file is a log in LevelDB's format of `Record`s (wandb_internal.proto)."""

from __future__ import annotations

import json
import re
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from polyana.importers.foreign import ForeignAttempt, ForeignRun, rebinned
from polyana.importers.protobuf import Value, fields, first, integer, text

__all__ = ["read_wandb"]

_BLOCK = 32768
_FULL, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4
_FILE_HEADER = b":W&B"


def read_wandb(file: Path) -> ForeignRun:
    """The run that a .wandb file tells of; what of it is damaged is named in its troubles."""
    attempt = ForeignAttempt(file)
    run = ForeignRun("W&B", f"wandb:{file}", "wandb", file.stem, [attempt], outcome="interrupted")
    for record in _records(file, run.troubles):
        try:
            _take(fields(record), attempt, run)
        except (ValueError, AssertionError) as error:
            run.troubles.append(f"{file}: a record is damaged and left out: {error}")
    return run


def _take(record: dict[int, list[Value]], attempt: ForeignAttempt, run: ForeignRun) -> None:
    if 17 in record:  # run
        about = first(record, 17)
        identifier, entity = text(about, 1), text(about, 2)
        run.project = text(about, 3) or "uncategorized"
        run.identity = f"wandb:{entity}/{run.project}/{identifier}"
        run.name = text(about, 8) or identifier
        run.group, run.notes = text(about, 6), text(about, 9)
        run.tags = [tag.decode() for tag in about.get(10, []) if isinstance(tag, bytes)]
        _update(run.config, first(about, 4))
    if 5 in record:  # config
        _update(run.config, first(record, 5))
    if 18 in record:  # exit
        run.outcome = "failed" if integer(first(record, 18), 1) else "finished"
    if 2 in record:  # history
        history = first(record, 2)
        values = _items(history)
        step = integer(first(history, 2), 1) if 2 in history else int(values.get("_step", 0))
        step = int(values.get("_step", step))
        _take_history(values, step, float(values.get("_timestamp", 0.0)), attempt, run)


def _take_history(values: dict[str, Any], step: int, time: float, attempt: ForeignAttempt, run: ForeignRun) -> None:
    numbers: dict[str, float | None] = {}
    for name, value in _leaves(values):
        if name.startswith("_"):
            continue
        if isinstance(value, bool | int | float):
            numbers[name] = float(value)
        elif value in ("NaN", "Infinity", "-Infinity"):
            numbers[name] = None
        elif isinstance(value, str):
            attempt.record(step, time, text=name, value=value)
        elif isinstance(value, dict):
            _take_media(name, value, step, time, attempt, run)
    if numbers:
        attempt.scalars(step, time, numbers)


def _take_media(
    name: str, value: dict[str, Any], step: int, time: float, attempt: ForeignAttempt, run: ForeignRun
) -> None:
    kind, files = value.get("_type"), attempt.source.parent / "files"
    if kind == "histogram" and "bins" in value:
        attempt.record(step, time, histograms={name: rebinned(value["bins"], value["values"])})
        return
    source = files / str(value.get("path", ""))
    here = source.is_file() and source.resolve().is_relative_to(files.resolve())
    if kind in ("image-file", "table-file") and not here:
        run.troubles.append(f"{attempt.source}: {name} of step {step} is gone: {source}")
    elif kind == "image-file":
        stored = f"media/{re.sub(r'[^A-Za-z0-9_.-]+', '-', name)}-{step}{source.suffix}"
        run.media[stored] = source.read_bytes()
        attempt.record(step, time, image=name, file=stored)
    elif kind == "table-file":
        table = json.loads(source.read_text(encoding="utf-8"))
        attempt.record(step, time, table=name, columns=table["columns"], rows=table["data"])


def _leaves(values: dict[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    """Nested values as W&B names them, joined by dots; what has a type is one value."""
    for key, value in values.items():
        if isinstance(value, dict) and "_type" not in value:
            yield from _leaves(value, f"{before}{key}.")
        else:
            yield f"{before}{key}", value


def _update(config: dict[str, Any], record: dict[int, list[Value]]) -> None:
    config |= {name: value for name, value in _items(record).items() if name != "_wandb"}


def _items(record: dict[int, list[Value]]) -> dict[str, Any]:
    """The items of a history or a config, which are alike; a key of several parts is a place in nested values."""
    found: dict[str, Any] = {}
    for item in record.get(1, []):
        assert isinstance(item, bytes)
        parts = fields(item)
        *around, last = [key.decode() for key in parts.get(2, parts.get(1, [])) if isinstance(key, bytes)]
        inner = found
        for key in around:
            inner = inner.setdefault(key, {})
        inner[last] = json.loads(text(parts, 16) or "null")
    return found


# The log, https://github.com/google/leveldb/blob/main/doc/log_format.md, with plain CRC-32


def _records(file: Path, troubles: list[str]) -> Iterator[bytes]:
    content = file.read_bytes()
    if not content.startswith(_FILE_HEADER):
        troubles.append(f"{file}: its header is damaged")
    place, held = 7, None
    while place < len(content):
        left = _BLOCK - place % _BLOCK
        if left < 7:
            place += left
            continue
        if place + 7 > len(content):
            troubles.append(f"{file}: the last record is torn")
            return
        checksum, length, kind = struct.unpack_from("<IHB", content, place)
        piece = content[place + 7 : place + 7 + length]
        if len(piece) < length <= left - 7:
            troubles.append(f"{file}: the last record is torn")
            return
        if length > left - 7 or zlib.crc32(piece, zlib.crc32(bytes([kind]))) != checksum:
            if not any(content[place : place + left]):
                return  # zeros: what a file had been given room for
            troubles.append(f"{file}: damaged at byte {place:,}; read on from the next block of 32 KB")
            place, held = place + left, None
            continue
        place += 7 + length
        if kind == _FULL:
            yield piece
        elif kind == _FIRST:
            held = piece
        elif held is not None:
            held += piece
            if kind == _LAST:
                yield held
                held = None
