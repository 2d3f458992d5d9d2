"""How probably a document is a good one, by the classifier that a stage `quality` has learnt."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field

from polyana.config import KeyPath, StageReference
from polyana.corpus.steps.step import Block, Columns, Found, StepConfig, Surroundings, Verdict, Worker

__all__ = ["QualityStepConfig"]


class QualityStepConfig(StepConfig):
    """Drops documents that a classifier takes for bad ones."""

    kind: Literal["quality"] = "quality"
    model: Annotated[str, StageReference(("quality",))] = Field(description="the stage that has learnt to tell")
    min_score: float = Field(
        0.5,
        ge=0,
        le=1,
        description="how probably a document is a good one, at least; the stage's report shows the cost",
    )
    deciding: ClassVar[frozenset[str]] = frozenset({"min_score"})

    def problems(self) -> Iterator[tuple[KeyPath, str]]:
        if find_spec("numba") is None:
            yield (), "classifiers are computed with numba; run: pip install 'polyana[mill]'"

    def worker(self, surroundings: Surroundings) -> Worker:
        """Measures `score`, the probability of a good document: as among the examples that the stage was given."""
        from polyana.corpus.linear import LinearModel  # compiles, which takes a second

        model = LinearModel.load(surroundings.files["model"] / "model.npz")
        good = model.classes.index("good")

        def work(block: Block) -> Found:
            return Found({"score": model.probabilities(block.texts)[:, good].astype(np.float32)})

        return work

    def verdicts(self, columns: Columns, language: str) -> Iterator[Verdict]:
        yield Verdict("like the bad examples", columns["score"], self.min_score)
