"""Tables: JSON lines, CSV, TSV and Parquet."""

from __future__ import annotations

import codecs
import csv
import io
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from polyana.corpus.compressed import CHUNK, chunks_of, open_file, packing_of
from polyana.corpus.config import SourceConfig
from polyana.corpus.decode import decode_stream, find_encoding, lines_of
from polyana.corpus.document import Document, Dropped, utf8_length
from polyana.corpus.readers.files import format_of
from polyana.corpus.readers.piece import Item, Notes, Piece
from polyana.errors import UserError

__all__ = ["Row", "cut_table", "read_table", "rows_of", "table_encoding"]


@dataclass(frozen=True, slots=True)
class Row:
    """A table's row, or a JSON line. `number` counts from 1; `line` is where it begins in the file (in Parquet, which
    has no lines, its number); `size`: bytes of UTF-8, 0 for Parquet. `values` is None where it is no JSON."""

    number: int
    line: int
    values: Any
    size: int


def read_table(piece: Piece, source: SourceConfig, notes: Notes) -> Iterator[Item]:
    columns = [name for name in (source.text, source.id) if name is not None]
    identifier = piece.id
    for row in _rows(piece, format_of(piece.file, source), source.encoding, columns):
        if row.values is None:
            yield Dropped(f"{identifier}#{row.number}", "broken JSON", row.size)
            continue
        text = None
        if isinstance(row.values, dict):
            text = row.values.get(source.text)
            notes.see(row.values, source.text)
        if not isinstance(text, str):
            yield Dropped(f"{identifier}#{row.number}", f"no text under `{source.text}`", row.size)
            continue
        name = row.values.get(source.id) if source.id is not None else None
        # JSON can hold half a character
        part = str(row.number if name is None else name).encode("utf-8", "replace").decode()
        yield Document(f"{identifier}#{part}", text)


def rows_of(path: Path, format: str, encoding: str = "auto", columns: list[str] | None = None) -> Iterator[Row]:
    """The rows of a JSONL, CSV, TSV or Parquet file, in order; of Parquet only `columns`, where they are given.

    Raises one of DAMAGE where the file is damaged, after the rows before it.
    """
    yield from _rows(Piece(path.name, path, 0), format, encoding, columns)


def _rows(piece: Piece, format: str, encoding: str, columns: list[str] | None) -> Iterator[Row]:
    if format == "jsonl":
        yield from _jsonl(piece, encoding)
    elif format == "parquet":
        yield from _parquet(piece, columns)
    else:
        yield from _csv(piece.file, encoding, tabs=format == "tsv")


def _jsonl(piece: Piece, encoding: str) -> Iterator[Row]:
    with open_file(piece.file, piece.begin, piece.end) as stream:
        pieces = decode_stream(stream, "utf-8" if encoding == "auto" else encoding)
        for number, line in enumerate(lines_of(pieces), piece.row):
            if not line.strip():
                continue
            try:
                values = json.loads(line.lstrip("\ufeff"))
            except (ValueError, RecursionError):
                values = None
            yield Row(number, number, values, utf8_length(line))


def table_encoding(path: Path, encoding: str) -> str:
    """What a CSV or TSV file is read as; for `auto` what its beginning looks like."""
    if encoding != "auto":
        return encoding
    with open_file(path) as stream:
        head = next(chunks_of(stream))
    return find_encoding(head, len(head) < CHUNK)


def _csv(path: Path, encoding: str, *, tabs: bool) -> Iterator[Row]:
    encoding = table_encoding(path, encoding)
    if codecs.lookup(encoding).name == "utf-8":
        encoding = "utf-8-sig"  # a byte order mark would be part of the first column's name
    csv.field_size_limit(sys.maxsize)  # the default, 128 KiB, is less than a long document
    dialect: dict[str, Any] = {}
    if tabs:  # as it is written in practice: a quotation mark is only a character
        dialect = {"delimiter": "\t", "quoting": csv.QUOTE_NONE}
    with open_file(path) as stream, io.TextIOWrapper(stream, encoding, "replace", newline="") as text:
        rows = csv.DictReader(text, **dialect)
        _ = rows.fieldnames  # asking for the names reads them
        line = rows.line_num + 1
        for number, row in enumerate(rows, 1):
            yield Row(number, line, row, sum(utf8_length(str(value)) for value in row.values()))
            line = rows.line_num + 1


