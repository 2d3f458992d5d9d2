"""Files of parallel text to segments: two files of lines, TSV, CSV, JSONL, TMX, PO, and HTML with paragraph ids."""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

from polyana.corpus import DAMAGE, decode, open_file, rows_of, table_encoding
from polyana.corpus.decode import decode_stream, lines_of
from polyana.errors import Problem, UserError
from polyana.parallel.alignment import ShiftWatch, slip
from polyana.parallel.config import LanguagesConfig, ParallelSource
from polyana.parallel.files import ParallelFile, files_of
from polyana.parallel.segment import Rejected, Segment
from polyana.parallel.tmx import Broken, translation_units

__all__ = ["knows_paragraphs", "read_source"]


@dataclass(frozen=True, slots=True)
class _Row:
    """A pair as a reader finds it; `document` and `paragraph` are what the file itself says of them."""

    source: str
    target: str
    where: str
    document: str | None = None
    paragraph: object = None


_Item = _Row | Rejected
_Reader = Callable[[ParallelFile, ParallelSource, LanguagesConfig], Iterator[_Item]]


def read_source(
    source: ParallelSource, languages: LanguagesConfig, base: Path, cache: Path
) -> Iterator[Segment | Rejected]:
    """Every pair of a source in its order; relative paths start at `base`, packages are unpacked below `cache`.

    Raises UserError when there is no such file, when two files are not aligned, when one is damaged, when a column is
    missing and when the rows of a document do not stand together.
    """
    files, missing = files_of(source, languages, base, cache)
    yield from missing
    for file in files:
        yield from _segments(_rows(file, source, languages), f"{source.label}/{file.name}", source, file.format)


def knows_paragraphs(source: ParallelSource, format_: str) -> bool:
    """Whether a file of this format says which paragraph a pair belongs to."""
    if source.paragraph == "auto":
        return format_ == "html" or (format_ in ("tsv", "csv", "jsonl") and source.columns.paragraph is not None)
    return source.paragraph != "unknown"


def _segments(rows: Iterator[_Item], name: str, source: ParallelSource, format_: str) -> Iterator[Segment | Rejected]:
    """Rows with their document, and the numbers of segment and paragraph in it."""
    known = knows_paragraphs(source, format_)
    each = source.paragraph == "line" or (source.paragraph == "auto" and format_ == "html")
    seen: set[str] = set()
    document: str | None = None
    number, paragraph, last = 0, -1, object()
    for row in rows:
        if isinstance(row, Rejected):
            yield row
            continue
        alone = row.document is None and source.document == "line"
        part = row.where.rpartition(":")[2] if alone else row.document or ""
        if part != document:
            if row.document is not None and part in seen:
                what = f"document `{part}` began further up; put the rows of a document together, in their order"
                raise UserError(Problem(row.where, what))
            if row.document is not None:
                seen.add(part)
            document, number, paragraph, last = part, 0, -1, object()
        if known and (each or row.paragraph != last):
            paragraph, last = paragraph + 1, row.paragraph
        whole = f"{name}#{part}" if part else name
        yield Segment(whole, number, row.source, row.target, row.where, paragraph if known else None)
        number += 1


def _rows(file: ParallelFile, source: ParallelSource, languages: LanguagesConfig) -> Iterator[_Item]:
    try:
        yield from _READERS[file.format](file, source, languages)
    except DAMAGE as error:
        raise UserError(Problem(" and ".join(file.shown), f"cannot be read to its end: {error}")) from None
    except UnicodeError:
        raise UserError(Problem(" and ".join(file.shown), f"is not {source.encoding}")) from None


def _clean(text: str) -> str:
    """One line, single blanks."""
    return " ".join(text.replace("\ufeff", "").split())


# Two files of lines


