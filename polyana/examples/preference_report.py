"""What preferences are like, before anything is learned from them: what a model could learn in place of quality."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polyana.examples.preference_build import Item

__all__ = ["auc", "preference_report", "preference_report_lines"]

_FEW = 100  # answers of a class, or pairs, below which what is learned of them is mostly chance; guess
_RARE = 0.01  # of all answers; kto is tried down to here
_CONTRARY = 0.05  # of all items that contradict another, from which on a loss for noisy labels is named; guess
_BY_LENGTH = 0.7  # of pairs that length alone decides rightly (or wrongly), from which on it is told; guess


def auc(good: NDArray[np.int64], bad: NDArray[np.int64]) -> float:
    """The chance that of a good and a bad one, drawn at random, the good one is larger; ties count half (Mann and
    Whitney 1947). NaN where there are none of a kind."""
    if not len(good) or not len(bad):
        return float("nan")
    values, counts = np.unique(bad, return_counts=True)
    below = np.concatenate([[0], np.cumsum(counts)])
    left, right = np.searchsorted(values, good), np.searchsorted(values, good, side="right")
    return float((below[left] + below[right]).mean() / 2 / len(bad))


def preference_report(items: list[Item], single: bool) -> dict[str, Any]:
    """Plain data for report.json. Lengths are answers' tokens."""
    lengths = np.array([[int(weights.sum()) for _, weights in item.texts] for item in items], dtype=np.int64)
    desirable = np.array([item.desirable for item in items])
    good, bad = (lengths[desirable, 0], lengths[~desirable, 0]) if single else (lengths[:, 0], lengths[:, 1])
    same, contradicting = _repeated(items, single)
    parts = {split: [item for item in items if item.split == split] for split in ("train", "eval")}
    known = {words for item in parts["train"] for words in item.said}
    found: dict[str, Any] = {
        "unit": "answers" if single else "pairs",
        "items": {split: len(part) for split, part in parts.items()},
        "good": len(good), "bad": len(bad),
        "tokens": {"good": _spread(good), "bad": _spread(bad)},
        "length_auc": auc(good, bad),
        "duplicates": same, "contradictions": contradicting,
        "held_out_answers_in_training": sum(words in known for item in parts["eval"] for words in item.said),
    }  # fmt: skip
    if single:
        train = Counter(item.desirable for item in parts["train"])
        found["train"] = {"good": train[True], "bad": train[False]}
    else:
        longer = (lengths[:, 0] > lengths[:, 1]).mean() + (lengths[:, 0] == lengths[:, 1]).mean() / 2
        found["longer_is_chosen"] = float(longer)
        found["with_margin"] = sum(item.margin != 0 for item in items)
    return found


def _spread(lengths: NDArray[np.int64]) -> dict[str, float]:
    if not len(lengths):
        return {"mean": 0.0, "median": 0.0}
    return {"mean": float(lengths.mean()), "median": float(np.median(lengths))}


def _repeated(items: list[Item], single: bool) -> tuple[int, int]:
    """(items that say what an earlier one says, items that say the opposite)."""
    seen: Counter[tuple[object, ...]] = Counter()
    same = contradicting = 0
    for item in items:
        key: tuple[object, ...] = (item.prompt, *item.said) if not single else (item.prompt, *item.said, item.desirable)
        other = (item.prompt, *item.said[::-1]) if not single else (item.prompt, *item.said, not item.desirable)
        same += seen[key] > 0
        contradicting += seen[other] > 0
        seen[key] += 1
    return same, contradicting


def preference_report_lines(found: dict[str, Any]) -> list[str]:
    """The same for the terminal, with what should make somebody think."""
    unit, items, tokens = found["unit"], found["items"], found["tokens"]
    lines = [f"{items['train']:,} {unit} to learn from, {items['eval']:,} held out; no prompt is in both"]
    good, bad = ("good", "bad") if unit == "answers" else ("chosen", "rejected")
    if unit == "answers":
        share = found["good"] / max(found["good"] + found["bad"], 1)
        lines.append(f"{found['good']:,} good answers ({share:.1%}), {found['bad']:,} bad ones")
    lines.append(
        f"tokens of an answer, mean and median: {good} {tokens['good']['mean']:.0f} and "
        f"{tokens['good']['median']:.0f}, {bad} {tokens['bad']['mean']:.0f} and {tokens['bad']['median']:.0f}"
    )
    by_length = f"length alone tells {good} from {bad} with an AUC of {found['length_auc']:.2f}"
    if unit == "pairs":
        by_length += f"; of {found['longer_is_chosen']:.0%} of the pairs the longer answer is the chosen one"
    lines.append(by_length)
    for name, what in (
        ("duplicates", f"{unit} say what an earlier one says"),
        ("contradictions", f"{unit} say the opposite of an earlier one"),
        ("held_out_answers_in_training", "held-out answers are trained on, too, for other prompts"),
    ):
        lines += [f"{found[name]:,} {what}"] if found[name] else []
    return lines + [f"look at it: {warning}" for warning in _warnings(found)]


def _warnings(found: dict[str, Any]) -> list[str]:
    told = []
    train = found.get("train") or {"pairs": found["items"]["train"]}
    for name, count in train.items():
        if count < _FEW:
            what = name if name == "pairs" else f"{name} answers"
            told.append(f"only {count:,} {what} to learn from; what is learned of fewer than {_FEW} is mostly chance")
    if "train" in found:
        whole = max(sum(train.values()), 1)
        rare = min(train, key=lambda name: train[name])
        if train[rare] < _RARE * whole:
            told.append(f"{rare} answers are {train[rare] / whole:.2%} of all; weights make up for 1 %, not for less")
    items = sum(found["items"].values())
    if (contrary := found["contradictions"]) > _CONTRARY * items:
        robust = "; `loss: robust` reckons with labels that are wrong" if found["unit"] == "pairs" else ""
        told.append(f"{contrary:,} of {items:,} {found['unit']} contradict others, so their labels are noisy{robust}")
    by_length = found.get("longer_is_chosen", found["length_auc"])
    if not 1 - _BY_LENGTH < by_length < _BY_LENGTH:
        kind = "long" if by_length > 0.5 else "short"
        told.append(
            f"{kind} answers are preferred so often that a model may learn length alone; watch answers' lengths"
        )
    return told
