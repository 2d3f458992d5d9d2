"""Parallel text: aligned files to segments, to units of translation, to what a model is asked."""

from polyana.parallel.config import LanguagesConfig, ParallelConfig, ParallelSource
from polyana.parallel.readers import files_of, read_source
from polyana.parallel.segment import Rejected, Segment

__all__ = [
    "LanguagesConfig",
    "ParallelConfig",
    "ParallelSource",
    "Rejected",
    "Segment",
    "files_of",
    "read_source",
]
