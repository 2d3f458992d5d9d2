"""Documents between two passes: some tens of megabytes of text, a column of numbers for whatever was measured.

00003-001.jsonl.zst    the documents, as the finished corpus has them
00003-001.npz          a column each: `size` as read, `length` now, and what the steps measured
00003-001.dropped.zst  what was dropped while it was read, as lines of drops.jsonl
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from json.encoder import encode_basestring as quoted
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import zstandard
from numpy.typing import NDArray
from pydantic_core import from_json

from polyana.corpus.document import Document, Dropped
from polyana.corpus.steps.step import Block

__all__ = ["EDITS", "SIZES", "Chunk", "ChunkWriter", "Sizes", "blocks_of", "drop_line"]

EDITS = "edits"  # the one column that is not by document: row, number of the reason, bytes taken


@dataclass(frozen=True)
class Sizes:
    """How much is done at once. It decides on memory and time, and on nothing that comes out."""

    block: int = 2 * 10**6  # characters that steps see at once; 8 or 4 times as many took 0.2 GB more and no less time
    documents: int = 20_000  # or so many documents
    chunk: int = 64 * 10**6  # bytes of text in a chunk: what one task holds of columns and writes again; guess
    rows: int = 200_000  # or so many documents
    records: int = 1 << 20  # of a corpus-wide step that meet in one task, 200 MB with what sorting takes: measured
    process: int = 8 * 10**6  # bytes to read that are worth a process: done in the second that one needs to begin


SIZES = Sizes()


class Chunk:
    """A chunk on the disk. `name` says its part and its place there, and sorts as the corpus is ordered."""

    def __init__(self, directory: Path, name: str) -> None:
        self.directory, self.name = directory, name

    def column(self, name: str) -> NDArray[Any]:
        """Of every document; the other columns are not read."""
        with np.load(self.directory / f"{self.name}.npz") as columns:
            return np.asarray(columns[name])

    def columns(self, names: Sequence[str]) -> dict[str, NDArray[Any]]:
        with np.load(self.directory / f"{self.name}.npz") as columns:
            return {name: np.asarray(columns[name]) for name in names}

    @property
    def names(self) -> list[str]:
        """Of its columns."""
        with np.load(self.directory / f"{self.name}.npz") as columns:
            return list(columns.files)

    def lines(self) -> Iterator[bytes]:
        """Documents as they are stored."""
        with io.BufferedReader(zstandard.open(self.directory / f"{self.name}.jsonl.zst", "rb")) as lines:
            yield from lines

    def documents(self) -> Iterator[Document]:
        for line in self.lines():
            row = from_json(line, cache_strings="keys")
            yield Document(row["id"], row["text"])

    def write_dropped(self, target: BinaryIO) -> None:
        """What was dropped while it was read, as lines of drops.jsonl."""
        with (self.directory / f"{self.name}.dropped.zst").open("rb") as packed:
            zstandard.ZstdDecompressor().copy_stream(packed, target)


def drop_line(identifier: str, reason: str, size: int) -> str:
    """A line of drops.jsonl."""
    return f'{{"id": {quoted(identifier)}, "reason": {quoted(reason)}, "size": {size}}}\n'


class ChunkWriter:
    """Writes blocks and their columns as chunks of one part, `names`; they are whole behind the `with` statement."""

    def __init__(self, directory: Path, part: int, sizes: Sizes) -> None:
        self._directory, self._part, self._sizes = directory, part, sizes
        self.names: list[str] = []
        self._columns: dict[str, list[NDArray[Any]]] = {}
        self._size, self._rows = 0, 0
        self._files = ExitStack()
        self._documents: Any = None
        self._dropped: Any = None

    def __enter__(self) -> ChunkWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self._end()
        else:
            self._files.close()  # in the middle of a chunk that nobody will ask for

    @property
    def files(self) -> list[Path]:
        """Those written."""
        return [self._directory / f"{name}.{end}" for name in self.names for end in ("jsonl.zst", "npz", "dropped.zst")]

    def write(
        self,
        block: Block,
        columns: dict[str, NDArray[Any]],
        edits: Sequence[tuple[int, int, int]],
        dropped: Iterable[str],
    ) -> None:
        """`edits`: place in the block, number of the reason, bytes taken; `dropped`: lines of drops.jsonl."""
        if self._documents is None or self._size > self._sizes.chunk or self._rows > self._sizes.rows:
            self._end()
            self._begin()
        # as json.dumps would, which takes ten times as long for short texts
        text = "".join(
            f'{{"id": {quoted(identifier)}, "text": {quoted(text)}}}\n'
            for identifier, text in zip(block.ids, block.texts, strict=True)
        )
        # U+D800..DFFF (half a character, possible in JSON) has no UTF-8; it becomes "?"
        encoded = text.encode("utf-8", "replace")
        self._documents.write(encoded)
        self._dropped.write("".join(dropped).encode("utf-8", "replace"))
        edited = np.array(edits, np.int64).reshape(-1, 3)
        edited[:, 0] += self._rows
        for name, values in (columns | {EDITS: edited}).items():
            self._columns.setdefault(name, []).append(values)
        self._size += len(encoded)
        self._rows += len(block)

    def _begin(self) -> None:
        self.names.append(f"{self._part:05d}-{len(self.names):03d}")
        self._documents, self._dropped = self._open("jsonl.zst"), self._open("dropped.zst")
        self._size, self._rows = 0, 0

    def _open(self, ending: str) -> Any:
        # by itself: where the disk is full, a stream does not close its file
        packed = self._files.enter_context((self._directory / f"{self.names[-1]}.{ending}").open("wb"))
        compressor = zstandard.ZstdCompressor(level=-3)  # fast: it is read once or twice and thrown away
        return self._files.enter_context(compressor.stream_writer(packed, closefd=False))

    def _end(self) -> None:
        if self._documents is None:
            return
        self._files.close()
        columns: dict[str, Any] = {name: np.concatenate(values) for name, values in self._columns.items()}
        np.savez(self._directory / f"{self.names[-1]}.npz", **columns)
        self._columns = {}
        self._documents = self._dropped = None


def blocks_of(items: Iterator[Document | Dropped], sizes: Sizes) -> Iterator[tuple[list[Document], list[Dropped]]]:
    """Documents some at a time, and what was dropped between them."""
    documents, dropped, size = list[Document](), list[Dropped](), 0
    for item in items:
        if isinstance(item, Dropped):
            dropped.append(item)
        else:
            documents.append(item)
            size += len(item.text)
        if size > sizes.block or len(documents) + len(dropped) >= sizes.documents:
            yield documents, dropped
            documents, dropped, size = [], [], 0
    if documents or dropped:
        yield documents, dropped
