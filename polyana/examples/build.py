"""Rows to examples: token ids, and what each counts in the loss."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from polyana.errors import Problem
from polyana.examples.config import ExamplesConfig
from polyana.examples.conversation import BadRow, Conversation, PlainText, conversation_of
from polyana.examples.report import ExamplesReport, SourceReport
from polyana.examples.rows import SourceRow, read_rows
from polyana.examples.template import ChatTemplate

__all__ = ["VERSION", "Example", "examples"]

VERSION = 1

_AT_ONCE = 256  # conversations given to the tokenizer at once: keeps its threads busy; guess
_NOTHING = "nothing to learn within the context"
_TOO_LONG = "longer than the context"


@dataclass(frozen=True, slots=True)
class Example:
    """`weights[i]` is what predicting `tokens[i]` from those before it counts in the loss; `weights[0]` is 0.

    `row`: the id of the row that it is made of, or of a part of it.
    """

    id: str
    row: str
    tokens: NDArray[np.uint32]
    weights: NDArray[np.float32]


def examples(
    config: ExamplesConfig, base: Path, template: ChatTemplate, context: int, report: ExamplesReport
) -> Iterator[Example]:
    """Every example of at most `context` tokens, in the order of the sources; `report` is filled on the way.

    A text is cut into parts that each begin with the last token of the one before, so that every token but the first is
    learnt once. A conversation is cut as `truncate` says. Raises UserError when too many rows are malformed, or when
    nothing is left; relative paths start at `base`.
    """
    for source in config.data:
        balance = report.sources.setdefault(source.label, SourceReport())
        waiting: list[tuple[SourceRow, Conversation]] = []
        for row in read_rows(source, base):
            balance.rows += 1
            try:
                if row.problem is not None:
                    raise BadRow(row.problem)
                said = conversation_of(row.values, source, config.turns)
                if isinstance(said, Conversation):
                    waiting.append((row, said))
                else:
                    yield from _parts(row, said, template, context, balance)
            except BadRow as error:
                balance.refuse(error.reason, Problem(row.where, str(error)))
            if len(waiting) == _AT_ONCE:
                yield from _cut_all(waiting, config, template, context, balance)
                waiting = []
            report.check_hope(source.label)
        yield from _cut_all(waiting, config, template, context, balance)
    report.check_rows(config.max_bad)
    total = report.total()
    if not total.examples:
        report.stop("there is nothing to learn: " + (", ".join(total.left_out) or "the data hold no rows"))


def _parts(
    row: SourceRow, text: PlainText, template: ChatTemplate, context: int, balance: SourceReport
) -> Iterator[Example]:
    tokens, weights = template.encode_text(text)
    starts = range(0, len(tokens) - 1, context - 1)
    balance.cut_texts += len(starts) > 1
    for number, start in enumerate(starts, 1):
        part = weights[start : start + context].copy()
        part[0] = 0.0
        name = f"{row.id}.{number}" if len(starts) > 1 else row.id
        example = Example(name, row.id, tokens[start : start + context], part)
        balance.keep(example.weights)
        yield example


def _cut_all(
    rows: list[tuple[SourceRow, Conversation]],
    config: ExamplesConfig,
    template: ChatTemplate,
    context: int,
    balance: SourceReport,
) -> Iterator[Example]:
    """The examples that conversations become."""
    written = []
    for row, conversation in rows:
        try:
            written.append((row, conversation, template.write(conversation)))
        except BadRow as error:
            balance.refuse(error.reason, Problem(row.where, str(error)))
            continue
        balance.incomplete_rows += not written[-1][2].complete
        balance.special_rows += any(template.has_special(message["content"]) for message in conversation.messages)
    encoded = template.encode([text for _, _, text in written])
    for (row, conversation, _), (tokens, weights) in zip(written, encoded, strict=True):
        if len(tokens) > context and config.truncate == "drop":
            balance.leave_out(_TOO_LONG)
            continue
        kept, kept_weights = tokens, weights
        if len(tokens) > context and config.truncate == "left":
            kept, kept_weights = _latest(conversation, template, context, tokens, weights)
        kept, kept_weights = kept[:context], kept_weights[:context]
        if not kept_weights.any():
            balance.leave_out(_NOTHING)
            continue
        if len(kept) < len(tokens):
            balance.shorten(len(tokens) - len(kept), int((weights > 0).sum() - (kept_weights > 0).sum()))
        balance.keep(kept_weights)
        yield Example(row.id, row.id, kept, kept_weights)


def _latest(
    conversation: Conversation,
    template: ChatTemplate,
    context: int,
    tokens: NDArray[np.uint32],
    weights: NDArray[np.float32],
) -> tuple[NDArray[np.uint32], NDArray[np.float32]]:
    """The conversation without its oldest exchanges, so many that the rest fits, or all but the last."""
    asked = [index for index, message in enumerate(conversation.messages) if message["role"] == "user"]
    for start in asked[1:]:
        rest = replace(
            conversation,
            messages=conversation.messages[: asked[0]] + conversation.messages[start:],
            weights=conversation.weights[: asked[0]] + conversation.weights[start:],
        )
        try:
            ((tokens, weights),) = template.encode([template.write(rest)])
        except BadRow:  # a template may refuse what is left; then the exchange before is kept, and cut
            break
        if len(tokens) <= context:
            break
    return tokens, weights
