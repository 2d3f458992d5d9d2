"""Multiple choice by likelihood: the answer that the model finds most likely behind the question is its choice."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field

from polyana.config import KeyPath
from polyana.evaluate.items import Item, Scored
from polyana.evaluate.likelihood import Subject, Wanted, log_likelihoods, pair_of_ids
from polyana.evaluate.questions import QuestionRow, QuestionsConfig, WrongRow, prompted, read_questions, rendered

__all__ = ["MultipleChoiceConfig", "MultipleChoiceTest"]


class MultipleChoiceConfig(QuestionsConfig):
    """Which of several answers the model finds most likely: `acc` by log p, `acc_norm` by log p for each character of
    the answer, `acc_bytes` for each byte, as lm-eval computes them."""

    kind: Literal["multiple_choice"]
    prompt: str = Field("{question}", description="the question, with the row's columns in braces")
    choices: str | list[str] = Field(
        "choices",
        description="the column that holds the list of answers (or ARC's `{text, label}`); or one column each",
    )
    answer: str = Field(
        "answer", description="the column that says which is right: its label (A, B, ...), its number from 0, or itself"
    )
    delimiter: str = Field(" ", description="what stands between question and answer; in a chat nothing does")

    def problems(self) -> Iterator[tuple[KeyPath, str]]:
        yield from super().problems()
        if isinstance(self.choices, list) and len(self.choices) < 2:
            yield ("choices",), "there is nothing to choose from; name two columns or more, or the one of a list"
        if self.chat and "delimiter" in self.model_fields_set:
            yield ("delimiter",), "in a chat the answer begins the model's turn, so nothing stands before it"


@dataclass(frozen=True, slots=True)
class _Choice:
    row: QuestionRow
    asked: str
    choices: list[str]
    right: int


class MultipleChoiceTest:
    """Questions that have been read and found right. Raises UserError with those that are not."""

    def __init__(self, config: MultipleChoiceConfig, base: Path) -> None:
        self._config = config
        self._asked, self._solved = read_questions(config, base, self._made)

    def _made(self, row: QuestionRow) -> _Choice:
        choices, labels = _choices(self._config.choices, row)
        twice = not self._config.chat and self._config.delimiter[-1:].isspace()
        if twice and (spaced := next((choice for choice in choices if choice[:1].isspace()), None)):
            raise WrongRow(
                f"has the answer {spaced!r}, which begins with a blank, and `delimiter` puts one before it, too; write "
                '`delimiter: ""`'
            )
        return _Choice(
            row, rendered(self._config.prompt, row), choices, _right(self._config.answer, row, choices, labels)
        )

    @property
    def items(self) -> int:
        return len(self._asked)

    def content(self) -> Any:
        """All that decides what is asked, for its hash."""
        return [[(each.asked, each.choices, each.right) for each in rows] for rows in (self._asked, self._solved)]

    def score(self, subject: Subject, show: Callable[[int], None]) -> Scored:
        solved = [(each.asked, each.choices[each.right]) for each in self._solved]
        wanted = [one for each in self._asked for one in self._wanted(subject, solved, each)]
        sums = log_likelihoods(subject, wanted, show)
        found, at = list[Item](), 0
        for each in self._asked:
            found.append(self._item(each, sums[at : at + len(each.choices)]))
            at += len(each.choices)
        return Scored(found)

    def _wanted(self, subject: Subject, solved: list[tuple[str, str]], each: _Choice) -> Iterator[Wanted]:
        context = prompted(self._config, subject.tokenizer, solved, each.asked, self._config.delimiter)
        for choice in each.choices:
            if isinstance(context, str):
                wanted = pair_of_ids(subject.tokenizer, context, self._config.delimiter + choice)
            else:
                ids = subject.tokenizer.encode(choice, add_special_tokens=False)
                wanted = Wanted([*context, *ids], len(context))
            over = max(len(wanted.ids) - subject.longest - 1, 0)  # what comes first is left out, as in lm-eval
            yield Wanted(wanted.ids[over:], max(wanted.first - over, 1)) if over else wanted

    def _item(self, each: _Choice, log_p: Any) -> Item:
        # the first of equals, as numpy's argmax in lm-eval
        by = {
            "acc": log_p,
            "acc_norm": log_p / np.array([max(len(choice), 1) for choice in each.choices]),
            "acc_bytes": log_p / np.array([max(len(choice.encode("utf-8", "replace")), 1) for choice in each.choices]),
        }
        group = str(each.row.values.get(self._config.group)) if self._config.group else each.row.id
        chosen = int(np.argmax(log_p))
        shown = {
            "question": each.asked,
            "right": each.choices[each.right],
            "chosen": each.choices[chosen],
            "log p": ", ".join(
                f"{choice.strip()}: {value:.2f}" for choice, value in zip(each.choices, log_p, strict=True)
            ),
        }
        scores = {name: (float(np.argmax(values) == each.right), 1.0) for name, values in by.items()}
        return Item(each.row.id, group, scores, shown, f"{each.asked} {each.choices[each.right]}")


def _choices(named: str | list[str], row: QuestionRow) -> tuple[list[str], list[str]]:
    """(answers, their labels)."""
    if isinstance(named, list):
        return [rendered(f"{{{column}}}", row) for column in named], list(named)
    given: Any = row.values.get(named)
    labels = list[str]()
    if isinstance(given, dict) and isinstance(given.get("text"), list):
        given, labels = given["text"], [str(label) for label in given.get("label", [])]
    if not isinstance(given, list) or len(given) < 2:
        columns = ", ".join(map(str, row.values))
        raise WrongRow(f"has no list of two or more answers under `{named}`; its columns: {columns}")
    return [str(choice) for choice in given], labels


def _right(column: str, row: QuestionRow, choices: list[str], labels: list[str]) -> int:
    given = row.values.get(column)
    text = str(given).strip()
    if text in labels:
        return labels.index(text)
    if not isinstance(given, bool) and text.isdecimal() and int(text) < len(choices):
        return int(text)
    if text in choices:
        return choices.index(text)
    if len(text) == 1 and text.isalpha() and text.isascii() and (place := ord(text.upper()) - ord("A")) < len(choices):
        return place
    raise WrongRow(f"`{column}: {given}` is no label, number from 0 or text of one of its {len(choices)} answers")
