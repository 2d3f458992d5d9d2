"""Translation as a test of a suite: what a save makes of texts, asked as its training asked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from polyana.corpus import decode
from polyana.errors import Problem, UserError
from polyana.evaluate import (
    Item,
    Metric,
    Scored,
    Subject,
    Translation,
    TranslationSuiteConfig,
    score_translations,
    translation_metrics,
)
from polyana.examples import ChatTemplate
from polyana.parallel import Unit
from polyana.tasks.translate import TranslationSettings, asked_units, translate, translate_units
from polyana.tasks.translate_units import TranslateConfig

__all__ = ["TranslationTest", "translation_test"]

_SENTENCES = 100  # of held-out text where the training translated none; guess


def translation_test(
    config: TranslationSuiteConfig, base: Path, learned: TranslateConfig, data: Path | None
) -> TranslationTest:
    """Of the two texts that the suite names; or, with `data`, of what the run held out: the same sentences, in the same
    units, that its training scored. Raises UserError for texts that do not fit each other."""
    if data is not None:
        asked = asked_units(data, learned, ChatTemplate(data), config.limit or learned.eval.sentences or _SENTENCES)
        return TranslationTest(asked, None)
    return TranslationTest(None, _line_by_line(base, str(config.source), str(config.target), config.limit))


class TranslationTest:
    """Units of held-out documents, or lines of documents with their references."""

    def __init__(self, asked: list[list[Unit]] | None, lines: list[list[tuple[str, str]]] | None) -> None:
        self._asked, self._lines = asked, lines

    @property
    def items(self) -> int:
        return 1  # a document waits for itself; there is nothing to show in between

    def content(self) -> Any:
        if self._lines is not None:
            return self._lines
        return [[[each.document, each.source, each.sentences] for each in found] for found in self._asked or ()]

    def score(self, subject: Subject, show: Callable[[int], None]) -> Scored:
        settings, template = TranslationSettings.read(subject.directory), ChatTemplate(subject.directory)
        direction = settings.direction(None)
        with subject.precision.autocast():
            found, unfinished = self._translated(subject.model, template, settings, direction)
        show(1)
        scores = score_translations(found, *direction)
        items = [
            Item(
                str(number), each.document, {"segment_chrf": (score, 1.0)},
                {"source": each.source, "right": each.reference, "written": each.hypothesis},
                f"{each.source}\n{each.reference}",
            )
            for number, (each, score) in enumerate(zip(found, scores.segments, strict=True))
        ]  # fmt: skip
        metrics = translation_metrics(found, scores, direction[1])
        metrics["unfinished"] = Metric(unfinished, None, None, len(found), len(scores.documents))
        return Scored(items, metrics, about={"direction": list(direction), "signature": str(scores.bleu)})

    def _translated(
        self, model: Any, template: ChatTemplate, settings: TranslationSettings, direction: tuple[str, str]
    ) -> tuple[Sequence[Translation], float]:
        if self._asked is not None:
            return translate_units(model, template, settings, self._asked, direction)
        lines = self._lines or []
        written = translate(model, template, settings, [[one for one, _ in found] for found in lines], direction)
        return [
            Translation(f"document {number + 1}", source, reference, text)
            for number, (found, texts) in enumerate(zip(lines, written.texts, strict=True))
            for (source, reference), text in zip(found, texts, strict=True)
        ], written.unfinished / max(written.answers, 1)


def _line_by_line(base: Path, source: str, target: str, limit: int | None) -> list[list[tuple[str, str]]]:
    sides = []
    for name in (source, target):
        path = base / Path(name).expanduser()
        if not path.is_file():
            raise UserError(Problem(str(path), "there is no such file"))
        sides.append(decode(path.read_bytes()).replace("\r\n", "\n").removesuffix("\n").split("\n"))
    if len(sides[0]) != len(sides[1]):
        what = (
            f"has {len(sides[0]):,} lines, and {target} {len(sides[1]):,}; each line is to be the other's translation"
        )
        raise UserError(Problem(source, what))
    for number, (one, other) in enumerate(zip(*sides, strict=True), start=1):
        if bool(one.strip()) != bool(other.strip()):
            raise UserError(Problem(f"{source if one.strip() else target}:{number}", "stands beside an empty line"))
    pairs = list(zip(*sides, strict=True))
    documents = [list(found) for is_text, found in groupby(pairs, lambda pair: bool(pair[0].strip())) if is_text]
    if limit is not None:
        left, kept = limit, list[list[tuple[str, str]]]()
        for found in documents:
            kept += [found[:left]] if left > 0 else []
            left -= len(found)
        documents = kept
    if not documents:
        raise UserError(Problem(source, "has no text"))
    return documents
