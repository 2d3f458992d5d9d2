"""What a recipe says about parallel text: where it comes from, what is thrown out, how it is cut and asked for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from polyana.config import Config, KeyPath, Share, Tokens, closest, of_kind, parse_quantity
from polyana.corpus.config import known_encoding, name_of_files

__all__ = [
    "FORMATS",
    "PACKAGES",
    "ChatPrompt",
    "ChunkUnit",
    "ColumnsConfig",
    "DocumentUnit",
    "HygieneConfig",
    "LanguagesConfig",
    "ParagraphUnit",
    "ParallelConfig",
    "ParallelSource",
    "PromptConfig",
    "SentenceUnit",
    "TagPrompt",
    "UnitConfig",
]

FORMATS = {
    ".tsv": "tsv", ".csv": "csv",
    ".jsonl": "jsonl", ".ndjson": "jsonl",
    ".tmx": "tmx",
    ".po": "po", ".pot": "po",
    ".html": "html", ".htm": "html", ".xhtml": "html",
}  # fmt: skip
"""File name endings and the format each is read as, once .gz or .zst is taken off; two files of any other: lines."""

PACKAGES = ("libreoffice-help",)

_TWO_FILES = ("lines", "html")
_ROWS = ("tsv", "csv", "jsonl")


class LanguagesConfig(Config):
    """From which language into which."""

    source: str = Field(description="code of the language that is translated from: `en`")
    target: str = Field(description="code of the language that is translated into: `ru`")

    def problems(self) -> Iterator[tuple[KeyPath, str]]:
        if self.source == self.target:
            yield ("target",), f"`target: {self.target}` is the source language too; name two languages"


class ColumnsConfig(Config):
    """The columns of TSV and CSV, by name or by number from 1, and the keys of JSONL."""

    source: str | int | None = Field(None, description="default: `source`, or the language's code, or 1")
    target: str | int | None = Field(None, description="default: `target`, or the language's code, or 2")
    document: str | int | None = Field(
        None, description="names the document a row belongs to; its rows stand together. In TMX the type of a `prop`"
    )
    paragraph: str | int | None = Field(None, description="names the paragraph a row is a sentence of")

    def problems(self) -> Iterator[tuple[KeyPath, str]]:
        given = [value for value in (self.source, self.target, self.document, self.paragraph) if value is not None]
        if len({isinstance(value, int) for value in given}) > 1:
            yield (), "name all columns, or give the number of each: a file has a header or it has none"
        for name in type(self).model_fields:
            number = getattr(self, name)
            if isinstance(number, int) and number < 1:
                yield (name,), f"`{name}: {number}`: columns are numbered from 1"


class ParallelSource(Config):
    """One place parallel text comes from: a file or directory of each language, files that hold both, or a package."""

    source: str | None = Field(
        None, description="file or directory of the source language", json_schema_extra={"path": True}
    )
    target: str | None = Field(
        None,
        description="the same in the target language: line for line, or file for file and paragraph for paragraph",
        json_schema_extra={"path": True},
    )
    path: str | None = Field(
        None,
        description="instead: a file, directory or glob of files that hold both languages: TSV, CSV, JSONL, TMX, PO",
        json_schema_extra={"path": True},
    )
    package: str | None = Field(
        None,
        description="instead: text that the system's packages hold, fetched once by apt-get: " + ", ".join(PACKAGES),
    )
    name: str | None = Field(
        None, description="first part of the documents' names; default: the file, directory, package"
    )
    format: Literal["auto", "lines", "tsv", "csv", "jsonl", "tmx", "po", "html"] = Field(
        "auto", description="auto goes by the file name's ending; `html` aligns paragraphs by their `id`"
    )
    encoding: Annotated[str, AfterValidator(known_encoding)] = Field(
        "auto", description="auto detects it for each file; JSONL is UTF-8, TMX and PO say it themselves"
    )
    document: Literal["file", "blank_line", "line"] = Field(
        "file",
        description="what one document is where nothing names it: file, lines between blank ones, or each pair alone",
    )
    paragraph: Literal["auto", "unknown", "blank_line", "line"] = Field(
        "auto",
        description="what one paragraph is: lines between blank ones, or each pair (`line`), which is then cut into "
        "sentences where both sides have as many; auto: `line` for html, elsewhere unknown",
    )
    columns: ColumnsConfig = ColumnsConfig()
    check_alignment: bool = Field(
        True,
        description="stop where the lengths of lines say that a stretch of one file is shifted against the other's",
    )

    def problems(self) -> Iterator[tuple[KeyPath, str]]:
        two = self.source is not None or self.target is not None
        if [two, self.path is not None, self.package is not None].count(True) != 1:
            yield (
                (),
                "write one of `{source: a.en, target: a.ru}`, `{path: pairs.tsv}` or `{package: libreoffice-help}`",
            )
        elif two and (self.source is None or self.target is None):
            missing = "source" if self.source is None else "target"
            yield (), f"`{missing}` is missing: parallel text has a file of each language"
        if self.package is not None and self.package not in PACKAGES:
            near = closest(self.package, list(PACKAGES)) or "; known: " + ", ".join(PACKAGES)
            yield ("package",), f"`package: {self.package}` is not known{near}"
        yield from self._useless()

    def _useless(self) -> Iterator[tuple[KeyPath, str]]:
        """Settings that were given and that nothing would obey."""

        def given(name: str) -> bool:
            return bool(getattr(self, name) != type(self).model_fields[name].default)

        rows = self.path is not None
        if rows and self.format in _TWO_FILES:
            yield ("format",), f"`format: {self.format}` has a file of each language: `source: ...`, `target: ...`"
        if self.source is not None and self.format not in ("auto", *_TWO_FILES):
            yield ("format",), f"a {self.format} file holds both languages; write it as `path: ...`"
        if not rows and given("columns"):
            yield ("columns",), "`columns` is for files that hold both languages in columns (`path: ...`)"
        if (rows or self.format == "html" or self.package is not None) and given("check_alignment"):
            yield ("check_alignment",), "`check_alignment` is for two files of lines"
        if rows or self.format == "html" or self.package is not None:
            for name in ("document", "paragraph"):
                if getattr(self, name) == "blank_line":
                    yield (name,), f"`{name}: blank_line` is for two files of lines"
        if self.package is not None:
            for name in ("format", "encoding", "document", "paragraph"):
                if given(name):
                    yield (name,), f"`{name}` says how files are read; a package's are known, so leave it out"
        if self.format in ("tmx", "po") and given("encoding"):
            yield ("encoding",), f"a {self.format} file says its encoding itself; leave it out"
        if self.document == self.paragraph == "blank_line":
            yield ("paragraph",), "a blank line ends a document or a paragraph, not both"

    def identity(self) -> dict[str, Any]:
        return super().identity() | {"name": self.label}

    def resolved(self, base: Path) -> dict[str, Any]:
        return super().resolved(base) | {"name": self.label}

    @property
    def label(self) -> str:
        """The first part of the names of this source's documents."""
        if self.name is not None:
            return self.name
        if self.package is not None:
            return self.package
        return name_of_files(str(self.path if self.path is not None else self.source))


class HygieneConfig(Config):
    """What is thrown out of parallel text; each pair that goes is counted with its reason."""

    max_ratio: float = Field(
        3.0,
        gt=1,
        description="pairs go whose one side has more than so many times the other's letters (of 20 and more)",
    )
    identical: bool = Field(True, description="pairs go whose sides are the same: nobody has translated them")
    wrong_language: bool = Field(
        True, description="pairs go whose side is in another language, where it has enough letters to tell"
    )
    duplicates: bool = Field(True, description="of examples with the same context, source and target the first is kept")
    overlap: bool = Field(True, description="pairs go from training whose source or target stands in the test set")
    overlap_words: int = Field(
        4, ge=1, description="a sentence of fewer words (`Click OK.`) may stand in both; 1 lets none"
    )
    max_bad: Share = Field(0.01, ge=0, le=1, description="share of rows that cannot be read above which the run stops")


class _Unit(Config):
    weight: float = Field(1.0, gt=0, description="share of the text that is cut so, relative to the other units'")


class SentenceUnit(_Unit):
    """One sentence at a time; the ones before it may stand in front as context."""

    kind: Literal["sentence"] = "sentence"
    context: int = Field(
        0, ge=0, description="how many sentences before it, with their translations, it is shown after"
    )


class ChunkUnit(_Unit):
    """Some sentences of a document in a row, for text whose paragraphs are unknown."""

    kind: Literal["chunk"] = "chunk"
    min_sentences: int = Field(10, ge=1, description="the fewest sentences; the end of a document may have fewer")
    max_sentences: int = Field(15, ge=1, description="the most; how many is drawn for each chunk")

    def problems(self) -> Iterator[tuple[KeyPath, str]]:
        if self.max_sentences < self.min_sentences:
            what = f"`max_sentences: {self.max_sentences}` is below `min_sentences: {self.min_sentences}`"
            yield ("max_sentences",), what


