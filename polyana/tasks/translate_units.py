"""What is learned to translate from: units of parallel text, as questions and answers."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from polyana.config import KeyPath, Quantity
from polyana.corpus import Split
from polyana.data import write_examples
from polyana.errors import UserError
from polyana.evaluate import Decoding, GreedyConfig
from polyana.examples import (
    BadRow,
    ChatTemplate,
    Conversation,
    Example,
    ExamplesReport,
    PlainText,
    SourceReport,
    TemplateConfig,
    question,
)
from polyana.models import ModelConfig
from polyana.parallel import (
    ChatPrompt,
    DocumentUnit,
    ParallelConfig,
    ParallelText,
    PromptConfig,
    Unit,
    UnitConfig,
    UnitReport,
    chat,
    lesson,
    tagged,
    units,
)
from polyana.storage import read_json
from polyana.tasks.fine_tune import ABOUT_BASE, NEW_PIECES, FineTuneConfig, check_context, save_tokenizer
from polyana.tasks.language_model import EvalConfig

__all__ = ["UNITS_VERSION", "TranslateConfig", "UnitWriter", "build_units"]

UNITS_VERSION = 1

_AT_ONCE = 256  # units given to the tokenizer at once: keeps its threads busy; guess
_SEAMS = 8  # tokens that two texts may take more when they are put together, and the end of the answer; guess
_TOO_LONG = "longer than the context"


class TranslationEvalConfig(EvalConfig):
    """When held-out text is predicted and translated; every save does it too."""

    sentences: int = Field(
        100,
        ge=0,
        description="of the held-out documents, chosen by a hash of their names, so many are translated and scored; 0 "
        "for none",
    )
    decoding: Decoding = Field(default_factory=GreedyConfig)


class TranslateConfig(ParallelConfig, TemplateConfig, FineTuneConfig):
    """Learn to translate from parallel text: a pretrained model, or a new one."""

    kind: Literal["translate"]
    model: ModelConfig | None = Field(
        None,
        description="instead of `base`: the shape of a new model, which is trained whole (`adapter: full`) and asked "
        "with tags (`prompt: tags`); its `context` is the stage's",
    )
    eval: TranslationEvalConfig = Field(default_factory=TranslationEvalConfig)

    @model_validator(mode="before")
    @classmethod
    def _of_a_new_model(cls, settings: Any) -> Any:
        """What follows from `model` and need not be written."""
        if isinstance(settings, dict) and settings.get("model") is not None:
            return {"adapter": "full", "prompt": "tags"} | settings
        return settings

    def problems(self) -> Iterator[tuple[KeyPath, str]]:
        yield from super().problems()
        if self.template is not None and not isinstance(self.prompt, ChatPrompt):
            yield ("template",), "`template` writes conversations; with `prompt: tags` there are none, so leave it out"
        if self.eval.sentences and find_spec("sacrebleu") is None:
            what = (
                "translations are scored by sacrebleu; run: pip install 'polyana[translate]', or write `sentences: 0`"
            )
            yield ("eval", "sentences"), what
        if self.model is None:
            if self.base is None:
                yield (), f"write `base`, {ABOUT_BASE}; or `model`, the shape of a new one"
            return
        if self.base is not None:
            yield ("model",), "`base` is a model to go on with and `model` a new one; leave one of them out"
        if self.adapter.kind != "full":
            yield ("adapter",), "a new model has nothing an adapter could stand on; write `adapter: full` or no adapter"
        if "context" in self.model.model_fields_set and self.model.context != self.context:
            yield ("model", "context"), f"write it beside `model:`, as `context: {self.model.context}` of the stage"
        least = 257 + len(self.vocabulary.special_tokens)  # the bytes and the end of a text
        if (self.vocabulary.pieces or NEW_PIECES) < least:
            what = f"`pieces: {self.vocabulary.pieces}` has no room for bytes and special tokens; at least {least}"
            yield ("vocabulary", "pieces"), what

    def resolved(self, base: Path) -> dict[str, Any]:
        found = super().resolved(base)
        if self.model is not None:
            del found["model"]["context"]  # the stage's is
        return found

    def text_identity(self) -> dict[str, Any]:
        """The settings that decide what the parallel text is."""
        return {name: self.identity()[name] for name in ("data", "test", "languages", "held_out", "hygiene")}

    def units_identity(self) -> dict[str, Any]:
        """Those that decide, besides, what the examples are."""
        names = ("languages", "hygiene", "unit", "both_directions", "prompt", "template", "context")
        return {name: self.identity()[name] for name in names}


class UnitWriter:
    """What a model is asked and what it should answer, in tokens: in training and afterwards the same."""

    def __init__(self, template: ChatTemplate, prompt: PromptConfig) -> None:
        self._template, self._prompt = template, prompt

    def question(self, direction: tuple[str, str], earlier: Sequence[tuple[str, str]], source: str) -> list[int]:
        if isinstance(self._prompt, ChatPrompt):
            return question(self._template.tokenizer, chat(self._prompt, direction, earlier, source))
        # the space before the answer is a part of the answer's first token
        return self._template.opening(tagged(self._prompt, direction, earlier, source).rstrip())

    def examples(self, given: list[Unit]) -> Iterator[tuple[Unit, Example | BadRow]]:
        """Each unit as an example, or why the template refuses it."""
        if not isinstance(self._prompt, ChatPrompt):
            for unit in given:
                asked = tagged(self._prompt, unit.direction, unit.context, unit.source)
                text = PlainText(asked + unit.target, given=len(asked.rstrip()))
                yield unit, Example(unit.id, unit.id, *self._template.encode_text(text))
            return
        written = []
        for unit in given:
            try:
                written.append((unit, self._template.write(Conversation(*lesson(self._prompt, unit)))))
            except BadRow as error:
                yield unit, error
        encoded = self._template.encode([text for _, text in written])
        for (unit, _), (tokens, weights) in zip(written, encoded, strict=True):
            yield unit, Example(unit.id, unit.id, tokens, weights)


def build_units(
    config: TranslateConfig, recipe_base: Path, text: Path, base: Path, seed: int, directory: Path
) -> dict[str, Any]:
    """Write the shards of the units of a parallel text, the tokenizer with its template, the held-out sentences for
    translating, and report.json; the report.

    Of a unit that is longer than the context the earliest sentences that it is shown after are left out; one that is
    too long without them is left out, for half an answer teaches to stop halfway.
    """
    check_context(config, base)
    template = ChatTemplate(base, config.template, recipe_base)
    if isinstance(config.prompt, ChatPrompt) and template.tokenizer.chat_template is None:
        raise UserError(
            "the base has no chat template; write `prompt: tags`, which needs none, or `template: zephyr`, `alpaca` or "
            "`raw`, a file `mine.jinja`, or with `adapter: full` also `chatml`, which adds two tokens"
        )
    writer, report, cut = UnitWriter(template, config.prompt), ExamplesReport(), UnitReport()
    config, told = _within_context(config, writer)

    def count(words: str) -> int:
        return len(template.opening(words))

    def written() -> Iterator[tuple[Split, str, NDArray[np.uint32], NDArray[np.float32]]]:
        split: Split
        for split in ("train", "eval"):
            counted = cut if split == "train" else UnitReport()
            segments = ParallelText(text).segments(split)
            found = units(segments, config, seed, count, counted, training=split == "train")
            for each in _fitting(found, writer, config.context, report):
                yield split, each.id, each.tokens, each.weights

    write_examples(written(), len(template.tokenizer), directory)
    _check_not_empty(directory, report, config.context)
    shutil.copyfile(text / "eval.jsonl.zst", directory / "eval.jsonl.zst")
    return save_tokenizer(template, directory, report.as_data() | {"units": [*told, *cut.lines()]})


def _within_context(config: TranslateConfig, writer: UnitWriter) -> tuple[TranslateConfig, list[str]]:
    """The recipe with documents cut to what the context holds beside the words around them; what is to be told."""
    languages = (config.languages.source, config.languages.target)
    room = config.context - len(writer.question(languages, [], "")) - _SEAMS
    kinds, told = list[UnitConfig](), list[str]()
    for unit in config.unit:
        if isinstance(unit, DocumentUnit) and unit.tokens.amount > room > 0:
            kinds.append(unit.model_copy(update={"tokens": Quantity(room, "tokens")}))
            told.append(f"document: at most {room:,} tokens, for which `context: {config.context}` has room")
        else:
            kinds.append(unit)
    return config.model_copy(update={"unit": kinds}), told


def _check_not_empty(directory: Path, report: ExamplesReport, context: int) -> None:
    if not read_json(directory / "tokens.json")["train"]["documents"]:
        total = report.total()
        reasons = [f"{count:,} {reason}" for reason, count in (total.left_out | total.bad).items()]
        raise UserError("no unit of translation is left to train on: " + (", ".join(reasons) or "all are held out"))
    total = report.total()
    long = total.left_out.get(_TOO_LONG, 0)
    if long > total.rows / 2:
        raise UserError(f"{long:,} of {total.rows:,} units are longer than `context: {context}`; write a longer one")
    if not read_json(directory / "tokens.json")["eval"]["documents"]:
        raise UserError(f"no unit of the held-out text fits into `context: {context}`; write a longer one")


def _fitting(found: Iterable[Unit], writer: UnitWriter, context: int, report: ExamplesReport) -> Iterator[Example]:
    """The units as examples of at most `context` tokens, counted by their kind."""
    rest = iter(found)
    while waiting := list(islice(rest, _AT_ONCE)):
        for whole, its_example in writer.examples(waiting):
            unit, example, longest = whole, its_example, 0
            balance = report.sources.setdefault(unit.kind, SourceReport())
            balance.rows += 1
            while isinstance(example, Example) and len(example.tokens) > context and unit.context:
                longest = longest or len(example.tokens)
                ((unit, example),) = writer.examples([replace(unit, context=unit.context[1:])])
            if isinstance(example, BadRow):
                balance.leave_out(str(example))
            elif len(example.tokens) > context:
                balance.leave_out(_TOO_LONG)
            else:
                if longest:
                    balance.shorten(longest - len(example.tokens), 0)
                balance.keep(example.weights)
                yield example
