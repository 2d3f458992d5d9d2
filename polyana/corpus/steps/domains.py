"""Which domain a document belongs to, for the guard, the report and the mix."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from polyana.config import KeyPath, Share, StageReference
from polyana.corpus.domains import DomainRule, domains_by_model, domains_by_rules
from polyana.corpus.steps.step import Block, Found, StepConfig, Surroundings, Worker

__all__ = ["DomainsConfig"]


class DomainsConfig(StepConfig):
    """Tells documents' domains apart, by rules or by a classifier. Of those that neither says anything about the domain
    is their source, as it is of all without this step."""

    kind: Literal["domains"] = "domains"
    rules: list[DomainRule] = Field([], description="the first that holds counts")
    model: Annotated[str | None, StageReference(("classifier",))] = Field(
        None, description="the stage that has learnt to tell them, in place of rules"
    )
    min_score: Share = Field(0.5, ge=0, le=1, description="with `model`: how probable the domain is, at least")

    def problems(self) -> Iterator[tuple[KeyPath, str]]:
        if bool(self.rules) == (self.model is not None):
            yield (), "`domains` needs either `rules: [{domain: ..., id: ...}]` or `model: STAGE`"
        if self.model is None and "min_score" in self.model_fields_set:
            yield ("min_score",), "`min_score` is for `model`; leave it out"
        if self.model is not None and find_spec("numba") is None:
            yield (), "classifiers are computed with numba; run: pip install 'polyana[mill]'"

    def names(self, files: Mapping[str, Path]) -> list[str]:
        """Of the domains it tells apart."""
        if self.model is None:
            return list(dict.fromkeys(rule.domain for rule in self.rules))
        with np.load(files["model"] / "model.npz") as stored:
            return list(map(str, stored["classes"]))

    def worker(self, surroundings: Surroundings) -> Worker:
        """Finds `domain`, the place in `Surroundings.domains`; -1 for the source."""
        place = surroundings.domains.index
        if self.model is None:
            of_rule = np.array([*(place(rule.domain) for rule in self.rules), -1], np.int16)
            return lambda block: Found({"domain": of_rule[domains_by_rules(self.rules, block.ids, block.texts)]})

        from polyana.corpus.linear import LinearModel  # compiles, which takes a second

        model = LinearModel.load(surroundings.files["model"] / "model.npz")
        of_class = np.array([*map(place, model.classes), -1], np.int16)

        def tell(block: Block) -> Found:
            return Found({"domain": of_class[domains_by_model(model, block.texts, self.min_score)[0]]})

        return tell
