"""Plain text, and how a text is cut into documents."""

from __future__ import annotations

from collections.abc import Iterator

from polyana.corpus.compressed import open_file
from polyana.corpus.config import SourceConfig
from polyana.corpus.decode import decode_stream, lines_of
from polyana.corpus.document import Document
from polyana.corpus.readers.piece import Item, Notes, Piece

__all__ = ["LONGEST", "cut_long", "documents_of", "read_text", "whole"]

LONGEST = 3_200_000  # characters of a document, of which steps hold 40 bytes each; War and Peace has 3 million


def read_text(piece: Piece, source: SourceConfig, notes: Notes) -> Iterator[Item]:
    with open_file(piece.file) as stream:
        yield from documents_of(decode_stream(stream, source.encoding, notes.lines), piece.id, source)


def documents_of(pieces: Iterator[str], identifier: str, source: SourceConfig) -> Iterator[Document]:
    """The documents of one text, which comes in pieces cut anywhere."""
    if source.document in ("file", "chapter"):
        yield from whole(pieces, identifier)
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


def cut_long(document: Document) -> Iterator[Document]:
    """The document, or if it is longer than LONGEST its parts."""
    text = document.text
    if len(text) <= LONGEST:
        yield document
    else:
        yield from whole((text[at : at + LONGEST] for at in range(0, len(text), LONGEST)), document.id)


def whole(pieces: Iterator[str], identifier: str) -> Iterator[Document]:
    """A text as one document, or as several where it is longer than LONGEST."""
    text, number = "", 0
    for piece in pieces:
        text += piece
        while len(text) > LONGEST:
            number += 1
            borders = (text.rfind(mark, LONGEST // 2, LONGEST) + len(mark) for mark in ("\n\n", "\n", " "))
            end = next((border for border in borders if border >= LONGEST // 2), LONGEST)
            yield Document(f"{identifier}#{number}", text[:end])
            text = text[end:]
    if not number:
        yield Document(identifier, text)
    elif text.strip():
        yield Document(f"{identifier}#{number + 1}", text)


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
