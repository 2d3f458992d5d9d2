"""Rows to items: two texts each as token ids, and which of their tokens are an answer's.

A pair is its chosen and its rejected text. A single answer stands beside the text that KTO's estimate of the KL needs:
the same prompt with the answer to another (Ethayarajh et al. 2024, section 4.1). Which other follows from the data
alone, so neither the size of a batch nor how it is cut up changes the estimate.

All items are in memory at once: people's judgements are few.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polyana.corpus import Split, split_of
from polyana.errors import Problem
from polyana.examples.conversation import BadRow, Conversation
from polyana.examples.preference import Preference, preferences_of
from polyana.examples.preference_config import PreferencesConfig
from polyana.examples.report import ExamplesReport, SourceReport
from polyana.examples.rows import SourceRow, read_rows
from polyana.examples.template import ChatTemplate

__all__ = ["PREFERENCES_VERSION", "Item", "preference_items"]

PREFERENCES_VERSION = 2

_AT_ONCE = 256  # conversations given to the tokenizer at once, as with examples

_TIE, _FULL, _LONG = "its answers are a tie", "the prompt fills the context", "longer than the context"
_SAME, _CUT_SAME = "the two answers are the same", "the two answers are the same within the context"

Text = tuple[NDArray[np.uint32], NDArray[np.float32]]
"""Token ids, and 1 for each that is an answer's."""


@dataclass(frozen=True, slots=True)
class Item:
    """A pair, or a single answer and the same prompt with another's. `prompt`: its digest; `question`: that of what it
    asks, by which items fall to a split. `said`: the words of the answers, one or two."""

    id: str
    prompt: str
    question: str
    split: Split
    texts: tuple[Text, Text]
    said: tuple[str, ...]
    margin: float
    desirable: bool
    weight: float


def preference_items(
    config: PreferencesConfig,
    base: Path,
    template: ChatTemplate,
    context: int,
    held_out: float,
    single: bool,
    report: ExamplesReport,
) -> list[Item]:
    """Every item whose texts have at most `context` tokens, in the order of the sources; `report` is filled on the way.

    `held_out`: share of the prompts. `single`: answers with a label, not pairs. Raises UserError when too many rows are
    malformed, when nothing is left, or when single answers are all good or all bad.
    """
    found: list[tuple[Item, Preference]] = []
    for source in config.data:
        balance = report.sources.setdefault(source.label, SourceReport())
        waiting: list[tuple[SourceRow, str, Preference]] = []
        for row in read_rows(source, base):
            balance.rows += 1
            try:
                if row.problem is not None:
                    raise BadRow(row.problem)
                made = preferences_of(row.values, source, config, single)
                if not made:
                    balance.leave_out(_TIE)
                ids = [row.id] if len(made) == 1 else [f"{row.id}.{number}" for number in range(1, len(made) + 1)]
                waiting += [(row, *each) for each in zip(ids, made, strict=True)]
            except BadRow as error:
                balance.refuse(error.reason, Problem(row.where, str(error)))
            if len(waiting) >= _AT_ONCE:
                found += _encode(waiting, config, template, context, held_out, balance)
                waiting = []
            report.check_hope(source.label)
        found += _encode(waiting, config, template, context, held_out, balance)
    report.check_rows(config.max_bad)
    if not found:
        report.stop(_nothing_left(report.total(), context, config))
    return _beside_others(found, template, context, report) if single else [item for item, _ in found]


def _nothing_left(total: SourceReport, context: int, config: PreferencesConfig) -> str:
    """Why there is nothing to learn, and what to do about it."""
    advice = {
        _TIE: f"lower `min_gap: {config.min_gap:g}`" if config.min_gap else "only scores that differ make pairs",
        _FULL: f"raise `context` above {context:,}, or shorten the prompts",
        _LONG: f"raise `context` above {context:,}, or write `truncate: right`",
        _SAME: "each row needs a better answer and a worse one",
        _CUT_SAME: f"raise `context` above {context:,}",
    }  # fmt: skip
    whys = [f"{count:,} times {why} ({advice[why]})" for why, count in total.left_out.items()]
    left = f"there is nothing to learn in {total.rows:,} rows: " + "; ".join(whys)
    return left if whys else "there is nothing to learn: the data hold no rows"


