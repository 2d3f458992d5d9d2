"""Right or wrong: answers that the model writes itself, greedily, against what they should be."""

from __future__ import annotations

import re
import string
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import AfterValidator, BeforeValidator, Field

from polyana.evaluate.items import Item, Scored
from polyana.evaluate.likelihood import Subject
from polyana.evaluate.questions import QuestionRow, QuestionsConfig, WrongRow, prompted, read_questions, rendered
from polyana.generation import ends_of, write_after
from polyana.models import writing

__all__ = ["ExactMatchConfig", "ExactMatchTest", "Gsm8kConfig", "Gsm8kTest", "WrittenAnswer", "write_answers"]

_PUNCTUATION = str.maketrans("", "", string.punctuation)

# As in lm-eval's gsm8k.yaml, version 3.
_STRICT = re.compile(r"#### (-?[0-9.,]+)")
_FLEXIBLE = re.compile(r"(-?[$0-9.,]{2,})|(-?[0-9]+)")
_IGNORED = re.compile(r",|\$|\.$")


def _expression(text: str) -> str:
    try:
        groups = re.compile(text).groups
    except re.error as error:
        raise ValueError(f"`{text}` is no regular expression: {error}") from None
    if groups > 1:
        raise ValueError(f"`{text}` has {groups} groups; the answer is the whole match, or the one group")
    return text


class _WrittenConfig(QuestionsConfig):
    max_tokens: int = Field(256, ge=1, description="tokens of an answer at most")
    batch: int = Field(16, ge=1, description="answers written at once")


class ExactMatchConfig(_WrittenConfig):
    """What the model writes, greedily, against the right answer: `exact_match` is the share that is the same."""

    kind: Literal["exact_match"]
    prompt: str = Field("{question}", description="the question, with the row's columns in braces")
    answer: str = Field("answer", description="the column of the right answer, or of a list of right ones")
    delimiter: str = Field(" ", description="what stands between a solved example's question and answer")
    until: Annotated[list[str], BeforeValidator(lambda given: [given] if isinstance(given, str) else given)] = Field(
        ["\n\n"], description="an answer ends before the first of these"
    )
    extract: Annotated[str, AfterValidator(_expression)] | None = Field(
        None, description="the answer is the last match of this regular expression, or its group; default: all of it"
    )
    ignore_case: bool = Field(True, description="capitals do not matter")
    ignore_punctuation: bool = Field(False, description="nor do punctuation marks")


class Gsm8kConfig(_WrittenConfig):
    """School problems with an answer that is a number (Cobbe et al. 2021): rows with `question`, and `answer` that ends
    in `#### 42`. `exact_match` takes the number behind the first `#### ` that the model writes (strict),
    `exact_match_flexible` the last number of any kind; commas, `$` and a full stop at the end do not count."""

    kind: Literal["gsm8k"]


@dataclass(frozen=True, slots=True)
class WrittenAnswer:
    """`ended`: by the model or by what it was told to stop at, and not by the limit."""

    text: str
    ended: bool
    tokens: int


