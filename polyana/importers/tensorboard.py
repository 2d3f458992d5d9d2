"""TensorBoard's event files: records with checksums (TFRecord), each an `Event` (tensorboard/compat/proto/event.proto).

A directory is a run, as TensorBoard has it, and each file in it what one process wrote.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from polyana.importers.foreign import ForeignAttempt, ForeignRun, rebinned
from polyana.importers.protobuf import Value, fields, first, integer, number, text

__all__ = ["read_event_files"]

_START = 1  # SessionLog.SessionStatus
_LONGEST_CHECKED = 1 << 16  # bytes of a record whose checksum is computed: Python does some 10 MB/s of it; guess
_DTYPES = {1: "<f4", 2: "<f8", 3: "<i4", 9: "<i8"}  # tensorboard/compat/proto/types.proto


def read_event_files(directory: Path, files: list[Path], root: Path) -> ForeignRun:
    """The run that a directory's event files tell of. `root`: the directory that holds all of them."""
    files = sorted(files, key=lambda file: file.name)  # their names begin with the time
    name = "" if directory == root else directory.relative_to(root).as_posix()
    run = ForeignRun("TensorBoard", f"tensorboard:{files[0].name}", root.name, name or directory.name, [])
    for file in files:
        for attempt in _read(file, run):
            before = run.attempts[-1] if run.attempts else None
            if before is None or attempt.resumes_at is not None or attempt.shares_with(before):
                run.attempts.append(attempt)
            else:  # another writer at the same time, with other metrics
                before.rows += attempt.rows
                before.last |= attempt.last
    return run


def _read(file: Path, run: ForeignRun) -> list[ForeignAttempt]:
    """The attempts in a file: one, and one more behind each mark that earlier steps are void."""
    attempts = [ForeignAttempt(file)]
    for place, record in _records(file, run.troubles):
        try:
            event = fields(record)
            mark = first(event, 7)
            if mark and integer(mark, 1) == _START and integer(event, 2) > 0:
                resumed = ForeignAttempt(file, resumes_at=integer(event, 2) - 1)
                attempts = [*attempts, resumed] if attempts[-1].rows else [*attempts[:-1], resumed]
            for value in first(event, 5).get(1, []):
                assert isinstance(value, bytes)
                _take(fields(value), integer(event, 2), number(event, 1), attempts[-1], run)
        except (ValueError, AssertionError, struct.error) as error:
            run.troubles.append(f"{file}: the record at byte {place:,} is damaged and left out: {error}")
    return [attempt for attempt in attempts if attempt.rows]


def _take(value: dict[int, list[Value]], step: int, time: float, attempt: ForeignAttempt, run: ForeignRun) -> None:
    """One `Summary.Value`."""
    tag, step = text(value, 1), max(step, 0)
    if 2 in value:
        attempt.scalars(step, time, {tag: number(value, 2)})
    elif 5 in value:
        spread = first(value, 5)
        limits, counts = _doubles(spread, 6), _doubles(spread, 7)
        if len(limits) == len(counts) > 0:
            low, high = number(spread, 1), number(spread, 2)
            edges = np.maximum.accumulate(np.clip(np.concatenate([[low], limits]), low, high))
            attempt.record(step, time, histograms={tag: rebinned(edges.tolist(), counts.tolist(), number(spread, 5))})
    elif 4 in value:
        content = first(value, 4).get(4, [b""])[-1]
        assert isinstance(content, bytes)
        _keep_image(tag, step, time, content, attempt, run)
    elif 8 in value:
        plugin = text(first(first(value, 9), 1), 1)
        _take_tensor(first(value, 8), plugin, tag, step, time, attempt, run)


