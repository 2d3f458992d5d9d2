"""Protocol buffers without a schema: as much of the wire format as reading other trackers' files takes.

https://protobuf.dev/programming-guides/encoding/
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

__all__ = ["fields", "first", "integer", "number", "text"]

Value = int | bytes
"""A varint, or the bytes of anything else."""


def fields(message: bytes) -> dict[int, list[Value]]:
    """The fields of a message by their numbers. Raises ValueError when it is damaged."""
    found: dict[int, list[Value]] = {}
    for key, value in _parts(message):
        found.setdefault(key, []).append(value)
    return found


def first(message: dict[int, list[Value]], key: int) -> dict[int, list[Value]]:
    """The message in a field; one without fields where there is none."""
    value = message.get(key, [b""])[-1]
    return fields(value) if isinstance(value, bytes) else {}


def text(message: dict[int, list[Value]], key: int) -> str:
    value = message.get(key, [b""])[-1]
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def integer(message: dict[int, list[Value]], key: int) -> int:
    """An int64; 0 where the field is missing, as the format has it."""
    value = message.get(key, [0])[-1]
    if not isinstance(value, int):
        raise ValueError(f"field {key} is no whole number")
    return value - (1 << 64) if value >= 1 << 63 else value


def number(message: dict[int, list[Value]], key: int) -> float:
    """A float or a double; 0 where the field is missing."""
    value = message.get(key, [b"\0" * 8])[-1]
    if not isinstance(value, bytes) or len(value) not in (4, 8):
        raise ValueError(f"field {key} is no number")
    return float(struct.unpack("<d" if len(value) == 8 else "<f", value)[0])


def _parts(message: bytes) -> Iterator[tuple[int, Value]]:
    place, end = 0, len(message)
    while place < end:
        key, place = _varint(message, place)
        kind = key & 7
        if kind == 0:
            value, place = _varint(message, place)
            yield key >> 3, value
            continue
        if kind == 2:
            length, place = _varint(message, place)
        elif kind in (1, 5):
            length = 8 if kind == 1 else 4
        else:
            raise ValueError(f"a field of kind {kind}")
        if place + length > end:
            raise ValueError("a field that is longer than its message")
        yield key >> 3, message[place : place + length]
        place += length


def _varint(message: bytes, place: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if place >= len(message) or shift > 63:
            raise ValueError("a number without an end")
        byte = message[place]
        value |= (byte & 127) << shift
        place, shift = place + 1, shift + 7
        if byte < 128:
            return value, place
