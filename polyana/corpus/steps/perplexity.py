"""How surprising a document's letters are to a model of clean text (as CCNet does with words: Wenzek et al. 2020)."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field

from polyana.config import KeyPath, Share, StageReference
from polyana.corpus.steps.step import Block, Columns, Found, StepConfig, Surroundings, Verdict, Worker

__all__ = ["PerplexityConfig"]


class PerplexityConfig(StepConfig):
    """Drops what a model of clean text finds more surprising than clean text itself."""

    kind: Literal["perplexity"] = "perplexity"
    model: Annotated[str, StageReference(("ngrams",))] = Field(description="the stage that has learnt from clean text")
    max_percentile: Share | None = Field(
        0.99, ge=0, le=1, description="share of clean pages that may be less surprising than a document"
    )  # guess: costs clean text 1 %
    max_perplexity: float | None = Field(None, ge=1, description="choices the model has at each character, at most")
    min_perplexity: float | None = Field(None, ge=1, description="and at least: less is boilerplate, or was learnt")
    deciding: ClassVar[frozenset[str]] = frozenset({"max_percentile", "max_perplexity", "min_perplexity"})

    def problems(self) -> Iterator[tuple[KeyPath, str]]:
        if find_spec("numba") is None:
            yield (), "perplexity is computed with numba; run: pip install 'polyana[mill]'"
        if self.max_percentile is None and self.max_perplexity is None and self.min_perplexity is None:
            yield (), "`perplexity` drops nothing; give it max_percentile, max_perplexity or min_perplexity"
        least, most = self.min_perplexity, self.max_perplexity
        if least is not None and most is not None and least >= most:
            yield ("min_perplexity",), f"`min_perplexity: {least:g}` and `max_perplexity: {most:g}` leave nothing"

    def worker(self, surroundings: Surroundings) -> Worker:
        """Measures `perplexity`, and `percentile`: the share of clean pages that are less surprising."""
        from polyana.corpus.ngrams import NgramModel, bits_of  # compiles, which takes a second
        from polyana.corpus.reference import perplexities

        directory = surroundings.files["model"]
        model, clean = NgramModel.load(directory / "model.npz"), np.load(directory / "perplexities.npy")

        def work(block: Block) -> Found:
            found = perplexities(*bits_of(model, block.texts))
            share = (np.searchsorted(clean, found) / len(clean)).astype(np.float32)
            return Found({"perplexity": found, "percentile": share})

        return work

    def verdicts(self, columns: Columns, language: str) -> Iterator[Verdict]:
        if self.max_percentile is not None:
            yield Verdict("unlike clean text", columns["percentile"], most=self.max_percentile)
        if self.max_perplexity is not None:
            yield Verdict("too surprising", columns["perplexity"], most=self.max_perplexity)
        if self.min_perplexity is not None:
            yield Verdict("too predictable", columns["perplexity"], self.min_perplexity)
