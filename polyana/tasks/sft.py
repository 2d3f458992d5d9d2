"""Learning from examples what a pretrained model should say: supervised fine-tuning, whole or by an adapter."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from operator import itemgetter
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from polyana.config import KeyPath, Share
from polyana.corpus import split_of
from polyana.data import write_examples
from polyana.errors import UserError
from polyana.examples import (
    BadRow,
    ChatTemplate,
    ExamplesConfig,
    ExamplesReport,
    PlainText,
    conversation_of,
    examples,
    read_rows,
)
from polyana.storage import read_json
from polyana.tasks.fine_tune import ABOUT_BASE, BASE, FineTuneConfig, check_context, save_tokenizer

__all__ = ["SftConfig", "build_examples"]


class SftConfig(ExamplesConfig, FineTuneConfig):
    """Fine-tune a pretrained model on examples of what it should say."""

    kind: Literal["sft"]
    base: Annotated[str, BASE] = Field(description=ABOUT_BASE)
    held_out: Share = Field(
        0.05, ge=0, lt=1, description="share of the examples held out for evaluation, by a hash of their id"
    )

    def problems(self) -> Iterator[tuple[KeyPath, str]]:
        yield from super().problems()
        if not self.held_out:
            for path in self.needs_held_out:
                named = ".".join(map(str, path))
                yield path, f"`{named}` needs held-out examples, but there are none with `held_out: 0`"

    def examples_identity(self) -> dict[str, Any]:
        """The settings that decide what the examples are."""
        names = {*ExamplesConfig.model_fields, "context", "held_out"}
        return {name: value for name, value in self.identity().items() if name in names}


def learned_texts(config: SftConfig, recipe_base: Path) -> Iterator[str]:
    """What is said in the rows that are trained on, without a template."""
    for source in config.data:
        for row in read_rows(source, recipe_base):
            if row.problem is None and split_of(row.id, config.held_out) == "train":
                with suppress(BadRow):  # which is counted when examples are made
                    said = conversation_of(row.values, source, config.turns)
                    yield from [said.text] if isinstance(said, PlainText) else map(itemgetter("content"), said.messages)


def build_examples(config: SftConfig, recipe_base: Path, base: Path, directory: Path) -> dict[str, Any]:
    """Write the shards of the examples, the tokenizer with its template, and report.json; the report."""
    check_context(config, base)
    template, report = ChatTemplate(base, config.template, recipe_base), ExamplesReport()
    found = examples(config, recipe_base, template, config.context, report)
    split = ((split_of(each.row, config.held_out), each.id, each.tokens, each.weights) for each in found)
    write_examples(split, len(template.tokenizer), directory)
    if config.held_out and not read_json(directory / "tokens.json")["eval"]["documents"]:
        count = report.total().examples
        raise UserError(
            f"none of {count:,} examples fell to eval at `held_out: {config.held_out:.1%}`"
            "; raise it, or write `held_out: 0` to train without evaluation"
        )
    return save_tokenizer(template, directory, report.as_data())