def _lines(file: ParallelFile, source: ParallelSource, _: LanguagesConfig) -> Iterator[_Item]:
    """Pairs of lines; a line that is blank in both files is no pair, but may end a document or a paragraph."""
    document = paragraph = 0
    blank = False
    watch = ShiftWatch()
    with open_file(file.paths[0]) as left, open_file(file.paths[1]) as right:
        pairs = zip_longest(_file_lines(left, source), _file_lines(right, source))
        for number, (one, other) in enumerate(pairs, 1):
            if one is None or other is None:
                raise UserError(_parting(file, source, number, 0))
            shift = watch.see(len(one), len(other)) if source.check_alignment else None
            if shift is not None:
                raise UserError(_parting(file, source, number, shift))
            if not one and not other:
                blank = True
                continue
            if blank:
                document, paragraph, blank = document + 1, paragraph + 1, False
            name = str(document + 1) if source.document == "blank_line" else None
            yield _Row(one, other, f"{file.shown[0]}:{number}", name, paragraph)


def _file_lines(stream: io.BufferedIOBase, source: ParallelSource) -> Iterator[str]:
    """As `lines_of`, without the empty rest after the last line end."""
    waiting: str | None = None
    for line in lines_of(decode_stream(stream, source.encoding)):
        if waiting is not None:
            yield _clean(waiting)
        waiting = line
    if waiting:
        yield _clean(waiting)


def _parting(file: ParallelFile, source: ParallelSource, number: int, shift: int) -> Problem:
    """A letter about two files that were found not to be aligned by line `number`, where they seem `shift` apart."""
    texts: list[list[str]] = []
    for path in file.paths:
        with open_file(path) as stream:
            texts.append(list(_file_lines(stream, source)))
    short, long = (0, 1) if len(texts[0]) < len(texts[1]) else (1, 0)
    more = len(texts[long]) - len(texts[short])
    if not more:
        what = (
            f"by their lengths, the lines around here belong to those {_count(abs(shift))} further "
            f"{'down' if shift > 0 else 'up'} in {file.shown[1]}: look above for a line that is missing or too many; "
            "if all is well, write `check_alignment: false`"
        )
        return Problem(f"{file.shown[0]}:{number}", what)
    at = slip([len(line) for line in texts[0]], [len(line) for line in texts[1]])
    end = len(texts[short])
    what = f"has {end:,} lines and {file.shown[long]} {len(texts[long]):,}: they are not aligned; "
    if at >= end:
        what += "they agree to the end of the shorter one, so its last lines are missing"
    else:
        what += (
            f"by the lengths, {file.shown[long]} has {_count(more)} too many at line {at + 1:,}: "
            f"`{texts[long][at][:60]}`"
        )
    return Problem(f"{file.shown[short]}:{at + 1}", what)


def _count(count: int) -> str:
    return "1 line" if count == 1 else f"{count:,} lines"


# Rows


def _names(column: str | int | None, side: str, code: str) -> tuple[str, ...]:
    """What a column may be called: as the recipe says, else after its side or its language."""
    return (str(column),) if column is not None else (side, code)


def _table(file: ParallelFile, source: ParallelSource, languages: LanguagesConfig) -> Iterator[_Item]:
    """TSV and CSV, with a header or without."""
    path = file.paths[0]
    encoding = table_encoding(path, source.encoding)
    csv.field_size_limit(sys.maxsize)  # the default, 128 KiB, is less than a long document
    # TSV as it is written in practice: a quotation mark is only a character
    dialect: dict[str, Any] = {"delimiter": "\t", "quoting": csv.QUOTE_NONE} if file.format == "tsv" else {}
    with open_file(path) as stream, io.TextIOWrapper(stream, encoding, "replace", newline="") as text:
        rows = csv.reader(text, **dialect)
        places: list[int | None] = []
        while True:
            line = rows.line_num + 1
            try:
                row = next(rows)
            except StopIteration:
                return
            except csv.Error as error:
                yield Rejected(f"{file.shown[0]}:{line}", f"no {file.format.upper()}: {error}", malformed=True)
                continue
            row = [_clean(cell) for cell in row]
            if not any(row):
                continue
            where = f"{file.shown[0]}:{line}"
            if not places:
                places, header = _places(row, source, languages, where)
                if header:
                    continue
            least = max(place for place in places if place is not None)
            if len(row) <= least:
                yield Rejected(where, f"{len(row)} columns, not {least + 1}", malformed=True)
                continue
            one, other, document, paragraph = (None if place is None else row[place] for place in places)
            yield _Row(one or "", other or "", where, document, paragraph)


