"""Questions from files: rows of JSONL, CSV, TSV or Parquet, written as prompts, with solved examples in front."""

from __future__ import annotations

import string
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import Field

from polyana.config import Config, KeyPath
from polyana.corpus import DAMAGE, SourceConfig, files_of, format_of, rows_of
from polyana.errors import Problem, UserError
from polyana.examples import question

__all__ = ["QuestionRow", "QuestionsConfig", "WrongRow", "prompted", "read_questions", "rendered"]

Q = TypeVar("Q")

_MOST_TOLD = 10  # problems of one file; guess
_TABLES = ("jsonl", "csv", "tsv", "parquet")


class QuestionsConfig(Config):
    """What every test that asks questions has."""

    data: str = Field(
        description="the questions: JSONL, CSV, TSV or Parquet; a file, a directory or a glob",
        json_schema_extra={"path": True},
    )
    limit: int | None = Field(None, ge=1, description="only the first so many; default: all")
    shots: int = Field(0, ge=0, description="so many solved examples stand before each question")
    examples: str | None = Field(
        None,
        description="where they are from: its first rows; of the same form as `data`, and none of its questions",
        json_schema_extra={"path": True},
    )
    instruction: str | None = Field(None, description="what stands before everything else")
    chat: bool = Field(False, description="ask in the model's chat template, solved examples as earlier turns")
    group: str | None = Field(
        None, description="the column by which questions belong together, as those about one text: drawn as one"
    )

    def problems(self) -> Iterator[tuple[KeyPath, str]]:
        if self.shots and self.examples is None:
            yield ("shots",), f"`shots: {self.shots}` needs `examples: FILE`, which is not the file of the questions"
        if self.examples is not None and not self.shots:
            yield ("examples",), "`examples` are shown as many as `shots` says, and it says none; write `shots: 5`"


class WrongRow(ValueError):
    """Why a row is no question."""


@dataclass(frozen=True, slots=True)
class QuestionRow:
    """`where`: its file and line, for messages; `id`: the file's name and its number."""

    id: str
    where: str
    values: Mapping[str, Any]


def read_questions(config: QuestionsConfig, base: Path, made_of: Callable[[QuestionRow], Q]) -> tuple[list[Q], list[Q]]:
    """(questions, solved examples), each made from its row. Raises UserError with the rows that are none."""
    problems = list[Problem]()
    asked = _made(_rows(config.data, base), made_of, config.limit, problems)
    solved = list[Q]()
    if config.examples is not None:
        solved = _made(_rows(config.examples, base), made_of, config.shots, problems)
        if len(solved) < config.shots and not problems:
            problems.append(Problem(config.examples, f"has {len(solved)} rows, fewer than `shots: {config.shots}`"))
    if not asked and not problems:
        problems.append(Problem(config.data, "has no rows"))
    if problems:
        raise UserError(problems)
    return asked, solved


def _made(
    rows: Iterator[QuestionRow], made_of: Callable[[QuestionRow], Q], limit: int | None, problems: list[Problem]
) -> list[Q]:
    found, wrong = list[Q](), 0
    for row in rows:
        if len(found) + wrong == limit or wrong == _MOST_TOLD:
            break
        try:
            found.append(made_of(row))
        except WrongRow as error:
            problems.append(Problem(row.where, str(error)))
            wrong += 1
    return found


def _rows(path: str, base: Path) -> Iterator[QuestionRow]:
    source = SourceConfig(path=path)
    for name, file in files_of(source, base):
        form = format_of(file, source)
        if form not in _TABLES:
            raise UserError(Problem(str(file), f"is read as {form}; questions are rows of {', '.join(_TABLES)}"))
        try:
            for row in rows_of(file, form, "auto"):
                where = f"{file}:{row.line}"
                if not isinstance(row.values, dict):
                    raise UserError(Problem(where, "is no JSON object"))
                yield QuestionRow(f"{name}/{row.number}", where, row.values)
        except DAMAGE as error:
            raise UserError(Problem(str(file), f"cannot be read: {error}")) from error


class _Columns(string.Formatter):
    """Puts columns into a prompt; nothing of Python's own formats, such as attributes."""

    def get_field(self, field_name: str, args: Any, kwargs: Any) -> Any:  # noqa: ARG002  as the base class calls it
        if field_name not in kwargs:
            raise WrongRow(f"has no column `{field_name}`; its columns: {', '.join(map(str, kwargs))}")
        return kwargs[field_name], field_name


def rendered(template: str, row: QuestionRow) -> str:
    """A prompt with the row's columns in place of {column}. Raises WrongRow for one that it lacks."""
    try:
        return _Columns().vformat(template, (), row.values)
    except WrongRow:
        raise
    except ValueError as error:
        raise WrongRow(f"`{template}`: {error}; a brace that is meant is written twice") from None


def prompted(
    config: QuestionsConfig, tokenizer: Any, solved: Sequence[tuple[str, str]], asked: str, between: str = " "
) -> str | list[int]:
    """What the model is given: a text that the answer goes on from, or the ids of a conversation in its template.

    `solved`: questions with their answers; `between` stands between the two, and a blank line between examples.
    """
    if not config.chat:
        shown = [f"{text}{between}{answer}" for text, answer in solved]
        return "\n\n".join([*([config.instruction] if config.instruction else []), *shown, asked])
    if tokenizer.chat_template is None:
        raise UserError("the model has no chat template, so it cannot be asked with `chat: true`; leave that out")
    turns = [{"role": "system", "content": config.instruction}] if config.instruction else []
    for text, answer in solved:
        turns += [{"role": "user", "content": text}, {"role": "assistant", "content": answer}]
    return question(tokenizer, [*turns, {"role": "user", "content": asked}])
