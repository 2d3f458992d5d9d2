"""Documents that share a run of words with an evaluation set are cut around it, or thrown out.

The rule is GPT-3's (Brown et al. 2020, appendix C): 13 words in a row, without case and punctuation; 200 characters go
on each side of them; pieces of fewer than 200 characters go; a document in more than 10 pieces goes whole. An
evaluation item of fewer words counts where all of it stands in a row, if it has 8 words: below that the paper found
mostly chance.

Not done, on purpose: the paper lets runs pass that stand in more than 10 documents, for many are legal phrases and the
like. So do evaluation items that were copied often, which are the ones a model learns by heart. What it would spare is
seen in the report, and a larger `words` spares most of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import AfterValidator, BeforeValidator, Field

from polyana.config import Config, KeyPath
from polyana.corpus.config import SourceConfig, known_encoding, name_of_files
from polyana.corpus.document import Dropped
from polyana.corpus.readers import DAMAGE, files_of, format_of, read_source, rows_of
from polyana.corpus.steps.step import Block, Columns, Edit, Found, StepConfig, Surroundings, Verdict, Worker
from polyana.errors import UserError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["ContaminationConfig", "EvaluationSet"]

_LONGEST_WORD = 100  # a cut is widened to a space no further away than this: guess


class EvaluationSet(Config):
    """Where an evaluation set lies and which of its columns are text; a plain path stands for itself."""

    path: str = Field(
        description="a file, a directory or a glob; relative to the recipe's directory",
        json_schema_extra={"path": True},
    )
    name: str | None = Field(None, description="what the report calls it; default: the file's or directory's name")
    text: Annotated[list[str], BeforeValidator(lambda given: [given] if isinstance(given, str) else given)] = Field(
        ["text"], min_length=1, description="the columns or keys that hold text, read one behind the other as one item"
    )
    format: Literal["auto", "text", "jsonl", "parquet", "csv", "tsv", "html"] = Field(
        "auto", description="auto goes by the file name's ending"
    )
    encoding: Annotated[str, AfterValidator(known_encoding)] = Field("auto", description="as in `sources`")
    document: Literal["file", "line", "paragraph"] = Field("file", description="what one item of a text file is")

    @property
    def label(self) -> str:
        return self.name or name_of_files(self.path)

    def source(self, path: Path) -> SourceConfig:
        return SourceConfig(path=str(path), format=self.format, encoding=self.encoding, document=self.document)

    def items(self, path: Path) -> Iterator[str]:
        """The text of each item; `path` is where the set lies. Raises UserError where any of it cannot be read."""
        source = self.source(path)
        for name, file in files_of(source, Path()):
            format = format_of(file, source)
            texts = self._documents(file) if format in ("text", "html") else self._rows(name, file, format)
            try:
                yield from texts
            except DAMAGE as error:
                raise UserError(f"the evaluation set `{file}` cannot be read: {error}") from error

    def _documents(self, file: Path) -> Iterator[str]:
        for item in read_source(self.source(file), Path()):
            if isinstance(item, Dropped):
                raise UserError(f"the evaluation set `{file}` cannot be read: {item.reason}")
            yield item.text

    def _rows(self, name: str, file: Path, format: str) -> Iterator[str]:
        seen: set[str] = set()
        found = False
        for row in rows_of(file, format, self.encoding):
            if not isinstance(row.values, dict):
                raise UserError(f"the evaluation set `{file}` cannot be read: row {row.number} is no JSON object")
            seen.update(map(str, row.values))
            if text := "\n".join(_strings([row.values.get(column) for column in self.text])):
                found = True
                yield text
        if not found:
            columns = ", ".join(f"`{column}`" for column in self.text)
            raise UserError(f"`{name}` has no text under {columns}; its columns: {', '.join(sorted(seen)) or 'none'}")


def _strings(value: Any) -> Iterator[str]:
    """Text wherever it stands in a value, as in a list of choices."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        yield from _strings(list(value.values()))
    elif isinstance(value, list):
        for inner in value:
            yield from _strings(inner)


