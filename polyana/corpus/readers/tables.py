"""Tables: JSON lines, CSV, TSV and Parquet."""

from __future__ import annotations

import codecs
import csv
import io
import json
import sys
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import chain, repeat, zip_longest
from pathlib import Path
from typing import Any, NamedTuple

from pydantic_core import from_json

from polyana.corpus.compressed import CHUNK, chunks_of, open_file, packing_of
from polyana.corpus.config import SourceConfig
from polyana.corpus.decode import decode_line, decode_stream, find_encoding, lines_of, whole_lines
from polyana.corpus.document import Document, Dropped, utf8_length
from polyana.corpus.readers.books import seekable
from polyana.corpus.readers.files import format_of
from polyana.corpus.readers.long_rows import LongLine, LongText, lines_and_long_ones
from polyana.corpus.readers.piece import Item, Notes, Piece
from polyana.corpus.readers.plain import whole
from polyana.corpus.remote import File, HubFile
from polyana.errors import UserError

__all__ = ["Row", "cut_table", "read_table", "rows_of", "table_encoding"]


class Row(NamedTuple):
    """A table's row, or a JSON line. `number` counts from 1; `line` is where it begins in the file (in Parquet, which
    has no lines, its number); `size`: bytes of a JSON line, else 0. `values` is None where it is no JSON."""

    number: int
    line: int
    values: Any
    size: int


def read_table(piece: Piece, source: SourceConfig, notes: Notes) -> Iterator[Item]:
    columns = [name for name in (source.text, source.id) if name is not None]
    identifier = piece.id
    format = format_of(piece.file, source)
    for number, _, values, size in _rows(piece, format, source.encoding, columns, notes, long=True):
        text = None
        if isinstance(values, dict):
            text = values.get(source.text)
            notes.see(values, source.text)
        if isinstance(text, str | LongText):
            name = values.get(source.id) if source.id is not None else None
            if isinstance(name, LongText):
                name = None
            # JSON can hold half a character
            part = number if name is None else str(name).encode("utf-8", "replace").decode()
            if isinstance(text, LongText):
                yield from whole(text.pieces(), f"{identifier}#{part}")
            else:
                yield Document(f"{identifier}#{part}", text)
        else:
            reason = "broken JSON" if values is None else f"no text under `{source.text}`"
            yield Dropped(f"{identifier}#{number}", reason, size or sum(utf8_length(str(v)) for v in values.values()))


def rows_of(path: Path, format: str, encoding: str = "auto", columns: list[str] | None = None) -> Iterator[Row]:
    """The rows of a JSONL, CSV, TSV or Parquet file, in order; of Parquet only `columns`, where they are given, the
    text's first.

    Raises one of DAMAGE where the file is damaged, after the rows before it.
    """
    yield from _rows(Piece(path.name, path, 0), format, encoding, columns, Notes())


def _rows(
    piece: Piece, format: str, encoding: str, columns: list[str] | None, notes: Notes, *, long: bool = False
) -> Iterator[Row]:
    """`long`: with a LongText in the place of a text that is too long to be held."""
    if format == "jsonl":
        yield from _jsonl(piece, encoding, notes, long=long)
    elif format == "parquet":
        yield from _parquet(piece, columns, notes)
    else:
        yield from _csv(piece.file, encoding, notes, tabs=format == "tsv")


def _jsonl(piece: Piece, encoding: str, notes: Notes, *, long: bool) -> Iterator[Row]:
    for number, line in enumerate(_json_lines(piece, encoding, long=long), piece.row):
        text = decode_line(line, notes.lines) if isinstance(line, bytes) else line
        if isinstance(text, LongLine):
            size = text.size
            if text.encoding != "utf-8":
                notes.lines[text.encoding] += 1
        elif text and not text.isspace():
            size = len(line) if isinstance(line, bytes) else utf8_length(text)
        else:
            continue
        try:
            values = text.values() if isinstance(text, LongLine) else _parsed(text)
        except (ValueError, RecursionError):
            values = None
        yield Row(number, number, values, size)


def _parsed(text: str) -> Any:
    """As json.loads, in a third of its time. Raises ValueError where it is no JSON."""
    text = text if text[0] != "\ufeff" else text.lstrip("\ufeff")
    try:
        return from_json(text, cache_strings="keys")
    except ValueError:
        return json.loads(text)  # which takes half characters, too