def _places(
    row: Sequence[str], source: ParallelSource, languages: LanguagesConfig, where: str
) -> tuple[list[int | None], bool]:
    """The columns of source, target, document and paragraph, from 0; and whether `row` is a header."""
    columns = source.columns
    given = [columns.source, columns.target, columns.document, columns.paragraph]
    if any(isinstance(column, int) for column in given):
        defaults: list[int | None] = [1, 2, None, None]
        numbers = [
            fallback if column is None else int(column) for column, fallback in zip(given, defaults, strict=True)
        ]
        return [None if number is None else number - 1 for number in numbers], False
    names = [name.casefold() for name in row]
    wanted = [
        _names(columns.source, "source", languages.source), _names(columns.target, "target", languages.target),
        *((str(name),) if name is not None else () for name in (columns.document, columns.paragraph)),
    ]  # fmt: skip
    places = [
        next((names.index(name.casefold()) for name in names_of_it if name.casefold() in names), None)
        for names_of_it in wanted
    ]
    if given == [None] * 4 and None in places[:2]:
        return [0, 1, None, None], False
    absent = [name for name, place in zip(wanted, places, strict=True) if name and place is None]
    if absent:
        missing = ", ".join(" or ".join(f"`{name}`" for name in one) for one in absent)
        what = f"there is no column {missing}; the first line has: {', '.join(row)}. Name it in `columns`, or by number"
        raise UserError(Problem(where, what))
    return places, True


def _jsonl(file: ParallelFile, source: ParallelSource, languages: LanguagesConfig) -> Iterator[_Item]:
    """One JSON object a line; both texts may also stand one level deeper, under `translation`."""
    columns = source.columns
    if any(isinstance(getattr(columns, name), int) for name in type(columns).model_fields):
        raise UserError(Problem(file.shown[0], "JSONL has no numbered columns; write the names of its keys"))
    wanted = (_names(columns.source, "source", languages.source), _names(columns.target, "target", languages.target))
    for found in rows_of(file.paths[0], "jsonl", source.encoding):
        where, row = f"{file.shown[0]}:{found.line}", found.values
        if not isinstance(row, dict):
            yield Rejected(where, "no JSON object", malformed=True)
            continue
        inner = row.get("translation")
        row |= inner if isinstance(inner, dict) else {}
        texts = [next((row[name] for name in names if isinstance(row.get(name), str)), None) for names in wanted]
        if None in texts:
            missing = wanted[texts.index(None)]
            yield Rejected(where, f"no text under {' or '.join(f'`{name}`' for name in missing)}", malformed=True)
            continue
        one, other = (_clean(text.encode("utf-8", "replace").decode()) for text in texts if text is not None)
        keys = [None if key is None else str(key) for key in (columns.document, columns.paragraph)]
        absent = [key for key in keys if key is not None and key not in row]
        if absent:
            yield Rejected(where, f"no key `{absent[0]}`", malformed=True)
            continue
        document, paragraph = (None if key is None else row[key] for key in keys)
        yield _Row(one, other, where, None if document is None else str(document), paragraph)


# Translators' formats


def _tmx(file: ParallelFile, source: ParallelSource, languages: LanguagesConfig) -> Iterator[_Item]:
    kind, known, named = source.columns.document, set[str](), False
    with open_file(file.paths[0]) as stream:
        try:
            for unit in translation_units(stream):
                where = f"{file.shown[0]}:{unit.line}"
                known |= set(unit.props)
                named = named or kind in unit.props
                one, other = unit.text(languages.source), unit.text(languages.target)
                if one is None or other is None:
                    yield Rejected(where, f"no `{languages.source if one is None else languages.target}` in it")
                    continue
                yield _Row(_clean(one), _clean(other), where, unit.props.get(str(kind)) if kind is not None else None)
        except Broken as error:
            raise UserError(Problem(f"{file.shown[0]}:{error.line}", f"is no whole TMX: {error}")) from None
    if kind is not None and not named:
        listed = ", ".join(f"`{name}`" for name in sorted(known)) or "none"
        raise UserError(Problem(file.shown[0], f"no unit has a `prop` of type `{kind}`; there are: {listed}"))