class ParagraphUnit(_Unit):
    """One paragraph at a time."""

    kind: Literal["paragraph"] = "paragraph"


class DocumentUnit(_Unit):
    """A whole document, or as many of its paragraphs (sentences, where these are unknown) as fit."""

    kind: Literal["document"] = "document"
    tokens: Tokens = Field(
        parse_quantity("1000 tokens", ("tokens",)), description="the most tokens, source and target together"
    )


UnitConfig = Annotated[
    SentenceUnit | ChunkUnit | ParagraphUnit | DocumentUnit, Field(discriminator="kind"), of_kind("sentence")
]


def _listed(value: Any) -> Any:
    return value if isinstance(value, list) else [value]


class ChatPrompt(Config):
    """A chat: the user asks for a translation, the assistant gives it; context is earlier turns."""

    kind: Literal["chat"] = "chat"
    instruction: str = Field(
        "Translate from {source_language} to {target_language}:\n{text}",
        description="what the user says; {source_language} and {target_language} are English names",
    )
    system: str | None = Field(None, description="what the system says first")

    def problems(self) -> Iterator[tuple[KeyPath, str]]:
        try:
            said = self.instruction.format(text="\0", source_language="", target_language="")
        except (LookupError, ValueError):
            said = ""
        if said.count("\0") != 1:
            what = "should hold {text} once, and may hold {source_language} and {target_language}"
            yield ("instruction",), f"`instruction` {what}"


class TagPrompt(Config):
    """Plain text with a tag in front of each language: `<en> ... <ru> ...`."""

    kind: Literal["tags"] = "tags"
    tag: str = Field("<{language}>", description="the tag of a language; {language} is its code")

    def problems(self) -> Iterator[tuple[KeyPath, str]]:
        try:
            fits = self.tag.format(language="\0").count("\0") == 1
        except (LookupError, ValueError):
            fits = False
        if not fits:
            yield ("tag",), "`tag` should hold {language} once"


PromptConfig = Annotated[ChatPrompt | TagPrompt, Field(discriminator="kind"), of_kind("chat")]


class ParallelConfig(Config):
    """Parallel text -> units of translation, with a reason for every drop."""

    data: list[ParallelSource] = Field(
        min_length=1, description="where the text comes from: `[{source: a.en, target: a.ru}]`"
    )
    languages: LanguagesConfig = Field(description="`{source: en, target: ru}`")
    test: list[ParallelSource] = Field([], description="text to evaluate on; default: some documents of `data`")
    held_out: Share = Field(
        0.02, ge=0, lt=1, description="without `test`: share of the documents held out, by a hash of their name"
    )
    hygiene: HygieneConfig = HygieneConfig()
    unit: Annotated[list[UnitConfig], BeforeValidator(_listed)] = Field(
        [SentenceUnit()], min_length=1, description="what is translated at once; several are a mix"
    )
    both_directions: bool = Field(False, description="train from target to source, too")
    prompt: PromptConfig = ChatPrompt()

    def problems(self) -> Iterator[tuple[KeyPath, str]]:
        yield from super().problems()
        labels: set[str] = set()
        for group in ("data", "test"):
            for index, source in enumerate(getattr(self, group)):
                if source.label in labels:
                    what = f"two sources are called `{source.label}`; give one of them another `name: ...`"
                    yield (group, index), what
                labels.add(source.label)
        kinds = [unit.kind for unit in self.unit]
        for index, kind in enumerate(kinds):
            if kind in kinds[:index]:
                yield ("unit", index), f"`{kind}` stands in the mix twice; give it once, with the weight of both"
        if not self.held_out and not self.test:
            yield ("held_out",), "there is nothing to evaluate on; give `test: [...]` or a `held_out` share above 0"
