"""Learning to translate, scored by what the model writes; and translating with what has learned it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import groupby
from operator import attrgetter, itemgetter
from pathlib import Path
from typing import Any

from polyana.config import Config
from polyana.errors import UserError
from polyana.evaluate import (
    CometConfig,
    Comparison,
    Decoding,
    Translated,
    Translation,
    compare_comet,
    compare_translations,
    realign,
    score_translations,
    translate_documents,
    write_translation_page,
)
from polyana.examples import ChatTemplate
from polyana.parallel import LanguagesConfig, ParallelText, PromptConfig, Segment, SentenceUnit, Unit, UnitReport, units
from polyana.storage import read_json, write_file, write_json
from polyana.tasks.fine_tune import FineTuneTask
from polyana.tasks.translate_units import TranslateConfig, UnitWriter

__all__ = [
    "TranslateTask",
    "TranslationSettings",
    "asked_units",
    "compare_saved",
    "read_translations",
    "translate",
    "translate_lines",
    "translate_units",
]

_SETTINGS, _PAGE = "translation.json", "translations.html"


class TranslationSettings(Config):
    """What a model that has learned to translate has to be asked with: translation.json beside its weights."""

    languages: LanguagesConfig
    both_directions: bool
    prompt: PromptConfig
    decoding: Decoding
    context: int
    """Sentences before, with their translations, that it is shown."""

    @classmethod
    def of(cls, config: TranslateConfig) -> TranslationSettings:
        (unit, *_) = config.unit
        shown = unit.context if isinstance(unit, SentenceUnit) else 0
        return cls(
            languages=config.languages, both_directions=config.both_directions, prompt=config.prompt,
            decoding=config.eval.decoding, context=shown,
        )  # fmt: skip

    @classmethod
    def read(cls, directory: Path) -> TranslationSettings:
        """Of a save. Raises UserError where there are none."""
        if not (directory / _SETTINGS).exists():
            raise UserError("this run has not learned to translate; a stage of `kind: translate` does")
        return cls.model_validate(read_json(directory / _SETTINGS))

    def write(self, directory: Path) -> None:
        write_json(directory / _SETTINGS, self.model_dump())

    def direction(self, into: str | None) -> tuple[str, str]:
        """(from, into); None is what training was for. Raises UserError for a language that was not learned."""
        one, other = self.languages.source, self.languages.target
        if into in (None, other):
            return one, other
        if into == one and self.both_directions:
            return other, one
        known = f"{one} to {other}" + (" and back" if self.both_directions else "")
        raise UserError(f"it has not learned to translate into `{into}`; it has learned {known}")


def translate(
    model: Any, template: ChatTemplate, settings: TranslationSettings, documents: Sequence[Sequence[str]],
    direction: tuple[str, str],
) -> Translated:  # fmt: skip
    """What each text of each document becomes."""
    writer = UnitWriter(template, settings.prompt)

    def ask(earlier: Sequence[tuple[str, str]], source: str) -> list[int]:
        return writer.question(direction, earlier, source)

    return translate_documents(model, template.tokenizer, documents, ask, settings.decoding, settings.context)


def translate_lines(
    model: Any, directory: Path, settings: TranslationSettings, text: str, direction: tuple[str, str]
) -> str:
    """As `translate`, each line of a text for itself; blank lines part documents and stay where they are.

    `directory`: of the save, which holds the tokenizer with its chat template.
    """
    lines = text.replace("\r\n", "\n").removesuffix("\n").split("\n")
    documents = [list(found) for _, found in groupby(lines, lambda line: not line.strip())]
    written = translate(model, ChatTemplate(directory), settings, documents, direction)
    return "".join(" ".join(text.split()) + "\n" for texts in written.texts for text in texts)


def asked_units(data: Path, config: TranslateConfig, template: ChatTemplate, sentences: int) -> list[list[Unit]]:
    """The units of each held-out document that is translated, of so many sentences in all, chosen by a hash of the
    documents' names; of a mix of units the first. `data`: what `build_units` wrote."""
    named = groupby(ParallelText(data).segments("eval"), attrgetter("document"))
    chosen = list[Segment]()
    for _, found in sorted(((_hash(name), list(found)) for name, found in named), key=itemgetter(0)):
        chosen += found[: sentences - len(chosen)]
    alone = config.model_copy(update={"unit": config.unit[:1]})
    cut = units(chosen, alone, 0, lambda text: len(template.opening(text)), UnitReport(), training=False)
    return [list(found) for _, found in groupby(cut, attrgetter("document"))]