def _po(file: ParallelFile, _: ParallelSource, languages: LanguagesConfig) -> Iterator[_Item]:
    """Messages and their translations; a document is the file that a message's comment `#:` names, if one does.

    Of a message with plural forms the singular and the first form count.
    """
    try:
        from babel.messages.pofile import PoFileError, read_po
    except ImportError:
        raise UserError("reading PO needs babel; run: pip install 'polyana[translate]'") from None
    with open_file(file.paths[0]) as stream:
        try:
            catalog = read_po(io.BytesIO(stream.read()), abort_invalid=True)
        except PoFileError as error:
            where = f"{file.shown[0]}:{error.lineno + 1}"
            raise UserError(Problem(where, f"is no PO: {error.args[0]}")) from None
    language = str(catalog.locale_identifier or "")
    if language and language.lower().split("_")[0] != languages.target.lower().replace("-", "_").split("_")[0]:
        what = f"its translations are `{language}` by its header, not `{languages.target}`"
        raise UserError(Problem(file.shown[0], what))
    rows: dict[str | None, list[_Item]] = {}  # messages of one file may stand apart
    for message in catalog:
        one, other = (text[0] if isinstance(text, list | tuple) else text for text in (message.id, message.string))
        if not one:
            continue  # the header
        where = f"{file.shown[0]}:{message.lineno}"
        document = message.locations[0][0] if message.locations else None
        if message.fuzzy or not other:
            rows.setdefault(document, []).append(
                Rejected(where, "marked fuzzy" if other else "not translated", one, other)
            )
            continue
        rows.setdefault(document, []).append(_Row(_clean(one), _clean(other), where, document))
    for items in rows.values():
        yield from items


# HTML whose paragraphs carry ids

_BLOCKS = (
    "p", "h1", "h2", "h3", "h4", "h5", "h6", "li", "td", "th", "dt", "dd", "caption", "figcaption", "blockquote", "pre",
)  # fmt: skip
_SELECTOR = ", ".join(f"{tag}[id]" for tag in _BLOCKS)


def _html(file: ParallelFile, source: ParallelSource, _: LanguagesConfig) -> Iterator[_Item]:
    """Paragraphs whose `id` stands in both pages, in the order of the source's."""
    pages = []
    for path in file.paths:
        with open_file(path) as stream:
            pages.append(_paragraphs(decode(stream.read(), source.encoding)))
    theirs = dict(reversed(pages[1]))  # of an id that stands twice the first counts
    used: set[str] = set()
    for identifier, text in pages[0]:
        where = f"{file.shown[0]}#{identifier}"
        if identifier in used:
            yield Rejected(where, "its id stands twice in the page", text)
        elif identifier not in theirs:
            yield Rejected(where, "no paragraph of its id on the other side", text)
        else:
            yield _Row(text, theirs[identifier], where)
        used.add(identifier)


def _paragraphs(markup: str) -> list[tuple[str, str]]:
    """(id, text) of each innermost block of text that has an id."""
    from resiliparse.parse.html import HTMLTree

    body = HTMLTree.parse(markup).body
    if body is None:
        return []
    found = [
        (node.getattr("id"), _clean(node.text or ""))
        for node in body.query_selector_all(_SELECTOR)[:]  # one by one takes time quadratic in their number
        if node.query_selector(_SELECTOR) is None
    ]
    return [(identifier, text) for identifier, text in found if identifier and text]


_READERS: dict[str, _Reader] = {
    "lines": _lines, "tsv": _table, "csv": _table, "jsonl": _jsonl, "tmx": _tmx, "po": _po, "html": _html,
}  # fmt: skip
