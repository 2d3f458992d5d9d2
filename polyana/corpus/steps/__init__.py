"""The steps of the mill, by the names that recipes give them."""

from typing import Annotated

from pydantic import Field

from polyana.config import of_kind
from polyana.corpus.steps.duplicates import ExactDuplicates
from polyana.corpus.steps.rules import FineWebRule, GopherQualityRule, GopherRepetitionRule, WordRule
from polyana.corpus.steps.step import CorpusWide, StepConfig, Surroundings

__all__ = ["CorpusWide", "ExactDuplicates", "Step", "StepConfig", "Surroundings", "WordRule"]

Step = Annotated[
    ExactDuplicates | FineWebRule | GopherQualityRule | GopherRepetitionRule,
    Field(discriminator="kind"),
    of_kind("gopher_quality"),
]
