"""What becomes of the documents of a pass: by the thresholds of its steps, and by comparing them with each other.

Nothing here reads text, but for what corpus-wide steps ask for.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polyana.corpus.chunks import Chunk, Sizes
from polyana.corpus.executor import Executor, Task
from polyana.corpus.stage import CorpusConfig
from polyana.corpus.steps.step import Columns, CorpusWide, Records, StepConfig, joined

__all__ = ["Decided", "Reason", "decide", "measured"]

Made = tuple[Any, list[Path]]  # what a task gives: a result, and the files it wrote

_RECORD = 32  # bytes of a record of ordinary length, at most

Reason = tuple[int, str]
"""The place of a step, and why it dropped or edited."""


@dataclass
class Decided:
    """Of each chunk's documents the number of the reason that drops it, or -1; `reasons` by their number.

    `noted`: what the numbers in a chunk's own columns `gone` and `edits` mean.

    `twins`: by step, of copies, `dropped`, sorted, and `kept` in its place: rows counted through all chunks; they lie
    on the disk. `settled`: for each chunk the file with what a step that reworks documents has to know of them.
    """

    chunks: list[Chunk]
    noted: list[list[Reason]]
    fates: list[NDArray[np.int16]] = field(init=False)  # all of them are in memory: two bytes for each document
    reasons: list[Reason] = field(default_factory=list)
    twins: dict[int, Records] = field(default_factory=dict)
    settled: list[Path] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.fates = [np.full(len(chunk.column("length")), -1, np.int16) for chunk in self.chunks]

    @cached_property
    def firsts(self) -> list[int]:
        """The row of each chunk's first document, and behind them the number of all."""
        return [0, *np.cumsum([len(fates) for fates in self.fates]).tolist()]

    def number(self, reason: Reason) -> int:
        if reason not in self.reasons:
            self.reasons.append(reason)
        return self.reasons.index(reason)

    def stays(self, chunk: int) -> NDArray[np.int64]:
        """Rows of a chunk's documents that are kept."""
        return np.flatnonzero(self.fates[chunk] < 0)

    def chunk_of(self, row: int) -> tuple[int, int]:
        """(chunk, row in it) of a row of the corpus."""
        at = int(np.searchsorted(self.firsts, row, "right")) - 1
        return at, row - self.firsts[at]

    def places(self, chunk: int) -> NDArray[np.int64]:
        """The step that drops each of a chunk's documents; behind all steps for those that are kept."""
        last = np.iinfo(np.int64).max
        return np.array([place for place, _ in self.reasons] + [last], np.int64)[self.fates[chunk]]

    def kept_for(self, rows: set[int]) -> dict[int, int]:
        """From those of the rows that were dropped as copies to the one that was kept."""
        found: dict[int, int] = {}
        wanted = np.array(sorted(rows), np.int64)
        for twins in self.twins.values():
            at, ends = (np.searchsorted(twins["dropped"], wanted, side) for side in ("left", "right"))
            mine = at[ends > at]
            found |= zip(wanted[ends > at].tolist(), twins["kept"][mine].tolist(), strict=True)
        return found


def decide(
    config: CorpusConfig, place: int, decided: Decided, directory: Path, executor: Executor, sizes: Sizes
) -> None:
    """Decide by one more step.

    `directory` is for what corpus-wide steps write: they find it again when the same is decided once more.
    """
    step = config.all_steps[place]
    for number in range(len(decided.chunks)):
        _follow(number, place, decided)
        if not isinstance(step, CorpusWide):
            _judge(step, place, config.languages, number, decided)
    if isinstance(step, CorpusWide) and decided.chunks:
        _compare(step, place, decided, directory / str(place), executor, sizes)


def _follow(number: int, place: int, decided: Decided) -> None:
    """Drop what the step dropped at once, whatever the thresholds."""
    if not any(at == place for at, _ in decided.noted[number]):
        return
    gone, fates = decided.chunks[number].column("gone"), decided.fates[number]
    for code, reason in enumerate(decided.noted[number]):
        if reason[0] == place and len(rows := np.flatnonzero((gone == code) & (fates < 0))):
            fates[rows] = decided.number(reason)


def _judge(step: StepConfig, place: int, languages: tuple[str, ...], number: int, decided: Decided) -> None:
    fates = decided.fates[number]
    for language, rows, columns in measured(decided.chunks[number], place, languages, fates < 0):
        for verdict in step.verdicts(columns, language):
            out = rows[verdict.thrown & (fates[rows] < 0)]
            if len(out):
                fates[out] = decided.number((place, verdict.reason))


def measured(
    chunk: Chunk, place: int, languages: tuple[str, ...], wanted: NDArray[np.bool_]
) -> Iterator[tuple[str, NDArray[np.int64], Columns]]:
    """What a step measured of the wanted documents: (language, their rows, the columns by their own names)."""
    names = [name for name in chunk.names if name.startswith(f"{place}.")]
    if not names:
        return
    columns = chunk.columns([*names, "language"])
    for number, language in enumerate(languages):
        rows = np.flatnonzero((columns["language"] == number) & wanted)
        yield language, rows, {name.partition(".")[2]: columns[name][rows] for name in names}


