"""The stage `quality`: learns from good and bad examples what a good document is, and how well it can tell."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from polyana.config import Config, KeyPath, Share
from polyana.corpus.config import SourceConfig
from polyana.corpus.inputs import source_inputs
from polyana.corpus.labelled import check_enough, distinct, held_out, markdown_table, read_examples, wilson
from polyana.storage import ContentDigests, write_json
from polyana.tracking import Console

if TYPE_CHECKING:  # compiles, which takes a second
    from polyana.corpus.linear import LinearModel

__all__ = ["VERSION", "QualityConfig", "build_quality", "quality_inputs", "quality_report_lines"]

VERSION = 1

CLASSES = ("bad", "good")
_THRESHOLDS = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
_BINS = 10  # of scores, in which they are held against the truth
_DRAWS = 1000  # of the bootstrap
_TELLING = 30  # words and letters of each kind that are shown
_SHOWN = 1_000  # characters of a document under review


class QualityConfig(Config):
    """Learns to tell good documents from bad ones by examples, for the step `quality`."""

    kind: Literal["quality"]
    good: list[SourceConfig] = Field(min_length=1, description="documents as they should be; some hundred will do")
    bad: list[SourceConfig] = Field(min_length=1, description="documents as they should not be")
    held_out: Share = Field(0.2, gt=0, lt=1, description="share of the examples that it is tried on, by their ids")
    examples: int = Field(5_000, ge=40, description="of each kind at most; of more they are drawn from all over")
    review: int = Field(50, ge=0, description="held-out examples nearest to the border that are listed to be looked at")

    def problems(self) -> Iterator[tuple[KeyPath, str]]:
        if find_spec("numba") is None:
            yield (), "classifiers are computed with numba; run: pip install 'polyana[mill]'"


def quality_inputs(
    config: QualityConfig, base: Path, digests: ContentDigests, where: Callable[..., str]
) -> dict[str, Any]:
    """What the classifier is made from; see `source_inputs`."""
    return {
        kind: source_inputs(sources, base, digests, lambda *path, kind=kind: where(kind, *path))
        for kind, sources in (("good", config.good), ("bad", config.bad))
    }


def build_quality(config: QualityConfig, base: Path, directory: Path, console: Console) -> dict[str, Any]:
    """Write model.npz, report.json, report.md and borderline.jsonl into `directory`; return the report.

    Raises PolyanaError when there are too few examples.
    """
    from polyana.corpus.linear import learn_classes

    with console.gauge("quality", len(config.good) + len(config.bad)) as gauge:
        bad = read_examples(config.bad, base, config.examples, gauge.show)
        good = read_examples(
            config.good, base, config.examples, lambda place, far: gauge.show(len(config.bad) + place, far)
        )
    examples, labels, both, duplicates = distinct([bad, good])
    aside = held_out(examples, config.held_out)
    check_enough(labels, aside, CLASSES)
    texts = [text for _, text in examples]
    learnt, tried = np.flatnonzero(~aside), np.flatnonzero(aside)
    known = [texts[each] for each in learnt]
    console.say(f"learning from {len(known):,} examples")
    found = learn_classes(known, labels[learnt], CLASSES)
    scores = found.model.probabilities([texts[each] for each in tried])[:, 1]
    report = {
        "examples": {
            part: {name: int((labels[each] == number).sum()) for number, name in enumerate(CLASSES)}
            for part, each in (("learnt", learnt), ("held_out", tried))
        },
        "dropped": {"both good and bad": both, "duplicate": duplicates},
        "strength": found.strength,
        "temperature": round(found.temperature, 4),
        **_judged(scores, labels[tried]),
        "telling": _telling(found.model, known),
    }
    found.model.save(directory / "model.npz")
    write_json(directory / "report.json", report)
    (directory / "report.md").write_text(_page(report), encoding="utf-8")
    nearest = np.argsort(np.abs(scores - 0.5), kind="stable")[: config.review]
    with (directory / "borderline.jsonl").open("w", encoding="utf-8", errors="replace") as lines:
        for each in nearest:
            identifier, text = examples[tried[each]]
            row = {"id": identifier, "given": CLASSES[labels[tried[each]]], "score": round(float(scores[each]), 4)}
            lines.write(json.dumps(row | {"text": text[:_SHOWN]}, ensure_ascii=False) + "\n")
    return report


def _judged(scores: NDArray[np.float64], labels: NDArray[np.int64]) -> dict[str, Any]:
    """How well scores tell good from bad; intervals hold the true value in 95 of 100 such trials."""
    good = labels == 1
    thresholds = []
    for threshold in _THRESHOLDS:
        kept = scores >= threshold
        hits = int((kept & good).sum())
        precision, recall = hits / max(int(kept.sum()), 1), hits / int(good.sum())
        thresholds.append({
            "min_score": threshold,
            "kept": int(kept.sum()),
            "precision": round(precision, 4),
            "precision_interval": wilson(hits, int(kept.sum())),
            "recall": round(recall, 4),
            "recall_interval": wilson(hits, int(good.sum())),
            "f1": round(2 * hits / (int(kept.sum()) + int(good.sum())), 4),
        })  # fmt: skip
    bins = np.minimum((scores * _BINS).astype(np.int64), _BINS - 1)
    reliability = [
        {
            "scores": f"{each / _BINS:.1f} to {(each + 1) / _BINS:.1f}",
            "examples": int((bins == each).sum()),
            "score": round(float(scores[bins == each].mean()), 4),
            "good": round(float(good[bins == each].mean()), 4),
        }
        for each in range(_BINS)
        if (bins == each).any()
    ]
    off = sum(abs(float((scores - good)[bins == each].sum())) for each in range(_BINS)) / len(scores)
    return {
        "auc": round(area(scores, good), 4),
        "auc_interval": _bootstrap(scores, good),
        "brier": round(float(((scores - good) ** 2).mean()), 4),
        "calibration_error": round(off, 4),
        "thresholds": thresholds,
        "reliability": reliability,
    }


def area(scores: NDArray[np.float64], good: NDArray[np.bool_]) -> float:
    """Under the ROC curve: how often a good example has a higher score than a bad one, half of it where they tie."""
    _, place, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[place]  # from 1, the mean of them where scores are equal
    positive = int(good.sum())
    return float((ranks[good].sum() - positive * (positive + 1) / 2) / (positive * (len(good) - positive)))


def _bootstrap(scores: NDArray[np.float64], good: NDArray[np.bool_]) -> list[float]:
    """The 95 % interval of the area, from good and bad examples drawn again (Efron 1979); the draws are always the
    same ones."""
    draws = np.random.default_rng(0)
    yes, no = scores[good], scores[~good]
    labels = np.concatenate([np.ones(len(yes), np.bool_), np.zeros(len(no), np.bool_)])
    areas = [
        area(np.concatenate([draws.choice(yes, len(yes)), draws.choice(no, len(no))]), labels) for _ in range(_DRAWS)
    ]
    return [round(float(each), 4) for each in np.quantile(areas, [0.025, 0.975])]


def _telling(model: LinearModel, texts: Sequence[str]) -> dict[str, list[str]]:
    """Words, pairs of words and letters that speak most for each kind: by weight, and how many examples have them."""
    from polyana.corpus.linear import features_of, spell

    spelt = spell(texts)
    buckets = np.array(sorted(spelt), np.int64)
    counts = np.bincount(features_of(texts).buckets, minlength=len(model.weights))[buckets]
    share = model.weights[buckets, 0] * np.sqrt(counts)  # a rare one tells little, whatever its weight; guess
    order = np.argsort(share, kind="stable")
    return {
        "good": [spelt[int(buckets[each])] for each in order[::-1][:_TELLING]],
        "bad": [spelt[int(buckets[each])] for each in order[:_TELLING]],
    }


def quality_report_lines(report: dict[str, Any]) -> list[str]:
    """The report for the terminal."""
    learnt, tried = report["examples"]["learnt"], report["examples"]["held_out"]
    low, high = report["auc_interval"]
    half = next(each for each in report["thresholds"] if each["min_score"] == 0.5)
    precision, recall = _range(half["precision_interval"]), _range(half["recall_interval"])
    return [
        f"learnt from {learnt['good']:,} good and {learnt['bad']:,} bad examples; tried on {tried['good']:,} and "
        f"{tried['bad']:,}: ROC AUC {report['auc']:.3f} ({low:.3f} to {high:.3f})",
        f"at 0.5 precision {half['precision']:.1%} ({precision}), recall {half['recall']:.1%} ({recall}), "
        f"F1 {half['f1']:.3f}; scores are {report['calibration_error']:.3f} from the truth on average",
    ]


def _range(interval: Sequence[float]) -> str:
    return f"{interval[0]:.1%} to {interval[1]:.1%}"


def _page(report: dict[str, Any]) -> str:
    """The report in Markdown."""
    thresholds = [
        [
            str(each["min_score"]), f"{each['kept']:,}", f"{each['precision']:.1%}",
            _range(each["precision_interval"]), f"{each['recall']:.1%}", _range(each["recall_interval"]),
            f"{each['f1']:.3f}",
        ]
        for each in report["thresholds"]
    ]  # fmt: skip
    truth = [
        [each["scores"], f"{each['examples']:,}", f"{each['score']:.3f}", f"{each['good']:.3f}"]
        for each in report["reliability"]
    ]
    telling = [
        f"- {kind}: " + ", ".join(f"`{json.dumps(each, ensure_ascii=False)[1:-1]}`" for each in report["telling"][kind])
        for kind in ("good", "bad")
    ]
    dropped = ", ".join(f"{count:,} {reason}" for reason, count in report["dropped"].items())
    parts = [
        "# Quality classifier",
        "\n".join(f"- {line}" for line in quality_report_lines(report)),
        "## Thresholds, on the examples held out",
        markdown_table(
            ["min_score", "kept", "precision", "95 % interval", "recall", "95 % interval", "F1"], thresholds
        ),
        "## Are the scores probabilities?",
        markdown_table(["scores", "examples", "mean score", "good in truth"], truth),
        f"Brier score {report['brier']:.4f}.",
        "## What tells them apart",
        "\n".join(telling),
        f"Examples left out: {dropped}. Those nearest to the border are in borderline.jsonl.",
    ]
    return "\n\n".join(parts) + "\n"
