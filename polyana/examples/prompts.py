"""Prompts as they stand in files, as conversations that wait for an answer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from pydantic import Field

from polyana.config import Config, KeyPath, closest
from polyana.errors import Problem, UserError
from polyana.examples.config import ExamplesConfig, ExampleSource
from polyana.examples.rows import example_inputs, read_rows
from polyana.examples.template import question
from polyana.storage import ContentDigests

__all__ = ["Prompt", "PromptSource", "ask", "prompt_inputs", "read_prompts"]

_SHOWN = 5  # bad rows in a letter
_ROLES = ("system", "user", "assistant", "tool")


class PromptSource(Config):
    """One place prompts come from."""

    path: str | None = Field(
        None, description="JSONL, JSON, Parquet or CSV: a file, a directory or a glob", json_schema_extra={"path": True}
    )
    hub: str | None = Field(None, description="a data set of the Hub: `org/name` or `org/name@revision`")
    files: str | None = Field(None, description="with `hub`: which of its files, as `data/train-*`; default: all")
    name: str | None = Field(None, description="first part of the prompts' ids; default: the directory or data set")
    prompt: str = Field("prompt", description="the column of the prompt: a text, or messages that end with the user's")
    reference: str = Field(
        "reference", description="the column of a good answer, or one that can be checked, for parts that compare"
    )
    most: int | None = Field(None, ge=1, description="the first so many rows; default: all")

    def problems(self) -> Iterator[tuple[KeyPath, str]]:
        yield from self.rows.problems()

    @property
    def rows(self) -> ExampleSource:
        """The same as the readers of examples know it."""
        return ExampleSource(path=self.path, hub=self.hub, files=self.files, name=self.name)


@dataclass(frozen=True, slots=True)
class Prompt:
    """`id`: of its row. messages: what was said, the last of it by the user."""

    id: str
    messages: list[dict[str, Any]]
    reference: str | None = None

    @property
    def plain(self) -> str | None:
        """The text, where nothing but one thing was asked."""
        return str(self.messages[0]["content"]) if len(self.messages) == 1 else None


def prompt_inputs(
    sources: Sequence[PromptSource], base: Path, digests: ContentDigests, where: Callable[..., str]
) -> dict[str, Any]:
    """The content of the files. Raises UserError for those that are not there."""
    config = ExamplesConfig(data=[source.rows for source in sources])
    return example_inputs(config, base, digests, lambda *path: where("prompts", *path[1:]))


def read_prompts(sources: Sequence[PromptSource], system: str | None, base: Path) -> list[Prompt]:
    """Every prompt, in the order of the sources. Raises UserError for rows that hold none, and where there are none."""
    found, wrong = list[Prompt](), list[Problem]()
    for source in sources:
        for row in islice(read_rows(source.rows, base), source.most):
            try:
                if row.problem is not None:
                    raise ValueError(row.problem)
                messages = _messages(row.values, source.prompt)
                if system is not None and messages[0]["role"] != "system":
                    messages = [{"role": "system", "content": system}, *messages]
                reference = row.values.get(source.reference)
                found.append(Prompt(row.id, messages, None if reference is None else str(reference)))
            except ValueError as error:
                wrong.append(Problem(row.where, str(error)))
    if wrong:
        more = [Problem("", f"and {len(wrong) - _SHOWN:,} more rows")] if len(wrong) > _SHOWN else []
        raise UserError([*wrong[:_SHOWN], *more])
    if not found:
        raise UserError("the files of `prompts` hold no rows")
    return found


def _messages(row: dict[str, Any], column: str) -> list[dict[str, Any]]:
    given = row.get(column)
    if given is None:
        known = ", ".join(f"`{name}`" for name in row) or "none"
        raise ValueError(f"has no `{column}`{closest(column, list(row)) or f'; its columns are {known}'}")
    if isinstance(given, str):
        if not given.strip():
            raise ValueError("its prompt is empty")
        return [{"role": "user", "content": given}]
    if not isinstance(given, list) or not given or not all(isinstance(each, dict) for each in given):
        raise ValueError(f"its `{column}` is neither a text nor a list of messages")
    messages = [{"role": each.get("role"), "content": each.get("content")} for each in given]
    for each in messages:
        if each["role"] not in _ROLES or not isinstance(each["content"], str):
            raise ValueError("has a message without a `role` that is known or without a text as `content`")
    if messages[-1]["role"] == "assistant" and len(messages) > 1:
        messages.pop()
    if messages[-1]["role"] != "user":
        raise ValueError("its last message is not the user's")
    return messages


def ask(tokenizer: Any, messages: list[dict[str, Any]]) -> list[int]:
    """The token ids that a model answers: by its chat template, or the last message's text where it has none."""
    if tokenizer.chat_template is not None:
        return question(tokenizer, messages)
    return list(tokenizer.encode(messages[-1]["content"])) or [tokenizer.eos_token_id]
