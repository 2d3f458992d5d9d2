"""Files to documents, whatever the format, the encoding and the place.

A file that breaks off in the middle (a truncated .gz, a damaged Parquet) gives the documents before the damage and one
`Dropped`; it never ends the run.
"""

from polyana.corpus.readers.files import files_of, format_of, identity_of, list_files
from polyana.corpus.readers.parts import DAMAGE, Part, check_notes, parts_of, read_source
from polyana.corpus.readers.piece import Notes
from polyana.corpus.readers.tables import Row, rows_of, table_encoding

__all__ = [
    "DAMAGE",
    "Notes",
    "Part",
    "Row",
    "check_notes",
    "files_of",
    "format_of",
    "identity_of",
    "list_files",
    "parts_of",
    "read_source",
    "rows_of",
    "table_encoding",
]
