"""What a test found out: the scores of single items, and metrics made of them with their intervals.

An item is a question, a document, a text. Of each metric it has a numerator and a denominator; the metric is the ratio
of their sums: 1 of 1 for a right answer, nats of tokens for a document's loss.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from polyana.evaluate.bootstrap import drawn_ratios, in_groups, interval, p_value

__all__ = ["Better", "Item", "Metric", "Paired", "Scored", "better_of", "metrics_of", "paired_tests"]

Better = Literal["higher", "lower"]

_BETTER: dict[str, Better | None] = {
    "loss": "lower", "perplexity": "lower", "bits_per_byte": "lower",
    "acc": "higher", "acc_norm": "higher", "acc_bytes": "higher",
    "exact_match": "higher", "exact_match_flexible": "higher",
    "segment_chrf": "higher", "bleu": "higher", "chrf": "higher", "document_bleu": "higher", "document_chrf": "higher",
    "repetition": "lower", "unfinished": "lower", "distinct_1": None, "distinct_2": None, "distinct_3": None,
    "length": None,
}  # fmt: skip
"""Of lengths and of distinct n-grams neither more nor less is better in general."""


@dataclass(frozen=True)
class Item:
    """`group`: items of one group are not independent of each other, as questions about one text. `text`: what would
    stand in a training text that gives it away; "" where nothing would. `shown`: what to show of it, by headings."""

    id: str
    group: str
    scores: Mapping[str, tuple[float, float]]
    shown: Mapping[str, str] = field(default_factory=dict)
    text: str = ""

    def as_data(self) -> dict[str, Any]:
        """For JSON; the text is left out, since what is shown has what people want of it."""
        found = asdict(self)
        del found["text"]
        return found


@dataclass(frozen=True)
class Metric:
    """`low`, `high`: the 95 % interval, None where there is none. `n`: items; `groups`: those that were drawn.
    `better`: None where neither is."""

    value: float
    low: float | None
    high: float | None
    n: int
    groups: int
    better: Better | None = None


@dataclass(frozen=True)
class Scored:
    """What a test found out. `metrics`: those that are no ratio of items' sums; `better`: which way metrics are better
    whose names say nothing here. `about`: how it was measured, as plain data."""

    items: Sequence[Item]
    metrics: Mapping[str, Metric] = field(default_factory=dict)
    better: Mapping[str, Better] = field(default_factory=dict)
    about: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Paired:
    """One metric of two systems that answered the same items; `difference` is system minus baseline."""

    metric: str
    baseline: float
    system: float
    difference: float
    low: float | None
    high: float | None
    p_value: float | None
    n: int
    better: Better | None

    @property
    def verdict(self) -> str:
        if self.p_value is None:
            return "too few to say"
        if not self.difference:
            return "no difference"
        if self.p_value >= 0.05:  # the field's custom
            return "may be chance"
        if self.better is None:
            return "differs"
        return "better" if (self.difference > 0) == (self.better == "higher") else "worse"


def better_of(metric: str) -> Better | None:
    """Which way a metric is better; it may have the name of its task in front."""
    return _BETTER.get(metric.rpartition(".")[2])


def metrics_of(scored: Scored) -> dict[str, Metric]:
    """Every metric that items have scores of, in the order they come; behind a loss its perplexity; then the others."""
    found = dict[str, Metric]()
    for name in _names(scored.items):
        above_G, below_G, count = _sums(scored.items, name)
        if not below_G.sum():
            continue
        ends = interval(above_G, below_G)
        value, (low, high) = float(above_G.sum() / below_G.sum()), ends or (None, None)
        found[name] = Metric(value, low, high, count, len(above_G), scored.better.get(name) or better_of(name))
        if name.rpartition(".")[2] == "loss":
            low, high = (None if end is None else _exp(end) for end in (low, high))
            found[_perplexity(name)] = Metric(_exp(value), low, high, count, len(above_G), "lower")
    for name, metric in scored.metrics.items():
        found[name] = replace(metric, better=scored.better.get(name) or metric.better or better_of(name))
    return found


def paired_tests(
    baseline: Sequence[Item], system: Sequence[Item], better: Callable[[str], Better | None] = better_of
) -> list[Paired]:
    """Of each metric, whether the two differ by more than chance: a paired bootstrap over groups of items.

    Items are paired by their ids, which must be the same ones.
    """
    theirs = {item.id: item for item in baseline}
    pairs = [(theirs[item.id], item) for item in system]
    assert len(pairs) == len(theirs)
    found = []
    for name in _names(system):
        both = [(old, new) for old, new in pairs if name in old.scores and name in new.scores]
        if not both:
            continue
        (old_above, old_below), (new_above, new_below) = (
            in_groups([new.group for _, new in both], np.array([each[at].scores[name] for each in both]).T)
            for at in (0, 1)
        )  # fmt: skip
        if not old_below.sum() or not new_below.sum():
            continue
        before, after = float(old_above.sum() / old_below.sum()), float(new_above.sum() / new_below.sum())
        low = high = p = None
        if len(old_above) > 1:
            drawn = drawn_ratios(np.stack([old_above, new_above]), np.stack([old_below, new_below]))
            differences = drawn[1] - drawn[0]
            low, high = map(float, np.nanquantile(differences, [0.025, 0.975]))
            p = p_value(after - before, differences)
        found.append(Paired(name, before, after, after - before, low, high, p, len(both), better(name)))
    return found


def _names(items: Iterable[Item]) -> list[str]:
    return list(dict.fromkeys(name for item in items for name in item.scores))


def _sums(items: Sequence[Item], name: str) -> tuple[NDArray[np.float64], NDArray[np.float64], int]:
    scored = [item for item in items if name in item.scores]
    above, below = in_groups([item.group for item in scored], np.array([item.scores[name] for item in scored]).T)
    return above, below, len(scored)


def _perplexity(loss: str) -> str:
    return loss.removesuffix("loss") + "perplexity"


def _exp(value: float) -> float:
    return math.exp(min(value, 700.0))  # beyond it a float overflows
