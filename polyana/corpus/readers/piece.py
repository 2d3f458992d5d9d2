"""What a reader gets: a file of a source or a stretch of one, and a place for what it notices."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field
from itertools import islice

from polyana.corpus.document import Document, Dropped
from polyana.corpus.remote import File

__all__ = ["Item", "Notes", "Piece"]

Item = Document | Dropped

_COLUMNS = 20  # names a letter can show: guess


@dataclass(frozen=True, slots=True)
class Piece:
    """A file, or of a large table what lies from `begin` to `end`: bytes of JSONL, row groups of Parquet.

    `id` is that of the file's documents, up to #; `size`: bytes on disk; `row`: the number of the first row.
    """

    id: str
    file: File
    size: int
    begin: int = 0
    end: int | None = None
    row: int = 1


@dataclass(slots=True)
class Notes:
    """What reading noticed beside documents; `add` puts those of several parts together.

    `damaged`: by file the reason that it was not read to its end; `lines`: by encoding how many lines of text were read
    in another one than their file; `rows`: of tables, that have the column of the text, and `columns` of those that
    have not.
    """

    documents: int = 0
    damaged: dict[str, str] = field(default_factory=dict)
    lines: Counter[str] = field(default_factory=Counter)
    rows: int = 0
    columns: dict[str, None] = field(default_factory=dict)

    def see(self, names: Collection[str | None], text: str) -> None:
        """A row has the columns `names`; `text` is the one that should hold its text."""
        if text in names:
            self.rows += 1
        elif len(self.columns) < _COLUMNS:
            self.columns |= dict.fromkeys(islice(filter(None, names), _COLUMNS - len(self.columns)))

    def add(self, other: Notes) -> None:
        self.documents += other.documents
        self.damaged |= other.damaged
        self.lines += other.lines
        self.rows += other.rows
        self.columns = dict.fromkeys(islice(self.columns | other.columns, _COLUMNS))
