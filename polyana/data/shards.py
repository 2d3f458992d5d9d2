"""Token ids of a split on disk, memory-mapped.

A shard file: 32 bytes of header (magic "polytoks", version, bytes per token, number of tokens, number of documents; the
last two 64-bit, little-endian), then the tokens, then from the next multiple of 8 bytes on the position of each
document's first token as 64-bit numbers. Every document of plain text ends with the end-of-text token. Examples have a
weights file beside the shard: what each token counts in the loss, as 32-bit floats. Checksums are the artifact's.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from polyana.errors import Damaged

__all__ = ["ShardWriter", "TokenShards"]

_MAGIC = b"polytoks"
_VERSION = 1
_HEADER = struct.Struct("<8sIIQQ")
_SHARD = 1 << 28  # tokens in a shard (0.5 GB at two bytes): few files, each small enough to copy; guess


class ShardWriter:
    """Writes the shards of one split, and the documents' ids beside them (SPLIT.ids, one a line)."""

    def __init__(self, directory: Path, split: str, vocab_size: int, shard_tokens: int = _SHARD) -> None:
        self._directory, self._split, self._limit = directory, split, shard_tokens
        self._dtype: np.dtype[np.unsignedinteger] = np.dtype("<u2" if vocab_size <= 1 << 16 else "<u4")
        self._ids = (directory / f"{split}.ids").open("w", encoding="utf-8", errors="replace", newline="\n")
        self._stream: BinaryIO | None = None
        self._weights: BinaryIO | None = None
        self._starts: list[int] = []
        self._number = self._tokens = 0

    def write(self, identifier: str, tokens: NDArray[np.uint32], weights: NDArray[np.float32] | None = None) -> None:
        """Append one document, its end-of-text token included; or an example, with the weight of each of its tokens."""
        if self._stream is None or self._tokens >= self._limit:
            self._next(weights is not None)
        assert self._stream is not None
        if weights is not None:
            assert self._weights is not None
            self._weights.write(weights.astype("<f4").tobytes())
        self._starts.append(self._tokens)
        self._stream.write(tokens.astype(self._dtype).tobytes())
        self._tokens += len(tokens)
        self._ids.write(identifier.replace("\n", " ") + "\n")

    def write_all(self, identifiers: list[str], tokens: NDArray[np.uint32], counts: NDArray[np.int64]) -> None:
        """Append documents whose `tokens` lie one behind the other, each with its end-of-text token; `counts` says how
        many are whose."""
        ends = np.cumsum(counts)
        documents = written = 0
        while documents < len(counts):
            if self._stream is None or self._tokens >= self._limit:
                self._next(weighted=False)
            assert self._stream is not None
            # up to the first document after which the shard is full
            last = int(np.searchsorted(ends, written + self._limit - self._tokens)) + 1
            upto = int(ends[min(last, len(counts)) - 1])
            starts = ends[documents:last] - counts[documents:last] - written + self._tokens
            self._starts.extend(starts.tolist())
            self._stream.write(tokens[written:upto].astype(self._dtype).tobytes())
            self._tokens += upto - written
            documents, written = last, upto
        self._ids.writelines(identifier.replace("\n", " ") + "\n" for identifier in identifiers)

    def _next(self, weighted: bool) -> None:
        self._finish()
        path = self._directory / f"{self._split}-{self._number:05d}.tokens"
        self._stream = path.open("wb")
        self._weights = path.with_suffix(".weights").open("wb") if weighted else None
        self._stream.write(bytes(_HEADER.size))
        self._number, self._tokens, self._starts = self._number + 1, 0, []

    def _finish(self) -> None:
        if self._stream is None:
            return
        self._stream.write(bytes(-self._stream.tell() % 8))
        self._stream.write(np.asarray(self._starts, dtype="<u8").tobytes())
        self._stream.seek(0)
        self._stream.write(_HEADER.pack(_MAGIC, _VERSION, self._dtype.itemsize, self._tokens, len(self._starts)))
        self._stream.close()
        self._stream = None
        if self._weights is not None:
            self._weights.close()

    def close(self) -> None:
        self._finish()
        self._ids.close()


