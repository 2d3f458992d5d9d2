"""Which domain a document belongs to: by rules, or by a classifier."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from fnmatch import translate
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from polyana.config import Config, KeyPath

if TYPE_CHECKING:  # compiles, which takes a second
    from polyana.corpus.linear import LinearModel

__all__ = ["DomainRule", "domains_by_model", "domains_by_rules"]


class DomainRule(Config):
    """Documents whose id or text is like this belong to a domain."""

    domain: str = Field(min_length=1, description="its name")
    id: str | None = Field(None, description="what documents' ids look like, as `help/*/math/*`")
    text: str | None = Field(None, description="a regular expression that is found in the text")

    def problems(self) -> Iterator[tuple[KeyPath, str]]:
        if self.id is None and self.text is None:
            yield (), f"the rule of `{self.domain}` needs `id: ...` or `text: ...`"
        if self.text is not None:
            try:
                re.compile(self.text)
            except re.error as error:
                yield ("text",), f"`text: {self.text}` is no regular expression: {error}"


def domains_by_rules(rules: Sequence[DomainRule], ids: Sequence[str], texts: Sequence[str]) -> NDArray[np.int16]:
    """For each document the place of the first rule of which all that it names holds; -1 where none does."""
    found = np.full(len(ids), -1, np.int16)
    for place, rule in enumerate(rules):
        like = re.compile(translate(rule.id)) if rule.id is not None else None
        inside = re.compile(rule.text) if rule.text is not None else None
        for at in np.flatnonzero(found < 0).tolist():
            if (like is None or like.match(ids[at])) and (inside is None or inside.search(texts[at])):
                found[at] = place
    return found


def domains_by_model(
    model: LinearModel, texts: Sequence[str], min_score: float
) -> tuple[NDArray[np.int16], NDArray[np.float32]]:
    """(place of the most probable of the model's classes, or -1 where it is below `min_score`; that probability)."""
    probabilities = model.probabilities(texts)
    best = probabilities.argmax(axis=1)
    scores = probabilities[np.arange(len(texts)), best].astype(np.float32)
    return np.where(scores >= min_score, best, -1).astype(np.int16), scores