def _parquet(piece: Piece, columns: list[str] | None) -> Iterator[Row]:
    pyarrow, parquet = _pyarrow()
    number = piece.row - 1
    try:
        with open_file(piece.file) as stream, parquet.ParquetFile(stream) as table:
            names = table.schema_arrow.names
            wanted = None if columns is None else [name for name in columns if name in names]
            groups = None if piece.end is None else range(piece.begin, piece.end)
            for batch in table.iter_batches(batch_size=1024, row_groups=groups, columns=wanted):
                for row in batch.to_pylist():
                    number += 1
                    yield Row(number, number, row, 0)
    except (pyarrow.ArrowException, UnicodeDecodeError) as error:
        raise OSError(f"{piece.file} is damaged after row {number}: {error}") from error


def _pyarrow() -> tuple[Any, Any]:
    """pyarrow and its reader of Parquet. Raises UserError where it is not installed."""
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise UserError("reading Parquet needs pyarrow; run: pip install 'polyana[parquet]'") from None
    return pyarrow, parquet


def cut_table(piece: Piece, source: SourceConfig, size: int) -> list[Piece]:
    """A file as pieces of about `size` bytes, where it is a plain table that can be entered in the middle."""
    format = format_of(piece.file, source)
    if piece.size <= size or packing_of(piece.file.name):
        return [piece]
    if format == "parquet":
        return _row_groups(piece, size)
    named = "utf-8" if source.encoding == "auto" else codecs.lookup(source.encoding).name
    if format == "jsonl" and named == "utf-8":  # in which no other character holds the byte of a line end
        return _stretches(piece, size)
    return [piece]


def _stretches(piece: Piece, size: int) -> list[Piece]:
    """Of JSON lines, cut behind the first line end after every `size` bytes."""
    pieces: list[Piece] = []
    begin = place = 0  # of the stretch, of the chunk
    row = lines = 1  # the number of the stretch's first, of the chunk's first
    with piece.file.open("rb") as stream:
        for chunk in chunks_of(stream):
            while (cut := chunk.find(b"\n", max(begin + size - place, 0)) + 1) and begin + size < place + len(chunk):
                end, after = place + cut, lines + chunk.count(b"\n", 0, cut)
                pieces.append(replace(piece, size=end - begin, begin=begin, end=end, row=row))
                begin, row = end, after
            lines += chunk.count(b"\n")
            place += len(chunk)
    if begin < place:
        pieces.append(replace(piece, size=place - begin, begin=begin, end=place, row=row))
    return pieces


def _row_groups(piece: Piece, size: int) -> list[Piece]:
    """Of Parquet, row groups together up to `size` bytes; whole where it is damaged, which its reader tells."""
    pyarrow, parquet = _pyarrow()
    try:
        with open_file(piece.file) as stream, parquet.ParquetFile(stream) as table:
            groups = [table.metadata.row_group(number) for number in range(table.metadata.num_row_groups)]
    except (pyarrow.ArrowException, OSError):
        return [piece]
    pieces: list[Piece] = []
    begin = filled = rows = 0
    row = 1
    for number, group in enumerate(groups, 1):
        filled += sum(group.column(index).total_compressed_size for index in range(group.num_columns))
        rows += group.num_rows
        if filled >= size or number == len(groups):
            pieces.append(replace(piece, size=filled, begin=begin, end=number, row=row))
            begin, row, filled, rows = number, row + rows, 0, 0
    return pieces or [piece]