def _take_tensor(
    tensor: dict[int, list[Value]],
    plugin: str,
    tag: str,
    step: int,
    time: float,
    attempt: ForeignAttempt,
    run: ForeignRun,
) -> None:
    """TensorFlow 2 writes tensors, and the plugin's name says what they are; only the first of a run has it."""
    strings = [value for value in tensor.get(8, []) if isinstance(value, bytes)]
    if strings and strings[-1].startswith((b"\x89PNG", b"\xff\xd8")):
        _keep_image(tag, step, time, strings[-1], attempt, run)
    elif strings and plugin != "hparams":
        shown = "\n".join(value.decode("utf-8", "replace") for value in strings)
        attempt.record(step, time, text=tag.removesuffix("/text_summary"), value=shown)
    elif integer(tensor, 1) in _DTYPES:
        numbers = _numbers(tensor)
        if len(numbers) == 1:
            attempt.scalars(step, time, {tag: float(numbers[0])})
        elif plugin == "histograms" and len(numbers) and len(numbers) % 3 == 0:
            bins = numbers.reshape(-1, 3)  # left, right, count
            edges = [*bins[:, 0].tolist(), float(bins[-1, 1])]
            attempt.record(step, time, histograms={tag: rebinned(edges, bins[:, 2].tolist())})


def _numbers(tensor: dict[int, list[Value]]) -> np.ndarray[Any, np.dtype[np.float64]]:
    kind = integer(tensor, 1)
    packed = tensor.get(4, [b""])[-1]
    if isinstance(packed, bytes) and packed:
        return np.frombuffer(packed, dtype=_DTYPES[kind]).astype(np.float64)
    width = {1: 5, 2: 6}.get(kind)
    if width is None:
        return np.empty(0)
    pieces = b"".join(value for value in tensor.get(width, []) if isinstance(value, bytes))
    return np.frombuffer(pieces, dtype=_DTYPES[kind]).astype(np.float64)


def _doubles(message: dict[int, list[Value]], key: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    """A repeated double, packed or not."""
    return np.frombuffer(b"".join(value for value in message.get(key, []) if isinstance(value, bytes)), dtype="<f8")


def _keep_image(tag: str, step: int, time: float, content: bytes, attempt: ForeignAttempt, run: ForeignRun) -> None:
    suffix = "png" if content.startswith(b"\x89PNG") else "jpg" if content.startswith(b"\xff\xd8") else "gif"
    file = f"media/{re.sub(r'[^A-Za-z0-9_.-]+', '-', tag)}-{step}.{suffix}"
    run.media[file] = content
    attempt.record(step, time, image=tag, file=file)


# TFRecord


def _records(file: Path, troubles: list[str]) -> Iterator[tuple[int, bytes]]:
    """(byte, content) of each record whose checksums are right."""
    content = file.read_bytes()
    place = 0
    while place < len(content):
        if place + 12 > len(content):
            troubles.append(f"{file}: the last record is torn")
            return
        length, told = struct.unpack_from("<QI", content, place)
        if _masked_crc(content[place : place + 8]) != told:
            troubles.append(f"{file}: damaged at byte {place:,}; nothing behind it can be read")
            return
        record = content[place + 12 : place + 12 + length]
        if place + 16 + length > len(content):
            troubles.append(f"{file}: the last record is torn")
            return
        (told,) = struct.unpack_from("<I", content, place + 12 + length)
        if length <= _LONGEST_CHECKED and _masked_crc(record) != told:
            troubles.append(f"{file}: the record at byte {place:,} is damaged and left out")
        else:
            yield place, record
        place += 16 + length


def _table() -> list[int]:
    """Of CRC-32C (Castagnoli), reflected, by bytes."""
    table = []
    for byte in range(256):
        value = byte
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
        table.append(value)
    return table


_TABLE = _table()


def _masked_crc(content: bytes) -> int:
    """As TFRecord stores it: rotated right by 15 bits, plus a constant."""
    crc = 0xFFFFFFFF
    for byte in content:
        crc = _TABLE[(crc ^ byte) & 255] ^ crc >> 8
    crc ^= 0xFFFFFFFF
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF
