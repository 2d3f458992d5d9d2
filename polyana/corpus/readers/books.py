"""Books and papers: EPUB and PDF."""

from __future__ import annotations

import posixpath
import re
import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any
from urllib.parse import unquote
from xml.etree import ElementTree

from polyana.corpus.compressed import Refused, check_ratio, open_file, packing_of
from polyana.corpus.config import SourceConfig
from polyana.corpus.document import Document
from polyana.corpus.readers.markup import Monstrous, text_of_page
from polyana.corpus.readers.piece import Item, Notes, Piece
from polyana.corpus.readers.plain import documents_of
from polyana.corpus.remote import File
from polyana.errors import UserError

__all__ = ["read_epub", "read_pdf", "seekable"]

_CLOSED = re.compile(
    rb"<(?!(?:area|base|br|col|embed|hr|img|input|link|meta|source|track|wbr)\b)([a-z][\w:-]*)([^<>]*)/>", re.IGNORECASE
)
"""An element of XHTML that closes itself, as HTML has none: a <title/> would swallow the chapter."""


_HYPHEN = re.compile("[\x02\ufffe](?:\r\n)?")  # PDFium's signs for one at a line end, whose words it draws together


@contextmanager
def seekable(file: File) -> Iterator[IO[bytes]]:
    """The content of a file, for readers that begin at its end; what is compressed goes to disk first."""
    with open_file(file) as stream:
        if packing_of(file.name) is None:
            yield stream
            return
        with tempfile.TemporaryFile() as unpacked:
            shutil.copyfileobj(stream, unpacked)
            unpacked.seek(0)
            yield unpacked


def read_epub(piece: Piece, source: SourceConfig, notes: Notes) -> Iterator[Item]:
    """A book in its order of reading. Raises Refused when it is encrypted or a bomb."""
    with seekable(piece.file) as stream, zipfile.ZipFile(stream) as book:
        try:
            members = _spine(book)
            check_ratio(sum(book.getinfo(name).file_size for name in members), piece.size)
            chapters = (_chapter(book.read(name), source, notes) for name in members)
            if source.document == "chapter":
                for number, text in enumerate(chapters, 1):
                    if text.strip():
                        yield Document(f"{piece.id}#{number}", text)
            else:
                yield from documents_of(_joined(chapters), piece.id, source)
        except (KeyError, ElementTree.ParseError, NotImplementedError) as error:
            raise OSError(f"{piece.file.name} is no EPUB: {error}") from error
        except RuntimeError as error:  # what zipfile raises at a password
            raise Refused("encrypted") from error
        except Monstrous as error:
            raise Refused(str(error)) from error


def _spine(book: zipfile.ZipFile) -> list[str]:
    """The names of a book's pages in their order, but for its table of contents. Raises KeyError if it has none."""
    root = _xml(book, "META-INF/container.xml").find(".//{*}rootfile")
    place = "" if root is None else root.get("full-path", "")
    package, folder = _xml(book, place), posixpath.dirname(place)
    pages = {
        item.get("id"): posixpath.normpath(posixpath.join(folder, unquote(item.get("href", ""))))
        for item in package.iterfind("{*}manifest/{*}item")
        if item.get("media-type") in ("application/xhtml+xml", "text/html")
        and "nav" not in item.get("properties", "").split()
    }
    order = [item.get("idref") for item in package.iterfind("{*}spine/{*}itemref")]
    names = [pages[page] for page in order if page in pages]
    if "META-INF/encryption.xml" in book.namelist():
        locked = _xml(book, "META-INF/encryption.xml").iterfind(".//{*}CipherReference")
        if {unquote(entry.get("URI", "")) for entry in locked} & set(names):  # and not only its fonts
            raise Refused("encrypted")
    return names


def _xml(book: zipfile.ZipFile, name: str) -> ElementTree.Element:
    check_ratio(book.getinfo(name).file_size, book.getinfo(name).compress_size)
    return ElementTree.fromstring(book.read(name))


def _chapter(content: bytes, source: SourceConfig, notes: Notes) -> str:
    # bytes of ASCII are the same in every encoding that XHTML may have but UTF-16
    closed = content if content.startswith((b"\xff\xfe", b"\xfe\xff")) else _CLOSED.sub(rb"<\1\2></\1>", content)
    return text_of_page(closed, source.encoding, notes, main_content=False).strip()


def _joined(texts: Iterator[str]) -> Iterator[str]:
    """Texts as one, with a blank line between two."""
    yield next(texts, "")
    yield from (f"\n\n{text}" for text in texts)


def read_pdf(piece: Piece, source: SourceConfig, notes: Notes) -> Iterator[Item]:
    """The text of a paper, page after page. One that was scanned has none."""
    try:
        import pypdfium2
    except ImportError:
        raise UserError("reading PDF needs pypdfium2; run: pip install 'polyana[pdf]'") from None
    try:
        with seekable(piece.file) as stream, pypdfium2.PdfDocument(stream) as paper:
            yield from documents_of(_joined(map(_page, paper)), piece.id, source)
    except pypdfium2.PdfiumError as error:
        if error.err_code == pypdfium2.raw.FPDF_ERR_PASSWORD:
            raise Refused("encrypted") from error
        raise OSError(f"{piece.file.name} is damaged: {error}") from error


def _page(page: Any) -> str:
    text = str(page.get_textpage().get_text_bounded())
    page.close()  # else all stay in memory until the last
    return _HYPHEN.sub("-\n", text).replace("\r\n", "\n").strip()
