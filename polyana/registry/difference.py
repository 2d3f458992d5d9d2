"""How far two commits lie apart: settings, metrics, and each tensor's distance.

Weights are read piece by piece, so two models that do not fit into memory can be compared. No torch is needed.
"""

from __future__ import annotations

import mmap
import re
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from math import prod, sqrt
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polyana.registry.commit import by_number
from polyana.registry.describe import read_header
from polyana.storage import changes, read_json

__all__ = ["Distance", "by_layer", "settings_that_differ", "weight_distances"]

_PIECE = 1 << 20  # numbers compared at a time; guess
_KINDS = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "<i1", "U64": "<u8",
    "U32": "<u4", "U16": "<u2", "U8": "<u1", "BOOL": "<u1",
}  # fmt: skip
_LAYER = re.compile(r"^(.*?\.\d+)\.")  # a block's place among blocks: model.layers.3


@dataclass(frozen=True)
class Distance:
    """Of a tensor, or of several together. relative: the norm of the difference over that of the first; largest: of the
    differences of single numbers. `why`: instead of figures, where there are none."""

    name: str
    numbers: int
    difference: float = 0.0
    norm: float = 0.0
    largest: float = 0.0
    why: str = ""

    @property
    def relative(self) -> float:
        return self.difference / self.norm if self.norm else float(self.difference > 0)


def weight_distances(one: Mapping[str, Path], other: Mapping[str, Path]) -> Iterator[Distance]:
    """Each tensor of two saves (.safetensors files by name), layer 2 before 10; those of the second alone last.

    Needs some megabytes of memory, whatever the tensors' sizes.
    """
    with ExitStack() as stack:
        first, second = (
            {name: (mapped, about) for path in files.values() for name, mapped, about in _tensors(path, stack)}
            for files in (one, other)
        )
        for name in sorted(first, key=by_number):
            mapped, about = first[name]
            numbers = prod(about["shape"])
            if name not in second:
                yield Distance(name, numbers, why="only in the first")
                continue
            mapped_other, about_other = second[name]
            if about["shape"] != about_other["shape"]:
                shapes = " and ".join("x".join(map(str, each["shape"])) or "1" for each in (about, about_other))
                yield Distance(name, numbers, why=f"of different shapes: {shapes}")
                continue
            if unknown := {about["dtype"], about_other["dtype"]} - {*_KINDS, "BF16"}:
                yield Distance(name, numbers, why=f"of type {unknown.pop()}, which is not compared")
                continue
            squares, norms, largest = 0.0, 0.0, 0.0
            for begin in range(0, numbers, _PIECE):
                a = _numbers(mapped, about, begin, min(_PIECE, numbers - begin))
                b = _numbers(mapped_other, about_other, begin, min(_PIECE, numbers - begin))
                apart = b - a
                squares += float(apart @ apart)
                norms += float(a @ a)
                largest = max(largest, float(np.abs(apart).max()))
            yield Distance(name, numbers, sqrt(squares), sqrt(norms), largest)
        for name in sorted(second.keys() - first.keys(), key=by_number):
            yield Distance(name, prod(second[name][1]["shape"]), why="only in the second")


def by_layer(distances: list[Distance]) -> list[Distance]:
    """The same for each block as a whole, and for each tensor that is in none."""
    groups: dict[str, list[Distance]] = {}
    for each in distances:
        if not each.why:
            match = _LAYER.match(each.name)
            groups.setdefault(match[1] if match else each.name, []).append(each)
    return [
        Distance(
            name,
            sum(each.numbers for each in group),
            sqrt(sum(each.difference**2 for each in group)),
            sqrt(sum(each.norm**2 for each in group)),
            max(each.largest for each in group),
        )
        for name, group in groups.items()
    ]


def settings_that_differ(one: Path, other: Path, names: tuple[str, ...]) -> dict[str, list[str]]:
    """For JSON files of two saves' directories, what was and what is; a file without differences is left out."""
    found = {}
    for name in names:
        before, after = (read_json(place / name) if (place / name).exists() else {} for place in (one, other))
        if differences := changes(before, after):
            found[name] = differences
    return found


def _tensors(path: Path, stack: ExitStack) -> Iterator[tuple[str, memoryview, dict[str, Any]]]:
    """Name, bytes and description of each tensor in a file, whose pages the system brings and takes at will."""
    header, data = read_header(path)
    stream = stack.enter_context(path.open("rb"))
    mapped = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
    whole = stack.enter_context(memoryview(mapped))
    for name, about in header.items():
        begin, end = about["data_offsets"]
        yield name, whole[data + begin : data + end], about


def _numbers(content: memoryview, about: Mapping[str, Any], begin: int, count: int) -> NDArray[np.float64]:
    """Some numbers of a tensor."""
    kind = about["dtype"]
    if kind == "BF16":
        halves = np.frombuffer(content, "<u2", count, 2 * begin)
        return (halves.astype(np.uint32) << 16).view(np.float32).astype(np.float64)
    width = np.dtype(_KINDS[kind]).itemsize
    return np.frombuffer(content, _KINDS[kind], count, width * begin).astype(np.float64)
