"""The steps of the mill, by the names that recipes give them."""

from typing import Annotated

from pydantic import Field

from polyana.config import of_kind
from polyana.corpus.steps.c4 import C4Rule
from polyana.corpus.steps.duplicates import ExactDuplicates
from polyana.corpus.steps.near import NearDuplicates
from polyana.corpus.steps.rules import FineWebRule, GopherQualityRule, GopherRepetitionRule, WordRule
from polyana.corpus.steps.step import CorpusWide, StepConfig, Surroundings

__all__ = ["CorpusWide", "ExactDuplicates", "NearDuplicates", "Step", "StepConfig", "Surroundings", "WordRule"]

Step = Annotated[
    C4Rule | ExactDuplicates | FineWebRule | GopherQualityRule | GopherRepetitionRule | NearDuplicates,
    Field(discriminator="kind"),
    of_kind("gopher_quality"),
]