def translate_units(
    model: Any, template: ChatTemplate, settings: TranslationSettings, documents: Sequence[Sequence[Unit]],
    direction: tuple[str, str],
) -> tuple[list[Translation], float]:  # fmt: skip
    """Each sentence's translation, cut out of its unit's where that is longer; the share of answers without an end."""
    written = translate(model, template, settings, [[unit.source for unit in found] for found in documents], direction)
    found = [
        Translation(unit.document, source, reference, piece)
        for units_of_one, texts in zip(documents, written.texts, strict=True)
        for unit, text in zip(units_of_one, texts, strict=True)
        for (source, reference), piece in zip(
            unit.sentences, realign(text, [reference for _, reference in unit.sentences]), strict=True
        )
    ]
    return found, written.unfinished / max(written.answers, 1)


class TranslateTask(FineTuneTask):
    """Cross entropy of translations, and scores of those that the model writes."""

    _config: TranslateConfig

    def __init__(self, *others: Any) -> None:
        super().__init__(*others)
        self._settings = TranslationSettings.of(self._config)
        self._direction = self._settings.direction(None)
        self._template = ChatTemplate(self._data)
        self._written: list[Translation] = []

    def prompt(self, text: str) -> str | list[int]:
        return UnitWriter(self._template, self._config.prompt).question(self._direction, [], text)

    def score_answers(self, run: Path | None) -> dict[str, float]:  # noqa: ARG002  scored in no time
        """BLEU and chrF++ of the held-out sentences; what was written for a longer unit is cut where they are."""
        documents = asked_units(self._data, self._config, self._template, self._config.eval.sentences)
        if not documents:
            return {}
        self._written, unfinished = translate_units(
            self.model, self._template, self._settings, documents, self._direction
        )
        return score_translations(self._written, *self._direction).metrics() | {"eval/unfinished": unfinished}

    def keep_answers(self, run: Path, step: int) -> None:
        if self._written:
            lines = [json.dumps(asdict(each), ensure_ascii=False) for each in self._written]
            path = _translations(run, step)
            path.parent.mkdir(exist_ok=True)
            text = "\n".join(lines) + "\n"
            write_file(path, text.encode("utf-8", "replace"))  # a model can write half a surrogate pair

    def conclude(self, run: Path, step: int) -> dict[str, Any]:
        """Write translations.html, where what the best revision wrote stands beside what the base did; for the summary
        its scores, those of the base, and their signatures."""
        if not self._config.eval.sentences:
            return {}
        first = min(int(path.stem.removeprefix("step-")) for path in _translations(run, 0).parent.glob("*.jsonl"))
        ours, before = read_translations(run, step), read_translations(run, first)
        compared = compare_translations(before, ours, self._direction[1])
        systems = {f"step {number}": (found, score_translations(found, *self._direction))
                   for number, found in ((step, ours), (first, before))}  # fmt: skip
        write_translation_page(run / _PAGE, run.name, self._direction, systems, compared if step != first else ())
        return {
            "scores": {
                each.name: {"value": each.system, "before": each.baseline, "signature": each.signature}
                for each in compared
            }
        }

    def save_settings(self, directory: Path) -> None:
        super().save_settings(directory)
        self._settings.write(directory)


def read_translations(run: Path, step: int) -> list[Translation]:
    """What the evaluation at a step of a run wrote. Raises UserError where there is none."""
    path = _translations(run, step)
    if not path.exists():
        raise UserError(
            f"{run.name} has kept no translations of step {step}; `kind: translate` keeps those of each save"
        )
    with path.open(encoding="utf-8") as lines:
        return [Translation(**json.loads(line)) for line in lines]


def compare_saved(
    systems: Mapping[str, tuple[Path, int, Path]], page: Path | None = None, comet: CometConfig | None = None
) -> list[Comparison]:
    """Was it chance that the first of two is better than the second? (directory of the run, step, of the save) by name.

    Raises UserError where they have not translated the same text in the same direction.
    """
    if len(systems) < 2:
        raise UserError(f"both are {next(iter(systems))}; name two revisions")
    directions = [TranslationSettings.read(saved).direction(None) for _, _, saved in systems.values()]
    if directions[0] != directions[1]:
        raise UserError(
            "the two have learned different languages: " + " and ".join("-".join(one) for one in directions)
        )
    new, old = (read_translations(run, step) for run, step, _ in systems.values())
    found = compare_translations(old, new, directions[0][1])
    if comet is not None:
        found.append(compare_comet(old, new, comet, Path()))
    if page is not None:
        scored = {
            name: (written, score_translations(written, *directions[0]))
            for name, written in zip(systems, (new, old), strict=True)
        }
        write_translation_page(page, " against ".join(systems), directions[0], scored, found)
    return found


def _translations(run: Path, step: int) -> Path:
    return run / "translations" / f"step-{step:08d}.jsonl"


def _hash(name: str) -> bytes:
    return hashlib.blake2b(name.encode("utf-8", "replace")).digest()
