"""Raw files to clean documents, with a reason for every drop."""

from polyana.corpus.build import VERSION, build_corpus, corpus_inputs, split_of
from polyana.corpus.config import CorpusConfig, SourceConfig
from polyana.corpus.document import Document, Split
from polyana.corpus.report import CorpusReport, report_lines
from polyana.corpus.store import Corpus

__all__ = [
    "VERSION",
    "Corpus",
    "CorpusConfig",
    "CorpusReport",
    "Document",
    "SourceConfig",
    "Split",
    "build_corpus",
    "corpus_inputs",
    "report_lines",
    "split_of",
]