class ContaminationConfig(StepConfig):
    """Documents that share a run of words with an evaluation set are cut around it, or thrown out."""

    edits: ClassVar[bool] = True
    deciding: ClassVar[frozenset[str]] = frozenset({"max_pieces"})

    kind: Literal["contamination"] = "contamination"
    against: list[
        Annotated[EvaluationSet, BeforeValidator(lambda given: {"path": given} if isinstance(given, str) else given)]
    ] = Field(min_length=1, description="evaluation sets: `[evals/, {path: gsm8k.jsonl, text: [question, answer]}]`")
    words: int = Field(13, ge=2, description="so many words in a row are no chance (Brown et al. 2020, appendix C)")
    min_words: int = Field(8, ge=2, description="shorter evaluation items count as a whole if they have so many words")
    action: Literal["cut", "drop"] = Field(
        "cut", description="whether the words and what is around them go, or the document"
    )
    margin: int = Field(200, ge=0, description="characters that are cut on each side")
    min_piece: int = Field(200, ge=1, description="a piece between two cuts that has fewer characters goes too")
    max_pieces: int = Field(10, ge=1, description="a document that is cut into more pieces goes whole")

    def problems(self) -> Iterator[tuple[KeyPath, str]]:
        if find_spec("numba") is None:
            yield (), "words are compared by numba; run: pip install 'polyana[mill]'"
        if self.min_words > self.words:
            yield (
                ("min_words",),
                f"`min_words: {self.min_words}` is for items of fewer than `words: {self.words}`; write less",
            )
        labels: set[str] = set()
        for index, evaluation in enumerate(self.against):
            if evaluation.label in labels:
                yield (
                    ("against", index),
                    f"two evaluation sets are called `{evaluation.label}`; give one of them another `name: ...`",
                )
            labels.add(evaluation.label)

    def files(self, base: Path) -> dict[str, list[tuple[str, Path]]]:
        """(name, path) of every file that is read, by the setting that names it, as `against.0`; for their hashes.

        Raises UserError for a path where there is no file.
        """
        return {
            f"against.{index}": files_of(evaluation.source(Path(evaluation.path)), base)
            for index, evaluation in enumerate(self.against)
        }

    def places(self, base: Path) -> dict[str, Path]:
        return {
            f"against.{index}": base / Path(evaluation.path).expanduser()
            for index, evaluation in enumerate(self.against)
        }

    def worker(self, surroundings: Surroundings) -> Worker:
        """`surroundings.files["against.0"]` is where the first evaluation set lies: its path, absolute."""
        from polyana.corpus.steps.grams import RunIndex

        index = RunIndex(
            (evaluation.items(surroundings.files[f"against.{place}"]) for place, evaluation in enumerate(self.against)),
            self.words, self.min_words,
        )  # fmt: skip
        labels = [evaluation.label for evaluation in self.against]

        def work(block: Block) -> Found:
            size = len(block)
            pieces = np.ones(size, np.int32)
            items = {label: np.zeros(size, np.int32) for label in labels}
            found = Found({"pieces": pieces} | {f"items of {name}": items[name] for name in labels})
            for place, text in enumerate(block.texts):
                matched = index.matches(text)
                if not len(matched):
                    continue
                touched = np.bincount(index.set_of_item[np.unique(matched[:, 2])], minlength=len(labels))
                for label, count in zip(labels, touched, strict=True):
                    items[label][place] = count
                if self.action == "cut":
                    around, left = self._cut(text, matched)
                    pieces[place] = len(left)
                    reason = _overlaps(*(label for label, count in zip(labels, touched, strict=True) if count))
                    edit = Edit.of(text, [(reason, "\n\n".join(around)), ("little beside it", "\n\n".join(left))])
                    if left and edit is not None:
                        found.edited[place] = edit
            return found

        return work

    def _cut(self, text: str, matched: NDArray[np.int64]) -> tuple[list[str], list[str]]:
        """(all pieces beside what is cut, those that are long enough)."""
        pieces, at = list[str](), 0
        for start, end in sorted(zip(matched[:, 0].tolist(), matched[:, 1].tolist(), strict=True)):
            begin = _space_before(text, max(start - self.margin, 0))
            if begin > at:
                pieces.append(text[at:begin].strip())
            at = max(at, _space_behind(text, min(end + self.margin, len(text))))
        pieces = [piece for piece in [*pieces, text[at:].strip()] if piece]
        return pieces, [piece for piece in pieces if len(piece) >= self.min_piece]

    def verdicts(self, columns: Columns, language: str) -> Iterator[Verdict]:
        pieces = columns["pieces"]
        for label in (evaluation.label for evaluation in self.against):
            items = columns[f"items of {label}"]
            if self.action == "drop":
                yield Verdict(_overlaps(label), items, most=0)
            else:
                yield Verdict(_overlaps(label), np.where(items > 0, pieces, 1), 1)
        if self.action == "cut":
            yield Verdict(f"in more than {self.max_pieces} pieces", pieces, most=self.max_pieces)


def _overlaps(*labels: str) -> str:
    return f"overlaps {' and '.join(labels)}"


def _space_before(text: str, at: int) -> int:
    """The next place in front where no word is cut in two."""
    for place in range(at, max(at - _LONGEST_WORD, 0), -1):
        if text[place - 1].isspace():
            return place
    return at if at > _LONGEST_WORD else 0


def _space_behind(text: str, at: int) -> int:
    for place in range(at, min(at + _LONGEST_WORD, len(text))):
        if text[place].isspace():
            return place
    return at if at + _LONGEST_WORD < len(text) else len(text)
