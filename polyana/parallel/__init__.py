"""Parallel text: aligned files to segments, to units of translation, to what a model is asked."""

from polyana.parallel.build import VERSION, ParallelText, build_parallel, parallel_inputs
from polyana.parallel.config import (
    ChatPrompt,
    DocumentUnit,
    LanguagesConfig,
    ParallelConfig,
    ParallelSource,
    PromptConfig,
    SentenceUnit,
    TagPrompt,
    UnitConfig,
)
from polyana.parallel.files import files_of
from polyana.parallel.hygiene import HeldOut, Hygiene
from polyana.parallel.prompts import chat, language_name, lesson, tagged
from polyana.parallel.readers import read_source
from polyana.parallel.report import ParallelReport, report_lines
from polyana.parallel.segment import Rejected, Segment
from polyana.parallel.sentences import as_sentences, split_sentences
from polyana.parallel.units import Unit, UnitReport, units

__all__ = [
    "VERSION",
    "ChatPrompt",
    "DocumentUnit",
    "HeldOut",
    "Hygiene",
    "LanguagesConfig",
    "ParallelConfig",
    "ParallelReport",
    "ParallelSource",
    "ParallelText",
    "PromptConfig",
    "Rejected",
    "Segment",
    "SentenceUnit",
    "TagPrompt",
    "Unit",
    "UnitConfig",
    "UnitReport",
    "as_sentences",
    "build_parallel",
    "chat",
    "files_of",
    "language_name",
    "lesson",
    "parallel_inputs",
    "read_source",
    "report_lines",
    "split_sentences",
    "tagged",
    "units",
]
