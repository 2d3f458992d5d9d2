"""The steps of the mill, by the names that recipes give them."""

from typing import Annotated

from pydantic import Field

from polyana.config import of_kind
from polyana.corpus.steps.boilerplate import BoilerplateConfig
from polyana.corpus.steps.c4 import C4Rule
from polyana.corpus.steps.contamination import ContaminationConfig
from polyana.corpus.steps.domains import DomainsConfig
from polyana.corpus.steps.duplicates import ExactDuplicates
from polyana.corpus.steps.language import LanguageConfig
from polyana.corpus.steps.leftovers import LeftoversConfig
from polyana.corpus.steps.near import NearDuplicates
from polyana.corpus.steps.perplexity import PerplexityConfig
from polyana.corpus.steps.privacy import PrivacyConfig
from polyana.corpus.steps.quality import QualityStepConfig
from polyana.corpus.steps.refinedweb import RefinedWebRule
from polyana.corpus.steps.repair import RepairConfig
from polyana.corpus.steps.rules import FineWebRule, GopherQualityRule, GopherRepetitionRule, WordRule
from polyana.corpus.steps.semantic import SemanticDuplicates
from polyana.corpus.steps.step import CorpusWide, StepConfig
from polyana.corpus.steps.substrings import RepeatedSubstrings

__all__ = [
    "CorpusWide",
    "DomainsConfig",
    "ExactDuplicates",
    "Judging",
    "LanguageConfig",
    "SemanticDuplicates",
    "Step",
    "StepConfig",
    "WordRule",
]

Judging = DomainsConfig | PerplexityConfig | QualityStepConfig
"""Those that judge by what another stage has learnt, which `model` names, if it names one."""

Step = Annotated[
    BoilerplateConfig
    | C4Rule
    | ContaminationConfig
    | DomainsConfig
    | ExactDuplicates
    | FineWebRule
    | GopherQualityRule
    | GopherRepetitionRule
    | LanguageConfig
    | LeftoversConfig
    | NearDuplicates
    | PerplexityConfig
    | PrivacyConfig
    | QualityStepConfig
    | RefinedWebRule
    | RepairConfig
    | RepeatedSubstrings
    | SemanticDuplicates,
    Field(discriminator="kind"),
    of_kind("gopher_quality"),
]