class _Shard:
    """One mapped file: `tokens`, their `weights` if it has any, and the starts of its documents."""

    def __init__(self, path: Path) -> None:
        with path.open("rb") as stream:
            header = stream.read(_HEADER.size)
        try:
            magic, version, width, count, documents = _HEADER.unpack(header)
        except struct.error:
            raise Damaged(f"{path} is damaged: it is shorter than its header") from None
        if magic != _MAGIC or version != _VERSION or width not in (2, 4):
            raise Damaged(f"{path} is no token shard of version {_VERSION}")
        starts_at = _HEADER.size + count * width
        starts_at += -starts_at % 8
        if path.stat().st_size != starts_at + 8 * documents:
            raise Damaged(f"{path} is damaged: its size is not the one its header gives")
        self.tokens = np.memmap(path, dtype=f"<u{width}", mode="r", offset=_HEADER.size, shape=(count,))
        self.starts = np.memmap(path, dtype="<u8", mode="r", offset=starts_at, shape=(documents,))
        weights = path.with_suffix(".weights")
        self.weights = np.memmap(weights, dtype="<f4", mode="r") if weights.exists() else None
        if self.weights is not None and len(self.weights) != count:
            raise Damaged(f"{weights} is damaged: it has {len(self.weights)} weights for {count} tokens")


class TokenShards:
    """All tokens of a split as one long sequence, in the order they were written."""

    def __init__(self, directory: Path, split: str) -> None:
        self._ids_path = directory / f"{split}.ids"
        self._shards = [_Shard(path) for path in sorted(directory.glob(f"{split}-*.tokens"))]
        sizes = [len(shard.tokens) for shard in self._shards]
        self._first_token = np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)]).astype(np.int64)
        documents = [len(shard.starts) for shard in self._shards]
        self._first_document = np.concatenate([[0], np.cumsum(documents, dtype=np.int64)]).astype(np.int64)

    def __len__(self) -> int:
        return int(self._first_token[-1])

    @property
    def documents(self) -> int:
        return int(self._first_document[-1])

    @property
    def weighted(self) -> bool:
        """Whether these are examples, whose tokens count more or less or not at all, and not plain text."""
        return any(shard.weights is not None for shard in self._shards)

    def weights(self, start: int, stop: int) -> NDArray[np.float32]:
        """What the tokens [start, stop) count as targets; those of plain text 1."""
        weights = np.ones(stop - start, dtype=np.float32)
        for index, shard in self._covering(start, stop):
            first = int(self._first_token[index])
            low, high = max(start - first, 0), min(stop - first, len(shard.tokens))
            if shard.weights is not None:
                weights[low + first - start : high + first - start] = shard.weights[low:high]
        return weights

    def document_starts(self) -> NDArray[np.int64]:
        """The position of each document's first token."""
        parts = [
            shard.starts.astype(np.int64) + first
            for shard, first in zip(self._shards, self._first_token[:-1], strict=True)
        ]
        return np.concatenate([np.empty(0, dtype=np.int64), *parts])

    def read(self, start: int, stop: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Tokens [start, stop) and, for each, the number of the document it belongs to."""
        tokens, documents = [], []
        for index, shard in self._covering(start, stop):
            first = int(self._first_token[index])
            low, high = max(start - first, 0), min(stop - first, len(shard.tokens))
            positions = np.arange(low, high, dtype=np.uint64)  # of the type of `starts`, or all of them were converted
            inside = np.searchsorted(shard.starts, positions, side="right") - 1
            tokens.append(shard.tokens[low:high].astype(np.int64))
            documents.append(inside + self._first_document[index])
        return np.concatenate(tokens), np.concatenate(documents).astype(np.int64)

    def _covering(self, start: int, stop: int) -> Iterator[tuple[int, _Shard]]:
        index = int(np.searchsorted(self._first_token, start, side="right")) - 1
        while index < len(self._shards) and self._first_token[index] < stop:
            yield index, self._shards[index]
            index += 1

    def ids(self, documents: Iterable[int]) -> list[str]:
        """The ids of documents by number; reads the list from its start, so it is for messages, not for loops."""
        wanted = set(documents)
        with self._ids_path.open(encoding="utf-8", newline="\n") as lines:
            return [line.rstrip("\n") for number, line in enumerate(lines) if number in wanted]
