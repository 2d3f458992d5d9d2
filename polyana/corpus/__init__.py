"""Raw files to clean documents, with a reason for every drop."""

from polyana.corpus.build import VERSION, build_corpus, corpus_inputs, split_of
from polyana.corpus.compressed import open_file
from polyana.corpus.config import FORMATS, SourceConfig, before_wildcard, name_of_files
from polyana.corpus.decode import decode
from polyana.corpus.document import Document, Split
from polyana.corpus.packages import package_version
from polyana.corpus.readers import DAMAGE, Row, files_of, parts_of, read_source, rows_of, table_encoding
from polyana.corpus.report import CorpusReport, report_lines
from polyana.corpus.stage import CorpusConfig
from polyana.corpus.store import Corpus

__all__ = [
    "DAMAGE",
    "FORMATS",
    "VERSION",
    "Corpus",
    "CorpusConfig",
    "CorpusReport",
    "Document",
    "Row",
    "SourceConfig",
    "Split",
    "before_wildcard",
    "build_corpus",
    "corpus_inputs",
    "decode",
    "files_of",
    "name_of_files",
    "open_file",
    "package_version",
    "parts_of",
    "read_source",
    "report_lines",
    "rows_of",
    "split_of",
    "table_encoding",
]
