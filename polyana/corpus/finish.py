"""The last step: every kept document to its split and its place in the order of the whole corpus.

The order follows from the documents' ids alone. Each chunk is dealt out to the shards it goes to; then each shard puts
what it was dealt in order. So nothing larger than a chunk or a shard is ever in memory.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import zstandard
from numpy.typing import NDArray

from polyana.corpus.chunks import Chunk
from polyana.corpus.document import Split
from polyana.corpus.executor import Executor, Task

__all__ = ["SPLITS", "lots_of", "write_shards"]

SPLITS: tuple[Split, Split] = ("train", "eval")
_SHARD = 64 * 10**6  # bytes of text in a shard, all of which are in memory once; guess


def write_shards(
    chunks: list[Chunk], copies: list[Path], sizes: dict[Split, int], directory: Path, workshop: Path,
    executor: Executor,
) -> None:  # fmt: skip
    """Write TRAIN-00000.jsonl.zst and so on into `directory`.

    `copies`: for each chunk an array file, [rows, splits], how often a document goes to each split; `sizes`: bytes
    of each split, about.
    """
    shards = {split: -(-sizes[split] // _SHARD) for split in SPLITS}
    counts = [shards[split] for split in SPLITS]
    dealing = [
        Task(workshop / f"dealt-{chunk.name}.json", _deal, (chunk, path, counts, workshop))
        for chunk, path in zip(chunks, copies, strict=True)
    ]
    executor.run(dealing)
    names = [chunk.name for chunk in chunks]
    targets = [workshop / f"{split}-{number:05d}.jsonl.zst" for split in SPLITS for number in range(shards[split])]
    executor.run(
        [
            Task(target.with_suffix(".json"), _write, (target, workshop, names, number))
            for number, target in enumerate(targets)
        ]
    )
    for target in targets:
        link_or_copy(target, directory / target.name)


def link_or_copy(source: Path, target: Path) -> None:
    """A second name of the file, where the disk allows."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def lots_of(keys: NDArray[np.uint64]) -> NDArray[np.float64]:
    """A number in [0, 1) for each document that says nothing about its place in the order."""
    return _turned(keys, np.ones(len(keys), np.uint64)) / 2.0**64


def _deal(chunk: Chunk, copies: Path, counts: list[int], workshop: Path) -> tuple[None, list[Path]]:
    """Write a chunk's documents shard by shard, each shard's in one zstd frame, and the key of each."""
    columns = chunk.columns(["order"])
    given = np.load(copies)
    lines = [line.removesuffix(b"\n") for line in chunk.lines()]
    rows, splits = np.nonzero(given)
    times = given[rows, splits]
    rows, splits = np.repeat(rows, times), np.repeat(splits, times)
    turns = np.arange(len(rows)) - np.repeat(np.cumsum(times) - times, times)  # which copy of its document
    keys = _turned(columns["order"][rows], turns.astype(np.uint64))
    shards = (keys >> np.uint64(32)) * np.array(counts, np.uint64)[splits] >> np.uint64(32)
    shards = shards.astype(np.int64) + np.array([0, counts[0]])[splits]
    order = np.lexsort([keys, shards])
    ends = np.searchsorted(shards[order], np.arange(sum(counts)), "right")
    offsets, start = [0], 0
    with (workshop / f"dealt-{chunk.name}.zst").open("wb") as stream:
        for end in ends.tolist():
            mine = order[start:end]
            text = b"".join(_copy(lines[rows[at]], int(turns[at])) + b"\n" for at in mine.tolist())
            offsets.append(offsets[-1] + stream.write(zstandard.compress(text, 1)))
            start = end
    np.savez(
        workshop / f"dealt-{chunk.name}.npz",
        keys=keys[order], ends=np.concatenate([[0], ends]), offsets=np.array(offsets, np.int64),
    )  # fmt: skip
    return None, [workshop / f"dealt-{chunk.name}.{end}" for end in ("zst", "npz")]


def _turned(keys: NDArray[np.uint64], turns: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The keys of a document's copies: its own, then others from it (the steps of SplitMix64)."""
    moved = keys + turns * np.uint64(0x9E3779B97F4A7C15)
    mixed = (moved ^ (moved >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.where(turns == 0, keys, mixed ^ (mixed >> np.uint64(31)))


def _copy(line: bytes, turn: int) -> bytes:
    """A document's line; copies are told apart by their ids."""
    if turn == 0:
        return line
    row: dict[str, Any] = json.loads(line)
    return json.dumps({"id": f"{row['id']}~{turn + 1}", "text": row["text"]}, ensure_ascii=False).encode()


def _write(target: Path, workshop: Path, names: list[str], shard: int) -> tuple[None, list[Path]]:
    lines, keys = list[bytes](), list[NDArray[np.uint64]]()
    for name in names:
        with np.load(workshop / f"dealt-{name}.npz") as dealt:
            ends, offsets = dealt["ends"], dealt["offsets"]
            keys.append(dealt["keys"][ends[shard] : ends[shard + 1]])
        if len(keys[-1]):
            with (workshop / f"dealt-{name}.zst").open("rb") as stream:
                stream.seek(int(offsets[shard]))
                packed = stream.read(int(offsets[shard + 1] - offsets[shard]))
            lines += zstandard.decompress(packed).split(b"\n")[:-1]
    order = np.argsort(np.concatenate(keys), kind="stable")
    compressor = zstandard.ZstdCompressor(level=1)  # half the time of 3, a tenth more on the disk
    target.unlink(missing_ok=True)  # a damaged one may be a finished corpus's file by its second name: leave that alone
    # by itself: where the disk is full, a stream does not close its file
    with target.open("wb") as file, compressor.stream_writer(file, closefd=False) as shard_stream:
        for start in range(0, len(order), 1000):
            shard_stream.write(b"".join(lines[at] + b"\n" for at in order[start : start + 1000].tolist()))
    return None, [target]