def _json_lines(piece: Piece, encoding: str, *, long: bool) -> Iterator[str | bytes | LongLine]:
    """Lines as bytes where they are UTF-8, which json reads twice as fast as when text is cut into lines."""
    with open_file(piece.file, piece.begin, piece.end) as stream:
        if encoding != "auto" and codecs.lookup(encoding).name != "utf-8":
            yield from lines_of(decode_stream(stream, encoding))
            return
        if long:
            yield from lines_and_long_ones(chunks_of(stream))
            return
        for block in whole_lines(chunks_of(stream)):
            yield from block.removesuffix(b"\n").split(b"\n")


def table_encoding(path: Path, encoding: str) -> str:
    """What a CSV or TSV file is read as; for `auto` what its beginning looks like."""
    if encoding != "auto":
        return encoding
    with open_file(path) as stream:
        head = next(chunks_of(stream))
    return find_encoding(head, len(head) < CHUNK)


def _csv(file: File, encoding: str, notes: Notes, *, tabs: bool) -> Iterator[Row]:
    if encoding != "auto" and codecs.lookup(encoding).name == "utf-8":
        encoding = "utf-8-sig"  # a byte order mark would be part of the first column's name
    csv.field_size_limit(sys.maxsize)  # the default, 128 KiB, is less than a long document
    dialect: dict[str, Any] = {}
    if tabs:  # as it is written in practice: a quotation mark is only a character
        dialect = {"delimiter": "\t", "quoting": csv.QUOTE_NONE}
    with open_file(file) as stream:
        rows = csv.reader(chain.from_iterable(map(_csv_lines, decode_stream(stream, encoding, notes.lines))), **dialect)
        names = next(rows, [])
        line, number = rows.line_num + 1, 0
        for cells in rows:
            if cells:  # a blank line is no row
                number += 1
                values: dict[str | None, Any] = dict(zip_longest(names, cells[: len(names)]))
                if len(cells) > len(names):
                    values[None] = cells[len(names) :]
                yield Row(number, line, values, 0)
                line = rows.line_num + 1


def _csv_lines(text: str) -> Iterable[str]:
    """Some lines with their ends, as csv asks for them: \\n, \\r\\n or \\r."""
    if text.count("\r") != text.count("\r\n"):
        return io.StringIO(text, newline="")
    lines = text.split("\n")
    last = lines.pop()
    ended = [f"{line}\n" for line in lines]  # twice as fast as StringIO, which does not know the widest character
    return [*ended, last] if last else ended


def _parquet(piece: Piece, columns: list[str] | None, notes: Notes) -> Iterator[Row]:
    pyarrow, parquet = _pyarrow()
    number = piece.row - 1
    try:
        with seekable(piece.file) as stream, parquet.ParquetFile(stream) as table:
            names = table.schema_arrow.names
            wanted = None if columns is None else [name for name in columns if name in names]
            if columns is not None and columns[0] not in names:
                notes.see(names, columns[0])  # the rows have only those that are wanted
            groups = None if piece.end is None else range(piece.begin, piece.end)
            for batch in table.iter_batches(batch_size=1024, row_groups=groups, columns=wanted):
                # as batch.to_pylist(), which takes a value at a time
                cells = [column.to_pylist() for column in batch.columns]
                rows = zip(*cells, strict=True) if cells else repeat((), batch.num_rows)
                for row in rows:
                    number += 1
                    yield Row(number, number, dict(zip(batch.schema.names, row, strict=True)), 0)
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
    if format == "parquet" and not isinstance(piece.file, HubFile):  # which would be fetched before it is read
        return _row_groups(piece, size)
    named = "utf-8" if source.encoding == "auto" else codecs.lookup(source.encoding).name
    # A remote file would be fetched twice. In UTF-8 no other character holds the byte of a line end.
    if format == "jsonl" and named == "utf-8" and isinstance(piece.file, Path):
        return _stretches(piece, size)
    return [piece]


def _stretches(piece: Piece, size: int) -> list[Piece]:
    """Of JSON lines, cut behind the first line end after every `size` bytes."""
    pieces: list[Piece] = []
    begin = place = 0  # of the stretch, of the chunk
    row = lines = 1  # the number of the stretch's first, of the chunk's first
    with open_file(piece.file) as stream:
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