def write_answers(
    subject: Subject,
    prompts: Sequence[str | list[int]],
    most: int,
    batch: int,
    stops: Sequence[str] = (),
    search: dict[str, Any] | None = None,
    show: Callable[[int], None] = lambda _: None,
) -> list[list[WrittenAnswer]]:
    """What the model writes after each prompt; greedily, if `search` does not say otherwise.

    Of a prompt that would leave no room for `most` tokens the beginning is left out, though never more than what half
    of the model's context leaves.
    """
    model, tokenizer = subject.model, subject.tokenizer
    ends = ends_of(model, tokenizer)
    most = min(most, max(subject.longest // 2, 1))
    ids = [tokenizer.encode(prompt) if isinstance(prompt, str) else list(prompt) for prompt in prompts]
    ids = [(each or [tokenizer.eos_token_id])[-(subject.longest - most) :] for each in ids]
    found: list[list[WrittenAnswer]] = [[] for _ in prompts]
    order = sorted(range(len(ids)), key=lambda number: len(ids[number]), reverse=True)  # alike together: less padding
    done = 0
    with torch.no_grad(), subject.precision.autocast(), writing(model):
        for first in range(0, len(order), batch):
            numbers = order[first : first + batch]
            written = write_after(
                model, tokenizer, [ids[number] for number in numbers], most, search or {"do_sample": False}, stops
            )
            many = len(written) // len(numbers)
            for at, number in enumerate(numbers):
                found[number] = [_answer(tokenizer, each, ends, stops) for each in written[at * many :][:many]]
            done += len(numbers)
            show(done)
    return found


def _answer(tokenizer: Any, ids: list[int], ends: Sequence[int], stops: Sequence[str]) -> WrittenAnswer:
    end = next((place for place, token in enumerate(ids) if token in ends), None)
    text = str(tokenizer.decode(ids[:end], skip_special_tokens=True))
    cut = min((place for stop in stops if (place := text.find(stop)) >= 0), default=None)
    return WrittenAnswer(text[:cut], end is not None or cut is not None, len(ids[:end]))


@dataclass(frozen=True, slots=True)
class _Asked:
    row: QuestionRow
    text: str
    answers: list[str]


class _WrittenTest:
    """Questions that are answered in writing."""

    config: _WrittenConfig
    delimiter = " "
    stops: Sequence[str] = ()

    def __init__(self, config: _WrittenConfig, base: Path) -> None:
        self.config = config
        self._asked, self._solved = read_questions(config, base, self._made)

    def _made(self, row: QuestionRow) -> _Asked:
        raise NotImplementedError  # each kind has its own

    def _scores(self, written: str, answers: list[str]) -> dict[str, tuple[str, float]]:
        """Of each metric (what was taken for the answer, 1 if it is right)."""
        raise NotImplementedError  # each kind has its own

    @property
    def items(self) -> int:
        return len(self._asked)

    def content(self) -> Any:
        return [[(each.text, each.answers) for each in rows] for rows in (self._asked, self._solved)]

    def score(self, subject: Subject, show: Callable[[int], None]) -> Scored:
        solved = [(each.text, each.answers[0]) for each in self._solved]
        prompts = [
            prompted(self.config, subject.tokenizer, solved, each.text, self.delimiter) for each in self._asked
        ]  # fmt: skip
        written = write_answers(subject, prompts, self.config.max_tokens, self.config.batch, self.stops, show=show)
        return Scored([self._item(each, answer) for each, (answer,) in zip(self._asked, written, strict=True)])

    def _item(self, each: _Asked, written: WrittenAnswer) -> Item:
        found = self._scores(written.text, each.answers)
        scores = {name: (right, 1.0) for name, (_, right) in found.items()}
        scores["unfinished"] = (float(not written.ended), 1.0)
        taken = {f"taken for {name}": text for name, (text, _) in found.items()}
        shown = {"question": each.text, "right": each.answers[0], "written": written.text, **taken}
        group = str(each.row.values.get(self.config.group)) if self.config.group else each.row.id
        return Item(each.row.id, group, scores, shown, f"{each.text} {each.answers[0]}")


class ExactMatchTest(_WrittenTest):
    config: ExactMatchConfig

    def __init__(self, config: ExactMatchConfig, base: Path) -> None:
        self.delimiter, self.stops = config.delimiter, config.until
        super().__init__(config, base)

    def _made(self, row: QuestionRow) -> _Asked:
        given = row.values.get(self.config.answer)
        answers = [str(each) for each in (given if isinstance(given, list) else [given]) if each is not None]
        if not answers:
            columns = ", ".join(map(str, row.values))
            raise WrongRow(f"has no answer under `{self.config.answer}`; its columns: {columns}")
        return _Asked(row, rendered(self.config.prompt, row), answers)

    def _scores(self, written: str, answers: list[str]) -> dict[str, tuple[str, float]]:
        taken = written
        if self.config.extract is not None:
            matches = list(re.finditer(self.config.extract, written))
            taken = (matches[-1].group(matches[-1].re.groups) or "") if matches else ""
        right = self._plain(taken) in {self._plain(answer) for answer in answers}
        return {"exact_match": (taken.strip(), float(right))}

    def _plain(self, text: str) -> str:
        text = text.lower() if self.config.ignore_case else text
        return " ".join((text.translate(_PUNCTUATION) if self.config.ignore_punctuation else text).split())


class Gsm8kTest(_WrittenTest):
    stops = ("Question:", "</s>", "<|im_end|>")

    def _made(self, row: QuestionRow) -> _Asked:
        missing = [name for name in ("question", "answer") if not isinstance(row.values.get(name), str)]
        if missing:
            raise WrongRow(f"has no `{missing[0]}`; a row is {{question: ..., answer: ... #### 42}}")
        if not _STRICT.search(row.values["answer"]):
            raise WrongRow("its `answer` does not end in `#### ` and a number")
        asked = row.values["question"] if self.config.chat else f"Question: {row.values['question']}\nAnswer:"
        return _Asked(row, asked, [row.values["answer"]])

    def _scores(self, written: str, answers: list[str]) -> dict[str, tuple[str, float]]:
        right = _number(answers[0].rpartition("#### ")[2])
        strict = _STRICT.search(written)
        any_number = [first or second for first, second in _FLEXIBLE.findall(written)]
        taken = {"exact_match": strict.group(1) if strict else "", "exact_match_flexible": (any_number or [""])[-1]}
        return {name: (text, float(bool(text) and _number(text) == right)) for name, text in taken.items()}


def _number(text: str) -> str:
    return _IGNORED.sub("", text.strip())