def _compare(step: CorpusWide, place: int, decided: Decided, directory: Path, executor: Executor, sizes: Sizes) -> None:
    met = _meetings(step, place, decided, directory, executor, sizes, None)
    if step.narrows:
        np.savez(directory / "narrowed.npz", **step.settle(_Met(met), decided.firsts[-1]))  # type: ignore[arg-type]
        met = _meetings(step, place, decided, directory / "again", executor, sizes, directory / "narrowed.npz")
    ranges = list(pairwise(decided.firsts))
    if step.by_row:
        targets = [directory / f"settled-{chunk.name}.npz" for chunk in decided.chunks]
        settling = [(step, met, *each) for each in zip(ranges, targets, strict=True)]
        executor.run([Task(each[-1].with_suffix(".json"), _settle, each) for each in settling])
        decided.settled = targets
        return
    settled = step.settle(_Met(met), decided.firsts[-1])
    if step.reworks:
        target = directory / "settled.npz"
        np.savez(target, **settled)  # type: ignore[arg-type]
        decided.settled = [target] * len(decided.chunks)
        return
    reason = decided.number((place, "copy of another document"))
    order = np.argsort(settled["dropped"])
    _save(directory / "twins", {name: settled[name][order] for name in ("dropped", "kept")})
    twins = decided.twins[place] = _load(directory / "twins")
    for fates, (first, end) in zip(decided.fates, ranges, strict=True):
        low, high = np.searchsorted(twins["dropped"], (first, end))
        fates[twins["dropped"][low:high] - first] = reason


def _meetings(
    step: CorpusWide, place: int, decided: Decided, directory: Path, executor: Executor, sizes: Sizes,
    narrowed: Path | None,
) -> list[Path]:  # fmt: skip
    """Compare all documents; where what follows from it lies. `narrowed`: what did in the first round, in the second"""
    directory.mkdir(parents=True, exist_ok=True)
    alive = []
    for number, chunk in enumerate(decided.chunks):
        np.save(directory / f"alive-{chunk.name}.npy", decided.stays(number))
        alive.append(directory / f"alive-{chunk.name}.npy")
    emitting = [
        Task(directory / f"emitted-{chunk.name}.json", _emit, (step, place, chunk, path, first, directory, narrowed))
        for chunk, path, first in zip(decided.chunks, alive, decided.firsts[:-1], strict=True)
    ]
    count = sum(executor.run(emitting))
    buckets = max(1, -(-count // sizes.records))
    names = [chunk.name for chunk in decided.chunks]
    meeting = [
        Task(directory / f"met-{number:05d}-of-{buckets:05d}.json", _meet, (step, directory, names, number, buckets))
        for number in range(buckets)
    ]
    return [directory / name for name in executor.run(meeting)]


def _emit(
    step: CorpusWide, place: int, chunk: Chunk, alive: Path, first: int, directory: Path, narrowed: Path | None
) -> Made:
    """Write the records of a chunk, in the order of their keys; their number, long ones counted as several."""
    rows = np.load(alive)
    names = [name for name in chunk.names if name.startswith(f"{place}.") or name == "length"]
    columns = {name.rpartition(".")[2]: values[rows] for name, values in chunk.columns(names).items()}

    def texts() -> list[str]:
        wanted = set(rows.tolist())
        return [each.text for row, each in enumerate(chunk.documents()) if row in wanted]

    if narrowed is None:
        records = step.emit(columns, texts, rows + first)
    else:
        with np.load(narrowed) as settled:
            records = step.emit_again(columns, texts, rows + first, dict(settled))
    order = np.argsort(records["key"], kind="stable")
    target = directory / f"emitted-{chunk.name}"
    size = sum(values.nbytes for values in records.values())
    return max(len(order), size // _RECORD), _save(target, {name: values[order] for name, values in records.items()})


def _meet(step: CorpusWide, directory: Path, names: list[str], number: int, buckets: int) -> Made:
    """Bring together the records whose keys lie in one bucket of `buckets`; the name of what follows from them."""
    low, high = (-(-(each << 64) // buckets) for each in (number, number + 1))
    parts = []
    for name in names:
        records = _load(directory / f"emitted-{name}")
        start = int(np.searchsorted(records["key"], np.uint64(low)))
        end = int(np.searchsorted(records["key"], np.uint64(high))) if number + 1 < buckets else len(records["key"])
        parts.append({each: np.array(values[start:end]) for each, values in records.items()})  # the file is let go
    target = f"met-{number:05d}-of-{buckets:05d}"
    return target, _save(directory / target, step.meet(joined(parts)))


def _settle(step: CorpusWide, met: list[Path], rows: tuple[int, int], target: Path) -> tuple[None, list[Path]]:
    """Write what a step has to know of the documents of one chunk."""
    parts = []
    for directory in met:
        records = _load(directory)
        low, high = np.searchsorted(records["row"], rows)
        parts.append({name: np.array(values[low:high]) for name, values in records.items()})
    np.savez(target, **step.settle(parts, rows[1]))  # type: ignore[arg-type]
    return None, [target]


def _save(directory: Path, records: Records) -> list[Path]:
    """A file for each column, so that a part of it can be read."""
    directory.mkdir(exist_ok=True)
    for name, values in records.items():
        np.save(directory / f"{name}.npy", values)
    return [directory / f"{name}.npy" for name in records]


class _Met(Sequence[Records]):
    """Records on the disk, of which only those that are looked at are in memory."""

    def __init__(self, directories: list[Path]) -> None:
        self._directories = directories

    def __len__(self) -> int:
        return len(self._directories)

    def __getitem__(self, at: Any) -> Any:
        return _Met(self._directories[at]) if isinstance(at, slice) else _load(self._directories[at])


def _load(directory: Path) -> Records:
    return {path.stem: np.load(path, mmap_mode="r") for path in sorted(directory.glob("*.npy"))}
