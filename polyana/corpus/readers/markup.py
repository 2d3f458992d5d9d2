"""Pages of the web: HTML files, and the responses of a WARC."""

from __future__ import annotations

import codecs
import io
import re
from collections.abc import Iterator
from itertools import accumulate

from resiliparse.extract.html2text import extract_plain_text
from resiliparse.parse.encoding import detect_encoding, map_encoding_to_html5

from polyana.corpus.compressed import open_file
from polyana.corpus.config import SourceConfig
from polyana.corpus.decode import decode
from polyana.corpus.document import Document, Dropped
from polyana.corpus.readers.piece import Item, Notes, Piece

__all__ = ["Monstrous", "read_html", "read_warc", "text_of_page"]

_DEPTH = 512  # boxes in each other; Blink, Chrome's engine, makes no deeper tree
_ATTRIBUTES = 1000  # of one element: guess
_HARMLESS = 2000  # tags and attributes that cannot take long: the extraction of 2,000 nested boxes takes 0.04 s

_BOX = re.compile(r"<(/?)(?:div|article)\b", re.IGNORECASE)
"""What the extraction looks at together with all around it: 50,000 of them nested take 40 s, twice as many four times
as long; of 40 other names 0.1 s. The attributes of one element are as slow: 50,000 take 5 s."""
_TAG = re.compile(r"""<[a-z](?:"[^"]*"|'[^']*'|[^"'>])*""", re.IGNORECASE)

_RESPONSE = 1 << 26  # bytes of one response, packed and unpacked; Common Crawl keeps 1 MiB, and 5 since 2025: guess


class Monstrous(Exception):
    """A page that nobody wrote for people and that could take hours; its text is the reason to drop it."""


def read_html(piece: Piece, source: SourceConfig, notes: Notes) -> Iterator[Item]:
    with open_file(piece.file) as stream:
        yield _document(piece.id, stream.read(), source, notes)


def _document(identifier: str, content: bytes, source: SourceConfig, notes: Notes, charset: str | None = None) -> Item:
    try:
        main = source.extract == "main"
        text = text_of_page(content, source.encoding, notes, charset, main_content=main)
        return Document(identifier, text)
    except Monstrous as error:
        return Dropped(identifier, str(error), len(content))


def text_of_page(
    content: bytes, encoding: str, notes: Notes, charset: str | None = None, *, main_content: bool = True
) -> str:
    """The text of a page as its paragraphs. `charset` is what it was sent as, for pages that are not UTF-8.

    Raises Monstrous.
    """
    markup = decode(content, _encoding(content, charset) if encoding == "auto" else encoding, notes.lines)
    _check(markup)
    return str(extract_plain_text(markup, main_content=main_content, preserve_formatting=True))


def _encoding(content: bytes, charset: str | None) -> str:
    """`auto` where the bytes are UTF-8 or nobody says what else; else what the sender said, or else the page."""
    if content.startswith((codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "auto"
    try:
        content.decode()
        return "auto"
    except UnicodeDecodeError:
        pass
    said = map_encoding_to_html5(charset, fallback_utf8=False) if charset else None
    if said is None and b"charset" in content[:1024].lower():
        said = detect_encoding(content, from_html_meta=True)
    return "auto" if said in (None, "utf-8", "utf-16-le", "utf-16-be") else str(said)  # which it is not


def _check(markup: str) -> None:
    """Raises Monstrous where the extraction would take longer than the square of what it should."""
    if markup.count("<") > _HARMLESS:
        depths = accumulate(-1 if box[1] else 1 for box in _BOX.finditer(markup))
        if max(depths, default=0) > _DEPTH:
            raise Monstrous(f"a page nested more than {_DEPTH} deep")
    if markup.count("=") > _HARMLESS and any(tag[0].count("=") > _ATTRIBUTES for tag in _TAG.finditer(markup)):
        raise Monstrous(f"a page with more than {_ATTRIBUTES:,} attributes in a tag")


def read_warc(piece: Piece, source: SourceConfig, notes: Notes) -> Iterator[Item]:
    """The HTML among the responses. Ids end in the record's number, when it was fetched, and from where."""
    from fastwarc.warc import ArchiveIterator, WarcRecordType

    with open_file(piece.file) as stream:
        for number, record in enumerate(ArchiveIterator(_Forward(stream), parse_http=False, stream_detect=False), 1):
            if record.record_type != WarcRecordType.response or not record.is_http:
                continue
            address = str(record.headers.get("WARC-Target-URI")).strip("<>")  # which wget puts around it
            identifier = f"{piece.id}#{number} {record.headers.get('WARC-Date')} {address}"
            size = record.content_length
            if size > _RESPONSE:
                yield Dropped(identifier, f"a response of more than {_RESPONSE >> 20} MiB", size)
                continue
            content = record.reader.read(size)
            if len(content) < size:
                raise EOFError("the file ends in the middle of a record")
            yield _response(identifier, content, source, notes)


def _response(identifier: str, content: bytes, source: SourceConfig, notes: Notes) -> Item:
    """The page in an HTTP response, or why there is none."""
    from fastwarc.warc import WarcRecord

    record = WarcRecord()  # one of the archive's that cannot be unpacked would end the archive
    record.set_bytes_content(content)
    record.is_http = True
    try:
        record.parse_http(auto_decode="all")
        status, kind = record.http_headers.status_code, record.http_content_type
        if status is None or not 200 <= status < 300:
            return Dropped(identifier, f"a response of status {status}", len(content))
        if kind not in ("text/html", "application/xhtml+xml"):
            return Dropped(identifier, "a response that is no HTML", len(content))
        body = record.reader.read(_RESPONSE + 1)
    except OSError:
        return Dropped(identifier, "broken HTTP", len(content))
    if len(body) > _RESPONSE:
        return Dropped(identifier, f"a response of more than {_RESPONSE >> 20} MiB", len(content))
    return _document(identifier, body, source, notes, record.http_charset)


class _Forward:
    """A stream as FastWARC can use it, which panics on those that cannot seek although it does not need to."""

    def __init__(self, stream: io.BufferedReader) -> None:
        self._stream, self._place = stream, 0

    def tell(self) -> int:
        return self._place

    def seek(self, offset: int, whence: int = 0) -> int:  # noqa: ARG002  asked for, and never called
        raise io.UnsupportedOperation("only forward")

    def close(self) -> None:
        self._stream.close()

    def read(self, size: int = -1) -> bytes:
        content = self._stream.read1(size)
        self._place += len(content)
        return content
