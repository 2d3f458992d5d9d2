"""Files to documents: text, JSONL, Parquet, CSV and HTML, plain or compressed.

A file that breaks off in the middle (a truncated .gz, a damaged Parquet) gives the documents before the damage and one
`Dropped`; it never ends the run.
"""

from __future__ import annotations

import codecs
import csv
import io
import json
import os
import sys
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import zstandard

from polyana.corpus.compressed import CHUNK, chunks_of, open_file
from polyana.corpus.config import FORMATS, SourceConfig, before_wildcard
from polyana.corpus.decode import decode, decode_stream, find_encoding, lines_of
from polyana.corpus.document import Document, Dropped, utf8_length
from polyana.corpus.packages import package_documents
from polyana.errors import UserError

__all__ = ["DAMAGE", "Row", "files_of", "format_of", "read_source", "rows_of", "table_encoding"]

Item = Document | Dropped

DAMAGE = (OSError, EOFError, zlib.error, zstandard.ZstdError, csv.Error)
"""What reading a damaged file raises."""


@dataclass(frozen=True, slots=True)
class Row:
    """A table's row, or a JSON line. `number` counts from 1; `line` is where it begins in the file (in Parquet, which
    has no lines, its number); `size`: bytes of UTF-8, 0 for Parquet. `values` is None where it is no JSON."""

    number: int
    line: int
    values: Any
    size: int


def files_of(source: SourceConfig, base: Path, endings: Mapping[str, str] = FORMATS) -> list[tuple[str, Path]]:
    """(name, path) of each file of a source, sorted by name; the name is relative to the source's own directory.

    `endings` are those that are read in a directory. Raises UserError when there is no file.
    """
    given = Path(str(source.path)).expanduser()
    path = base / given
    fixed = before_wildcard(given)
    pattern = len(fixed) < len(given.parts)
    if path.is_file():
        return [(path.name, path)]
    if path.is_dir():
        found = [file for file in _walk(path) if _is_read(file, source, endings)]
        root = path
    elif pattern:
        root = base.joinpath(*fixed)
        found = [file for file in root.glob(str(Path(*given.parts[len(fixed) :]))) if file.is_file()]
    else:
        raise UserError(f"`{given}` does not exist (looked for {path})")
    if not found:
        what = "matches no file" if pattern else "holds no file that can be read"
        read = ", ".join(ending for ending in endings if ending)
        raise UserError(f"`{given}` {what} (looked in {root}; endings read: {read}, each also with .gz or .zst)")
    return sorted((_name(file.relative_to(root)), file) for file in found)


def _name(path: Path) -> str:
    """The path as text that can be written: bytes that are no UTF-8 (names from old archives) become \\xNN."""
    return os.fsencode(path.as_posix()).decode("utf-8", "backslashreplace")


def _walk(root: Path) -> Iterator[Path]:
    """Every file below a directory but hidden ones, through symbolic links; each directory once."""
    entered: set[Path] = set()
    for directory, inner, names in os.walk(root, followlinks=True):
        place = Path(directory).resolve()
        inner[:] = [] if place in entered else [name for name in inner if not name.startswith(".")]
        if place not in entered:
            yield from (Path(directory, name) for name in names if not name.startswith("."))
        entered.add(place)


def _is_read(file: Path, source: SourceConfig, endings: Mapping[str, str] = FORMATS) -> bool:
    """Whether a file found in a directory is read: its ending says how, or the recipe does."""
    ending = _ending(file)
    return file.is_file() and ending in endings and (ending != "" or source.format != "auto")


def _passed_over(source: SourceConfig, base: Path) -> list[tuple[str, Path]]:
    """The files of a directory that are not read."""
    root = base / Path(str(source.path)).expanduser()
    files = [file for file in _walk(root) if file.is_file() and not _is_read(file, source)] if root.is_dir() else []
    return sorted((_name(file.relative_to(root)), file) for file in files)


def _ending(file: Path) -> str:
    name = file.name.lower()
    for compressed in (".gz", ".zst"):
        name = name.removesuffix(compressed)
    return Path(name).suffix


def format_of(file: Path, source: SourceConfig) -> str:
    """Which reader a file gets. A file named outright whose ending is not known is read as text."""
    return FORMATS.get(_ending(file), "text") if source.format == "auto" else source.format