def _encode(
    waiting: list[tuple[SourceRow, str, Preference]],
    config: PreferencesConfig,
    template: ChatTemplate,
    context: int,
    held_out: float,
    balance: SourceReport,
) -> list[tuple[Item, Preference]]:
    """The items that preferences become, each with what it is of."""
    written = []
    for row, identifier, preference in waiting:
        try:
            written.append((identifier, preference, [template.write(each) for each in preference.answers]))
        except BadRow as error:
            balance.refuse(error.reason, Problem(row.where, str(error)))
            continue
        balance.incomplete_rows += not all(each.complete for each in written[-1][2])
        messages = (message for answer in preference.answers for message in answer.messages)
        balance.special_rows += any(template.has_special(message["content"]) for message in messages)
    encoded = template.encode([text for *_, texts in written for text in texts])
    items = []
    for identifier, preference, texts in written:
        whole = [next(encoded) for _ in texts]
        kept = [_cut(text, context) for text in whole]
        why = _unusable(whole, kept, context, config)
        if why is not None:
            balance.leave_out(why)
            continue
        for (before, _), (after, weights) in zip(whole, kept, strict=True):
            if len(after) < len(before):
                balance.shorten(len(before) - len(after), len(before) - len(after))
            balance.keep(weights)
        prompt, question = _digest(preference.prompt), _digest(_asked(preference.prompt))
        said = tuple(preference.said(place) for place in range(len(kept)))
        item = Item(
            identifier, prompt, question, split_of(question, held_out), (kept[0], kept[-1]), said, preference.margin,
            preference.desirable, preference.weight,
        )  # fmt: skip
        items.append((item, preference))
    return items


def _digest(messages: list[dict[str, Any]]) -> str:
    return hashlib.sha256(json.dumps(messages, sort_keys=True).encode()).hexdigest()


def _asked(prompt: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A prompt without what does not make it another question: a system message, more or less white space."""
    asked = [message for message in prompt if message["role"] not in ("system", "developer")]
    return [{**message, "content": " ".join(message["content"].split())} for message in asked]


def _cut(text: Text, context: int) -> Text:
    tokens, weights = text
    return tokens[:context], (weights[:context] > 0).astype(np.float32)


def _unusable(whole: list[Text], kept: list[Text], context: int, config: PreferencesConfig) -> str | None:
    """Why an item cannot be learned, counted under these words."""
    if not all(weights.any() for _, weights in kept):
        return _FULL
    if config.truncate == "drop" and any(len(tokens) > context for tokens, _ in whole):
        return _LONG
    if len(whole) == 2 and np.array_equal(whole[0][0], whole[1][0]):
        return _SAME
    if len(kept) == 2 and np.array_equal(kept[0][0], kept[1][0]):
        return _CUT_SAME
    return None


def _beside_others(
    found: list[tuple[Item, Preference]], template: ChatTemplate, context: int, report: ExamplesReport
) -> list[Item]:
    """Single answers, each beside its prompt with the answer to another question of its split.

    The other is the next with another question in the order of the ids' digests, so that neighbours in the data, which
    are often alike, are not mistaken for any two.
    """
    train = [each for each in found if each[0].split == "train"]
    for part, which, advice in ((found, "", "add the others"), (train, " of train", "add more, or lower `held_out`")):
        if len({item.desirable for item, _ in part}) == 1:
            what = f"all {len(part):,} answers{which} are {'good' if part[0][0].desirable else 'bad'}"
            report.stop(f"{what}; kto learns from good ones and bad ones, so {advice}")
    others: dict[str, tuple[Item, Preference]] = {}
    for split in ("train", "eval"):
        part = [each for each in found if each[0].split == split]
        part.sort(key=lambda each: hashlib.sha256(each[0].id.encode()).digest())
        if part and len({item.question for item, _ in part}) == 1:
            report.stop(f"all answers of {split} are to one prompt, and the KL is estimated with answers to others")
        for place, (item, _) in enumerate(part):
            ahead = (part[(place + step) % len(part)] for step in range(1, len(part)))
            others[item.id] = next(each for each in ahead if each[0].question != item.question)
    made = []
    for begin in range(0, len(found), _AT_ONCE):
        some = found[begin : begin + _AT_ONCE]
        written = [template.write(_with_answer(preference, others[item.id][1])) for item, preference in some]
        for (item, _), text in zip(some, template.encode(written), strict=True):
            beside = _cut(text, context)
            if not beside[1].any():  # the prompt alone fits just so with its own answer, which is a token shorter
                beside = item.texts[0]
            made.append(replace(item, texts=(item.texts[0], beside)))
    return made


def _with_answer(preference: Preference, other: Preference) -> Conversation:
    answer = other.answers[0]
    begins = len(other.prompt)
    return Conversation(
        preference.prompt + answer.messages[begins:],
        [0.0] * len(preference.prompt) + answer.weights[begins:],
        preference.answers[0].tools,
    )
