"""The stage `classifier`: learns from examples of several kinds to tell them apart, and how well it can."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from polyana.config import Config, KeyPath, Share
from polyana.corpus.config import SourceConfig
from polyana.corpus.inputs import source_inputs
from polyana.corpus.labelled import Example, check_enough, distinct, held_out, markdown_table, read_examples, wilson
from polyana.storage import ContentDigests, write_json
from polyana.tracking import Console, Gauge

if TYPE_CHECKING:  # compiles, which takes a second
    from polyana.corpus.linear import LinearModel

__all__ = ["VERSION", "ClassifierConfig", "build_classifier", "classifier_inputs", "classifier_report_lines"]

VERSION = 1

_SCORES = (0.0, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.99)
_TELLING = 15  # words and letters of each class that are shown


class ClassifierConfig(Config):
    """Learns to tell classes of documents by examples, for the step `domains`. A class is what a source is called;
    several sources may have one name."""

    kind: Literal["classifier"]
    sources: list[SourceConfig] = Field(
        min_length=2, description="examples, as `[{path: papers/, name: science}, {path: letters/, name: letters}]`"
    )
    held_out: Share = Field(0.2, gt=0, lt=1, description="share of the examples that it is tried on, by their ids")
    examples: int = Field(5_000, ge=40, description="of each class at most; of more they are drawn from all over")

    @property
    def classes(self) -> tuple[str, ...]:
        """Their names, in the order of the sources."""
        return tuple(dict.fromkeys(source.label for source in self.sources))

    def problems(self) -> Iterator[tuple[KeyPath, str]]:
        if find_spec("numba") is None:
            yield (), "classifiers are computed with numba; run: pip install 'polyana[mill]'"
        if len(self.classes) == 1:
            yield ("sources",), f"all sources are called `{self.classes[0]}`; give each class a `name: ...` of its own"


def classifier_inputs(
    config: ClassifierConfig, base: Path, digests: ContentDigests, where: Callable[..., str]
) -> dict[str, Any]:
    """What the classifier is made from; see `source_inputs`."""
    return {"sources": source_inputs(config.sources, base, digests, lambda *path: where("sources", *path))}


def build_classifier(config: ClassifierConfig, base: Path, directory: Path, console: Console) -> dict[str, Any]:
    """Write model.npz, report.json and report.md into `directory`; return the report.

    Raises PolyanaError when there are too few examples.
    """
    from polyana.corpus.linear import learn_classes

    examples, labels, torn, duplicates = distinct(_read(config, base, console))
    aside = held_out(examples, config.held_out)
    check_enough(labels, aside, config.classes)
    known, tried = ([examples[each][1] for each in np.flatnonzero(part)] for part in (~aside, aside))
    console.say(f"learning from {len(known):,} examples")
    found = learn_classes(known, labels[~aside], config.classes)
    report = {
        "examples": {
            part: {name: int((labels[mine] == number).sum()) for number, name in enumerate(config.classes)}
            for part, mine in (("learnt", ~aside), ("held_out", aside))
        },
        "dropped": {"of several classes": torn, "duplicate": duplicates},
        "strength": found.strength,
        "temperature": round(found.temperature, 4),
        **_judged(found.model.probabilities(tried), labels[aside], config.classes),
        "telling": _telling(found.model, known),
    }
    found.model.save(directory / "model.npz")
    write_json(directory / "report.json", report)
    (directory / "report.md").write_text(_page(report), encoding="utf-8")
    return report


def _read(config: ClassifierConfig, base: Path, console: Console) -> list[list[Example]]:
    """The examples of each class."""
    found, done = [], 0
    with console.gauge("classifier", len(config.sources)) as gauge:
        for name in config.classes:
            sources = [source for source in config.sources if source.label == name]
            found.append(read_examples(sources, base, config.examples, partial(_show, gauge, done)))
            done += len(sources)
    return found


def _show(gauge: Gauge, done: int, place: int, far: str) -> None:
    gauge.show(done + place, far)


def _judged(scores: NDArray[np.float64], labels: NDArray[np.int64], classes: Sequence[str]) -> dict[str, Any]:
    """How well the classes are told apart; intervals hold the true value in 95 of 100 such trials."""
    best, highest = scores.argmax(axis=1), scores.max(axis=1)
    right = best == labels
    confused = np.zeros((len(classes), len(classes)), np.int64)
    np.add.at(confused, (labels, best), 1)
    by_class = {}
    for number, name in enumerate(classes):
        hits, taken, there = (
            int(count) for count in (confused[number, number], confused[:, number].sum(), confused[number].sum())
        )
        by_class[name] = {
            "precision": round(hits / max(taken, 1), 4), "precision_interval": wilson(hits, taken),
            "recall": round(hits / there, 4), "recall_interval": wilson(hits, there),
        }  # fmt: skip
    thresholds = []
    for least in _SCORES:
        told = highest >= least
        hits, count = int((told & right).sum()), int(told.sum())
        thresholds.append({
            "min_score": least, "told": count, "right": round(hits / max(count, 1), 4), "interval": wilson(hits, count),
        })  # fmt: skip
    return {
        "accuracy": round(float(right.mean()), 4),
        "accuracy_interval": wilson(int(right.sum()), len(right)),
        "loss": round(float(-np.log(scores[np.arange(len(labels)), labels]).mean()), 4),
        "classes": by_class,
        "confused": {
            name: dict(zip(classes, row, strict=True)) for name, row in zip(classes, confused.tolist(), strict=True)
        },
        "thresholds": thresholds,
    }


def _telling(model: LinearModel, texts: Sequence[str]) -> dict[str, list[str]]:
    """Words, pairs of words and letters that speak most for each class: by weight against the mean of all classes, and
    how many examples have them."""
    from polyana.corpus.linear import features_of, spell

    spelt = spell(texts)
    buckets = np.array(sorted(spelt), np.int64)
    counts = np.bincount(features_of(texts).buckets, minlength=len(model.weights))[buckets]
    weights = np.concatenate([np.zeros((len(buckets), 1), np.float32), model.weights[buckets]], axis=1)
    share = (weights - weights.mean(axis=1, keepdims=True)) * np.sqrt(counts)[:, None]  # as in `quality`
    order = np.argsort(-share, axis=0, kind="stable")[:_TELLING]
    return {name: [spelt[int(each)] for each in buckets[order[:, number]]] for number, name in enumerate(model.classes)}


def classifier_report_lines(report: dict[str, Any]) -> list[str]:
    """The report for the terminal."""
    learnt, tried = (sum(report["examples"][part].values()) for part in ("learnt", "held_out"))
    low, high = report["accuracy_interval"]
    lines = [
        f"learnt from {learnt:,} examples of {', '.join(report['classes'])}; of {tried:,} others "
        f"{report['accuracy']:.1%} told right ({low:.1%} to {high:.1%})"
    ]
    wrong = [
        (count, given, taken)
        for given, row in report["confused"].items()
        for taken, count in row.items()
        if count and taken != given
    ]
    if wrong:
        count, given, taken = max(wrong, key=lambda each: each[0])
        lines.append(f"most often confused: {count:,} of {given} taken for {taken}")
    return lines


def _page(report: dict[str, Any]) -> str:
    """The report in Markdown."""
    classes = list(report["classes"])
    by_class = [
        [name, *(f"{each[what]:.1%}" + " ({:.1%} to {:.1%})".format(*each[f"{what}_interval"])
                 for what in ("precision", "recall"))]
        for name, each in report["classes"].items()
    ]  # fmt: skip
    confused = [[name, *(f"{row[other]:,}" for other in classes)] for name, row in report["confused"].items()]
    thresholds = [
        [
            str(each["min_score"]),
            f"{each['told']:,}",
            f"{each['right']:.1%}",
            "{:.1%} to {:.1%}".format(*each["interval"]),
        ]
        for each in report["thresholds"]
    ]
    telling = [
        f"- {name}: " + ", ".join(f"`{json.dumps(each, ensure_ascii=False)[1:-1]}`" for each in found)
        for name, found in report["telling"].items()
    ]
    parts = [
        "# Classifier",
        "\n".join(f"- {line}" for line in classifier_report_lines(report)),
        "## Each class, on the examples held out",
        markdown_table(["class", "precision", "recall"], by_class),
        "## What is taken for what",
        markdown_table(["in truth", *classes], confused),
        "## What is left with its source, by `min_score`",
        markdown_table(["min_score", "told", "right", "95 % interval"], thresholds),
        "## What tells them apart",
        "\n".join(telling),
        f"Examples left out: {', '.join(f'{count:,} {reason}' for reason, count in report['dropped'].items())}.",
    ]
    return "\n\n".join(parts) + "\n"
