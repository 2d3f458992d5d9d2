"""Documents on disk: compressed JSONL shards that any tool reads (`zstdcat train-00000.jsonl.zst`)."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import zstandard
from pydantic_core import from_json

from polyana.corpus.document import Document, Split
from polyana.storage import read_json

__all__ = ["Corpus", "DocumentWriter"]

_SHARD = 256 * 10**6  # bytes of text in a shard; guess: small enough to copy, large enough to be few
_READ = 1 << 20  # bytes unpacked at once; measured: no faster from here on


class DocumentWriter:
    """Writes one split's documents as shards of about 256 MB of text."""

    def __init__(self, directory: Path, split: Split) -> None:
        self._directory, self._split = directory, split
        self._number, self._size = 0, 0
        self._stream: io.TextIOWrapper | None = None

    def write(self, document: Document, size: int) -> None:
        """`size` is the length of the text in bytes of UTF-8."""
        if self._stream is None or self._size > _SHARD:
            self._next()
        assert self._stream is not None
        json.dump({"id": document.id, "text": document.text}, self._stream, ensure_ascii=False)
        self._stream.write("\n")
        self._size += size

    def _next(self) -> None:
        self.close()
        path = self._directory / f"{self._split}-{self._number:05d}.jsonl.zst"
        compressor = zstandard.ZstdCompressor(level=3, threads=0)
        # U+D800..DFFF (half a character, possible in JSON) has no UTF-8; it becomes "?"
        self._stream = io.TextIOWrapper(zstandard.open(path, "wb", cctx=compressor), "utf-8", errors="replace")
        self._number, self._size = self._number + 1, 0

    def close(self) -> None:
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    def __enter__(self) -> DocumentWriter:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.close()


class Corpus:
    """A finished corpus stage."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    @property
    def report(self) -> dict[str, Any]:
        """See report.py."""
        return dict(read_json(self.directory / "report.json"))

    def documents(self, split: Split) -> Iterator[Document]:
        """The documents of a split, in the order of the sources, one in memory at a time."""
        for path in sorted(self.directory.glob(f"{split}-*.jsonl.zst")):
            with zstandard.open(path, "rb") as packed:
                for line in io.BufferedReader(packed, _READ):
                    row = from_json(line, cache_strings="keys")
                    yield Document(row["id"], row["text"])
