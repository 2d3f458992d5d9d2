"""Preferences made by models: answers, scores, pairs; what is known of each stands in its row."""

from polyana.synthesis.build import SYNTHESIS_VERSION, build_synthesis
from polyana.synthesis.config import SynthesizeConfig
from polyana.synthesis.report import best_of, report_lines

__all__ = [
    "SYNTHESIS_VERSION",
    "SynthesizeConfig",
    "best_of",
    "build_synthesis",
    "report_lines",
]
