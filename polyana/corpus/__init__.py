"""Raw files to clean documents, with a reason for every drop."""

from polyana.corpus.ablation import EACH, AblationConfig
from polyana.corpus.build import VERSION, build_corpus, corpus_inputs, split_of, tokenizer_directory
from polyana.corpus.classifier import VERSION as CLASSIFIER_VERSION
from polyana.corpus.classifier import (
    ClassifierConfig,
    build_classifier,
    classifier_inputs,
    classifier_report_lines,
)
from polyana.corpus.compressed import open_file
from polyana.corpus.config import FORMATS, SourceConfig, before_wildcard, name_of_files
from polyana.corpus.decode import decode
from polyana.corpus.document import Document, Split
from polyana.corpus.embedding import Embedder
from polyana.corpus.packages import package_version
from polyana.corpus.quality import VERSION as QUALITY_VERSION
from polyana.corpus.quality import QualityConfig, build_quality, quality_inputs, quality_report_lines
from polyana.corpus.readers import DAMAGE, Row, files_of, format_of, parts_of, read_source, rows_of, table_encoding
from polyana.corpus.reference import VERSION as NGRAMS_VERSION
from polyana.corpus.reference import NgramsConfig, build_ngrams, ngrams_inputs, ngrams_report_lines
from polyana.corpus.report import CorpusReport
from polyana.corpus.report_lines import report_lines, waterfall_lines
from polyana.corpus.stage import CorpusConfig
from polyana.corpus.steps.language import tell_language
from polyana.corpus.store import Corpus, DocumentWriter

__all__ = [
    "CLASSIFIER_VERSION",
    "DAMAGE",
    "EACH",
    "FORMATS",
    "NGRAMS_VERSION",
    "QUALITY_VERSION",
    "VERSION",
    "AblationConfig",
    "ClassifierConfig",
    "Corpus",
    "CorpusConfig",
    "CorpusReport",
    "Document",
    "DocumentWriter",
    "Embedder",
    "NgramsConfig",
    "QualityConfig",
    "Row",
    "SourceConfig",
    "Split",
    "before_wildcard",
    "build_classifier",
    "build_corpus",
    "build_ngrams",
    "build_quality",
    "classifier_inputs",
    "classifier_report_lines",
    "corpus_inputs",
    "decode",
    "files_of",
    "format_of",
    "name_of_files",
    "ngrams_inputs",
    "ngrams_report_lines",
    "open_file",
    "package_version",
    "parts_of",
    "quality_inputs",
    "quality_report_lines",
    "read_source",
    "report_lines",
    "rows_of",
    "split_of",
    "table_encoding",
    "tell_language",
    "tokenizer_directory",
    "waterfall_lines",
]
