"""Exact copies: of whole documents, of paragraphs, of lines, anywhere in the corpus."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from polyana.corpus.normalise import normalise
from polyana.corpus.steps.step import Block, Columns, CorpusWide, Edit, Found, Records, Surroundings, Worker, joined

__all__ = ["ExactDuplicates"]


class ExactDuplicates(CorpusWide):
    """Of equal documents, paragraphs or lines the first is kept, in the order of the sources."""

    kind: Literal["exact_duplicates"] = "exact_duplicates"
    unit: Literal["document", "paragraph", "line"] = Field("document", description="what is compared")
    min_characters: int = Field(
        1, ge=1, description="shorter paragraphs or lines may stand any number of times; blank ones always may"
    )

    @property
    def compares(self) -> bool:
        return self.unit != "document"

    @property
    def reworks(self) -> bool:
        return self.unit != "document"

    @property
    def by_row(self) -> bool:
        return self.reworks

    def worker(self, surroundings: Surroundings) -> Worker:
        def digests(block: Block) -> Found:
            """128 bits of each text: two that differ do not meet."""
            whole = b"".join(
                hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=16).digest() for text in block.texts
            )
            found = np.frombuffer(whole, np.uint64).reshape(-1, 2)
            return Found({"key": found[:, 0], "check": found[:, 1]})

        return (lambda _block: Found()) if self.reworks else digests

    def emit(self, columns: Columns, texts: Callable[[], list[str]], rows: NDArray[np.int64]) -> Records:
        if not self.reworks:
            return {"key": columns["key"], "check": columns["check"], "row": rows}
        # the lines of a chunk are millions, which as objects would take ten times the room
        keys, places, owners = bytearray(), array("i"), array("q")
        for row, text in zip(rows.tolist(), texts(), strict=True):
            for place, part in enumerate(self._parts(text)):
                bare = part.strip()
                if bare and len(bare) >= self.min_characters:
                    keys += hashlib.blake2b(bare.encode("utf-8", "replace"), digest_size=16).digest()
                    places.append(place)
                    owners.append(row)
        found = np.frombuffer(keys, np.uint64).reshape(-1, 2)
        return {
            "key": found[:, 0], "check": found[:, 1],
            "row": np.frombuffer(owners, np.int64), "place": np.frombuffer(places, np.int32),
        }  # fmt: skip

    def meet(self, records: Records) -> Records:
        order = np.lexsort([records[name] for name in ("place", "row", "check", "key") if name in records])
        key, check, row = (records[name][order] for name in ("key", "check", "row"))
        again = np.zeros(len(order), np.bool_)
        again[1:] = (key[1:] == key[:-1]) & (check[1:] == check[:-1])
        first = np.maximum.accumulate(np.where(again, 0, np.arange(len(order))))
        if self.reworks:
            return _sorted(row[again], records["place"][order][again])
        return {"dropped": row[again], "kept": row[first[again]]}

    def settle(self, met: Sequence[Records], rows: int) -> Records:
        found = joined(met)
        return _sorted(found["row"], found["place"]) if self.reworks else found

    def rework(self, texts: list[str], ids: list[str], rows: NDArray[np.int64], settled: Records) -> dict[int, Edit]:
        starts = np.searchsorted(settled["row"], rows)
        ends = np.searchsorted(settled["row"], rows, "right")
        found = {}
        for at in np.flatnonzero(ends > starts).tolist():
            gone = set(settled["place"][starts[at] : ends[at]].tolist())
            parts = [part for place, part in enumerate(self._parts(texts[at])) if place not in gone]
            text = normalise(("\n\n" if self.unit == "paragraph" else "\n").join(parts))
            if edit := Edit.of(texts[at], [(f"{self.unit}s that stood before", text)]):
                found[at] = edit
        return found

    def _parts(self, text: str) -> list[str]:
        return text.split("\n\n" if self.unit == "paragraph" else "\n")


def _sorted(row: NDArray[np.int64], place: NDArray[np.int32]) -> Records:
    order = np.lexsort((place, row))
    return {"row": row[order], "place": place[order]}
