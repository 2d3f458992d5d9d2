"""Pages: HTML."""

from __future__ import annotations

from collections.abc import Iterator

from polyana.corpus.compressed import open_file
from polyana.corpus.config import SourceConfig
from polyana.corpus.decode import decode
from polyana.corpus.document import Document
from polyana.corpus.readers.piece import Item, Notes, Piece

__all__ = ["read_html"]


def read_html(piece: Piece, source: SourceConfig, notes: Notes) -> Iterator[Item]:
    from resiliparse.extract.html2text import extract_plain_text

    with open_file(piece.file) as stream:
        markup = decode(stream.read(), source.encoding)
    yield Document(piece.id, extract_plain_text(markup, main_content=True, preserve_formatting=True))
