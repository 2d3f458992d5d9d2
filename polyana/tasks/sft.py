"""Learning from examples what a pretrained model should say: supervised fine-tuning, whole or by an adapter."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from polyana.config import KeyPath, Share
from polyana.corpus import split_of
from polyana.data import write_examples
from polyana.examples import ChatTemplate, ExamplesConfig, ExamplesReport, examples
from polyana.tasks.fine_tune import FineTuneConfig, check_context, save_tokenizer

__all__ = ["SftConfig", "build_examples"]


class SftConfig(ExamplesConfig, FineTuneConfig):
    """Fine-tune a pretrained model on examples of what it should say."""

    kind: Literal["sft"]
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


def build_examples(config: SftConfig, recipe_base: Path, base: Path, directory: Path) -> dict[str, Any]:
    """Write the shards of the examples, the tokenizer with its template, and report.json; the report."""
    check_context(config, base)
    template, report = ChatTemplate(base, config.template, recipe_base), ExamplesReport()
    found = examples(config, recipe_base, template, config.context, report)
    split = ((split_of(each.row, config.held_out), each.id, each.tokens, each.weights) for each in found)
    write_examples(split, len(template.tokenizer), directory)
    return save_tokenizer(template, directory, report.as_data())