def read_source(source: SourceConfig, base: Path) -> Iterator[Item]:
    """Every document of a source, in a fixed order."""
    if source.package is not None:
        for identifier, text in package_documents(source.package):
            yield Document(f"{source.label}/{identifier}", text)
        return
    for name, path in _passed_over(source, base):
        ending = path.suffix or "a name without an ending"
        yield Dropped(f"{source.label}/{name}", f"no reader for {ending}", path.stat().st_size)
    for name, path in files_of(source, base):
        identifier = f"{source.label}/{name}"
        try:
            yield from _READERS[format_of(path, source)](path, identifier, source)
        except UnicodeError:  # utf-16 that the recipe promised and the file does not hold, for example
            yield Dropped(identifier, f"is not {source.encoding}", path.stat().st_size)
        except DAMAGE:
            yield Dropped(identifier, "damaged file", path.stat().st_size)


def _text(path: Path, identifier: str, source: SourceConfig) -> Iterator[Item]:
    with open_file(path) as stream:
        pieces = decode_stream(stream, source.encoding)
        if source.document == "file":
            yield Document(identifier, "".join(pieces))
            return
        lines = lines_of(pieces)
        if source.document == "line":
            texts = lines
        elif source.document_bytes is None:
            texts = _paragraphs(lines)
        else:
            texts = _chunks(_paragraphs(lines), source.document_bytes)
        for number, text in enumerate(texts, 1):
            if text.strip():
                yield Document(f"{identifier}#{number}", text)


def _paragraphs(lines: Iterator[str]) -> Iterator[str]:
    """Runs of lines between blank ones."""
    paragraph: list[str] = []
    for line in lines:
        if line.strip():
            paragraph.append(line)
        elif paragraph:
            yield "\n".join(paragraph)
            paragraph = []
    if paragraph:
        yield "\n".join(paragraph)


def _chunks(paragraphs: Iterator[str], limit: int) -> Iterator[str]:
    """Paragraphs put together up to `limit` bytes; one that is longer is cut at the last line end or space."""
    chunk: list[str] = []
    size = 0
    for paragraph in paragraphs:
        for piece in _cut(paragraph, limit):
            length = len(piece.encode())
            if chunk and size + length > limit:
                yield "\n\n".join(chunk)
                chunk, size = [], 0
            chunk.append(piece)
            size += length + 2
    if chunk:
        yield "\n\n".join(chunk)


def _cut(text: str, limit: int) -> Iterator[str]:
    start = 0
    while len(text) - start > limit // 4 and len(text[start : start + limit + 1].encode()) > limit:
        window = text[start : start + limit].encode()[:limit].decode("utf-8", "ignore")
        border = max(window.rfind("\n"), window.rfind(" ")) + 1
        end = start + (border or max(len(window), 1))
        yield text[start:end]
        start = end
    yield text[start:]


def _html(path: Path, identifier: str, source: SourceConfig) -> Iterator[Item]:
    from resiliparse.extract.html2text import extract_plain_text

    with open_file(path) as stream:
        markup = decode(stream.read(), source.encoding)
    yield Document(identifier, extract_plain_text(markup, main_content=True, preserve_formatting=True))


def _table(path: Path, identifier: str, source: SourceConfig) -> Iterator[Item]:
    columns = [name for name in (source.text, source.id) if name is not None]
    for row in rows_of(path, format_of(path, source), source.encoding, columns):
        if row.values is None:
            yield Dropped(f"{identifier}#{row.number}", "broken JSON", row.size)
            continue
        text = row.values.get(source.text) if isinstance(row.values, dict) else None
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
    if format == "jsonl":
        yield from _jsonl(path, encoding)
    elif format == "parquet":
        yield from _parquet(path, columns)
    else:
        yield from _csv(path, encoding, tabs=format == "tsv")


def _jsonl(path: Path, encoding: str) -> Iterator[Row]:
    with open_file(path) as stream:
        for number, line in enumerate(lines_of(decode_stream(stream, "utf-8" if encoding == "auto" else encoding)), 1):
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


def _parquet(path: Path, columns: list[str] | None) -> Iterator[Row]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise UserError("reading Parquet needs pyarrow; run: pip install 'polyana[parquet]'") from None
    number = 0
    try:
        with open_file(path) as stream, parquet.ParquetFile(stream) as table:
            names = table.schema_arrow.names
            wanted = None if columns is None else [name for name in columns if name in names]
            for batch in table.iter_batches(batch_size=1024, columns=wanted):
                for row in batch.to_pylist():
                    number += 1
                    yield Row(number, number, row, 0)
    except (pyarrow.ArrowException, UnicodeDecodeError) as error:
        raise OSError(f"{path} is damaged after row {number}: {error}") from error


_READERS: dict[str, Callable[[Path, str, SourceConfig], Iterator[Item]]] = {
    "text": _text, "html": _html, "jsonl": _table, "csv": _table, "tsv": _table, "parquet": _table,
}  # fmt: skip
