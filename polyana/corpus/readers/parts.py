"""A source cut into parts that can be read by different processes, and all of them in order."""

from __future__ import annotations

import csv
import lzma
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import zstandard

from polyana.config import closest
from polyana.corpus.compressed import Refused
from polyana.corpus.config import SourceConfig
from polyana.corpus.document import Document, Dropped
from polyana.corpus.packages import package_documents
from polyana.corpus.readers.books import read_epub, read_pdf
from polyana.corpus.readers.files import format_of, list_files
from polyana.corpus.readers.markup import read_html, read_warc
from polyana.corpus.readers.piece import Item, Notes, Piece
from polyana.corpus.readers.plain import cut_long, read_text
from polyana.corpus.readers.tables import cut_table, read_table
from polyana.errors import PolyanaError, UserError

__all__ = ["DAMAGE", "Part", "check_notes", "parts_of", "read_source"]

DAMAGE = (OSError, EOFError, zlib.error, lzma.LZMAError, zstandard.ZstdError, zipfile.BadZipFile, csv.Error)
"""What reading a damaged file raises."""

_PART = 32_000_000  # bytes on disk in a part: about a second of reading (guess)
_SHOWN = 3  # damaged files in a letter
_TEXT = SourceConfig.model_fields["text"].default
_FILE = 4096  # bytes that even an empty file counts as, for opening it takes time; a block of a disk


@dataclass(frozen=True, slots=True)
class Part:
    """Some of a source's documents. The parts in their order give the source's documents in theirs.

    `passed` is what lies beside the files and is not read. A package's part has no pieces.
    """

    source: SourceConfig
    pieces: tuple[Piece, ...] = ()
    passed: tuple[Dropped, ...] = ()

    def read(self, notes: Notes | None = None) -> Iterator[Item]:
        """Every document, in a fixed order; `notes` are taken in `notes`, and complete at the end."""
        notes = Notes() if notes is None else notes
        for item in self._items(notes):
            notes.documents += isinstance(item, Document)
            yield item

    def _items(self, notes: Notes) -> Iterator[Item]:
        if self.source.package is not None:
            for identifier, text in package_documents(self.source.package):
                yield Document(f"{self.source.label}/{identifier}", text)
        yield from self.passed
        for piece in self.pieces:
            for item in _read(piece, self.source, notes):
                if isinstance(item, Document):
                    yield from cut_long(item)
                else:
                    yield item


def parts_of(source: SourceConfig, base: Path) -> list[Part]:
    """A source as parts, which its files alone decide: small files together, large tables cut.

    Raises UserError when there is no file.
    """
    if source.package is not None:
        return [Part(source)]
    listing = list_files(source, base)
    passed = tuple(Dropped(f"{source.label}/{name}", reason, size) for name, reason, size in listing.passed)
    files = (Piece(f"{source.label}/{found.name}", found.file, found.size) for found in listing.files)
    return ([Part(source, passed=passed)] if passed else []) + list(_grouped(files, source))


def _grouped(files: Iterable[Piece], source: SourceConfig) -> Iterator[Part]:
    group: list[Piece] = []
    filled = 0
    for piece in (piece for file in files for piece in cut_table(file, source, _PART)):
        size = max(piece.size, _FILE)
        if group and filled + size > _PART:
            yield Part(source, tuple(group))
            group, filled = [], 0
        group.append(piece)
        filled += size
    if group:
        yield Part(source, tuple(group))


def read_source(source: SourceConfig, base: Path) -> Iterator[Item]:
    """Every document of a source, in a fixed order. Raises as `check_notes`, and UserError when there is no file."""
    parts = parts_of(source, base)
    notes = Notes()
    for part in parts:
        yield from part.read(notes)
        check_notes(source, notes, parts)
    check_notes(source, notes, parts, ended=True)


def check_notes(source: SourceConfig, notes: Notes, parts: Iterable[Part], *, ended: bool = False) -> None:
    """Whether reading may go on after what was noticed, all of it if it has `ended`; `parts` are all of the source.

    Raises PolyanaError when more files than `max_damaged` could not be read to their end, and UserError when no row has
    the column that should hold the text.
    """
    if notes.damaged and len(notes.damaged) > source.max_damaged * (files := _count_files(parts)):
        shown = ", ".join(f"{name} ({reason})" for name, reason in list(notes.damaged.items())[:_SHOWN])
        raise PolyanaError(
            f"{len(notes.damaged):,} of the {files:,} files of `{source.label}` cannot be read to their end, more than "
            f"`max_damaged: {source.max_damaged:.0%}`: {shown}. Get them anew or take them away; or raise "
            "`max_damaged`, to go on with what can be read"
        )
    if ended and notes.columns and not notes.rows and (not notes.documents or source.text != _TEXT):
        there = ", ".join(f"`{name}`" for name in notes.columns)
        near = closest(source.text, list(notes.columns)) or "; write `text: NAME` with the one that holds the text"
        raise UserError(f"no row of `{source.path}` has the column `{source.text}`; there are {there}{near}")


def _count_files(parts: Iterable[Part]) -> int:
    return len({piece.id for part in parts for piece in part.pieces})


def _read(piece: Piece, source: SourceConfig, notes: Notes) -> Iterator[Item]:
    """The documents of a file; at a damage those before it, and what it is."""
    try:
        yield from _READERS[format_of(piece.file, source)](piece, source, notes)
    except UnicodeError:  # utf-16 that the recipe promised and the file does not hold, for example
        reason = f"is not {source.encoding}"
    except Refused as refusal:
        reason = str(refusal)
    except PermissionError:
        reason = "no permission"
    except FileNotFoundError:
        reason = "gone since it was listed"
    except DAMAGE:
        reason = "damaged file"
    else:
        return
    notes.damaged[piece.id] = reason
    yield Dropped(piece.id, reason, piece.size)


_READERS: dict[str, Callable[[Piece, SourceConfig, Notes], Iterator[Item]]] = {
    "text": read_text, "html": read_html, "warc": read_warc, "epub": read_epub, "pdf": read_pdf,
    "jsonl": read_table, "csv": read_table, "tsv": read_table, "parquet": read_table,
}  # fmt: skip
