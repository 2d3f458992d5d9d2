"""Near copies: MinHash signatures, alike in a band of them (Broder 1997; Leskovec et al., Mining of Massive Datasets,
section 3.4)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from polyana.config import KeyPath
from polyana.corpus.steps.pairs import Keep, kept_of
from polyana.corpus.steps.step import Block, Columns, CorpusWide, Found, Records, Surroundings, Worker

__all__ = ["NearDuplicates", "permutations"]

_PRIME = (1 << 61) - 1


def permutations(count: int, seed: int) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """Factors and terms of `count` permutations of 64-bit hashes, by the generator that datatrove draws them from."""
    draws = np.random.RandomState(seed)
    factors = draws.randint(1, _PRIME, dtype=np.uint64, size=count)
    return factors, draws.randint(0, _PRIME, dtype=np.uint64, size=count)


class NearDuplicates(CorpusWide):
    """Of documents that share most of their rows of words one is kept. The numbers are FineWeb's (Penedo et al. 2024,
    section 3.4): documents of which a share s of rows is common are found with probability 1 - (1 - s^rows)^bands,
    at 0.75 with 77 %, at 0.8 with 92 %, at 0.5 with 5 %."""

    kind: Literal["near_duplicates"] = "near_duplicates"
    words: int = Field(5, ge=1, description="words in a row that are compared")
    bands: int = Field(14, ge=1, le=1000, description="bands of hashes; documents alike in one of them are near copies")
    rows: int = Field(8, ge=1, le=1000, description="hashes in a band")
    seed: int = Field(1, ge=0, lt=2**32, description="of the hashes")
    keep: Keep = Field(
        "first", description="which of near copies is kept: the first, in the order of the sources, or the longest"
    )
    counts_words = True
    deciding = frozenset({"keep"})

    def problems(self) -> Iterator[tuple[KeyPath, str]]:
        if self.bands * self.rows > 1000:  # guess: twice as many as anybody uses
            yield (), f"{self.bands} bands of {self.rows} hashes are {self.bands * self.rows}; take 1000 at most"

    def worker(self, surroundings: Surroundings) -> Worker:
        from polyana.corpus import native_minhash

        words = surroundings.words
        assert words is not None
        factors, terms = permutations(self.bands * self.rows, self.seed)

        def sign(block: Block) -> Found:
            keys = np.zeros((len(block), self.bands), np.uint64)
            for table, rows, batch in words.batches(block):
                signatures, shingles = table.sign(batch, self.words, factors, terms)
                found = native_minhash.bands(signatures, self.rows)
                found[shingles == 0] = 0  # a document too short to be compared
                keys[rows] = found
            return Found({"bands": keys})

        return sign

    def emit(self, columns: Columns, texts: Callable[[], list[str]], rows: NDArray[np.int64]) -> Records:
        keys = columns["bands"]
        of = np.repeat(np.arange(len(rows)), self.bands)[keys.ravel() != 0]
        return {"key": keys.ravel()[keys.ravel() != 0], "row": rows[of], "length": columns["length"][of]}

    def meet(self, records: Records) -> Records:
        order = np.lexsort([records["row"], records["key"]])
        key, row, length = (records[name][order] for name in ("key", "row", "length"))
        again = np.zeros(len(order), np.bool_)
        again[1:] = key[1:] == key[:-1]
        first = np.maximum.accumulate(np.where(again, 0, np.arange(len(order))))[again]
        return {
            "one": row[first], "other": row[again], "one_length": length[first], "other_length": length[again],
        }  # fmt: skip

    def settle(self, met: Sequence[Records], rows: int) -> Records:
        return kept_of(met, rows, self.keep)
