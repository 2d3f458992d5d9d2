"""What a recipe says about where text comes from."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from polyana.config import Config, KeyPath, Share, closest, parse_quantity
from polyana.corpus.packages import PACKAGES
from polyana.corpus.remote import HUB, is_address

__all__ = ["FORMATS", "SourceConfig", "before_wildcard", "known_encoding", "name_of_files"]

FORMATS = {
    ".txt": "text", ".text": "text", ".md": "text", "": "text",
    ".jsonl": "jsonl", ".ndjson": "jsonl",
    ".parquet": "parquet",
    ".csv": "csv", ".tsv": "tsv",
    ".html": "html", ".htm": "html", ".xhtml": "html",
    ".warc": "warc",
    ".epub": "epub", ".pdf": "pdf",
}  # fmt: skip
"""File name endings and the format each is read as, once .gz, .zst, .bz2 or .xz is taken off."""

TABLES = ("jsonl", "parquet", "csv", "tsv")
"""Formats that have columns."""

PAGES = ("html", "warc")
"""Formats of pages of the web."""

TEXTS = ("text", "epub", "pdf")
"""Formats of running text, which is cut into documents."""


def before_wildcard(path: Path) -> list[str]:
    """The parts of a path in front of the first one with *, ? or [."""
    return list(takewhile(lambda part: not any(sign in part for sign in "*?["), path.parts))


def name_of_files(given: str) -> str:
    """What a source is called that a recipe gives no name: its file, its directory, or that of its glob."""
    fixed = before_wildcard(Path(given))
    return Path(*fixed).name if fixed else "files"


_UNITS = ("file", "chapter", "paragraph", "line")


def _unit(text: str) -> str:
    if text not in _UNITS:
        try:
            parse_quantity(text, ("bytes", "kB", "KB", "MB", "GB"))
        except ValueError:
            raise ValueError(f"`{text}`: write {', '.join(_UNITS)} or a size as `100 KB`") from None
    return text


def known_encoding(name: str) -> str:
    """`name`, if it is `auto` or an encoding. Raises ValueError if it is neither."""
    import codecs

    if name != "auto":
        try:
            codecs.lookup(name)
        except LookupError:
            raise ValueError(f"`{name}` is no encoding that Python knows; write auto, utf-8, cp1251, koi8-r") from None
    return name


class SourceConfig(Config):
    """One place text comes from: files, here or elsewhere, or a pip package that carries text."""

    path: str | None = Field(
        None,
        description="a file, a directory or a glob, relative to the recipe's directory; or an address: "
        "`s3://bucket/texts/*.jsonl.zst` or another that fsspec knows (extra `remote`), or a data set of the hub, "
        "`hub:org/name@revision:*.parquet`",
        json_schema_extra={"path": True},
    )
    package: str | None = Field(None, description="a pip package of text: " + ", ".join(PACKAGES))
    name: str | None = Field(None, description="first part of the documents' ids; default: the directory or package")
    format: Literal["auto", "text", "jsonl", "parquet", "csv", "tsv", "html", "warc", "epub", "pdf"] = Field(
        "auto", description="auto goes by the file name's ending; Parquet and PDF need the extras of their names"
    )
    encoding: Annotated[str, AfterValidator(known_encoding)] = Field(
        "auto",
        description="auto detects it for each file, and lines that are in another; JSONL is UTF-8 unless named here",
    )
    document: Annotated[str, AfterValidator(_unit)] = Field(
        "file",
        description="what one document of a text, EPUB or PDF file is: file, chapter (EPUB), paragraph, line, "
        "or a size as `100 KB`: whole paragraphs up to that size; "
        "a text of more than 3.2 million characters is always cut",
    )
    text: str = Field("text", description="the column or key that holds the text (JSONL, Parquet, CSV, TSV)")
    id: str | None = Field(None, description="the column or key that names a document; default: its row number")
    extract: Literal["main", "all"] = Field(
        "main",
        description="of a page its main text, by its layout, or all of its text: best for many pages of one site, "
        "whose menus the step `boilerplate` finds, while the layout hides some of the text",
    )
    max_damaged: Share = Field(
        0.1, ge=0, le=1, description="the run stops when more than this share of the files cannot be read to their end"
    )

    def problems(self) -> Iterator[tuple[KeyPath, str]]:
        if (self.path is None) == (self.package is None):
            yield (), "a source needs one of `path: ...` or `package: ...`"
        if self.package is not None and self.package not in PACKAGES:
            near = closest(self.package, list(PACKAGES))
            yield (
                ("package",),
                f"`package: {self.package}` is not known{near or '; known: ' + ', '.join(PACKAGES)}",
            )
        if self.package is not None:
            for name in ("format", "encoding", "document", "text", "id", "extract", "max_damaged"):
                if getattr(self, name) != type(self).model_fields[name].default:
                    yield (
                        (name,),
                        f"`{name}` says how files are read; a package's documents are ready, so leave it out",
                    )
        if self.path is not None and self.path.startswith("hub:") and not HUB.fullmatch(self.path):
            yield ("path",), f"`{self.path}` is no data set of the hub: write hub:NAME, hub:ORG/NAME@REVISION:GLOB"
        if self.document != "file" and self.format not in ("auto", *TEXTS):
            yield (
                ("document",),
                f"`document: {self.document}` is for text files; in {self.format} a document is given",
            )
        if self.document == "chapter" and self.format in ("text", "pdf"):
            yield ("document",), f"`document: chapter` is for EPUB; a {self.format} file does not say where one begins"
        if self.id is not None and self.format not in ("auto", *TABLES):
            yield (
                ("id",),
                f"`id` names a column; a {self.format} file has none, its documents are named by its path",
            )

    def identity(self) -> dict[str, Any]:
        return super().identity() | {"name": self.label}  # ids begin with it, whether it was given or derived

    def resolved(self, base: Path) -> dict[str, Any]:
        resolved = super().resolved(base) | {"name": self.label}  # which an absolute path could change
        return resolved | ({"path": self.path} if is_address(str(self.path)) else {})

    @property
    def label(self) -> str:
        """The first part of the ids of this source's documents."""
        if self.name is not None:
            return self.name
        if self.package is not None:
            return self.package
        if hub := HUB.fullmatch(str(self.path)):
            return hub["name"].rpartition("/")[2]
        return name_of_files(str(self.path))

    @property
    def document_bytes(self) -> int | None:
        """The size that `document` gives, in bytes of UTF-8; None when it names a unit."""
        if self.document in _UNITS:
            return None
        return parse_quantity(self.document, ("bytes", "kB", "KB", "MB", "GB")).bytes
