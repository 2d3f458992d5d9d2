"""What each threshold throws out, and what others in its place would; which documents are nearest to it.

All from the columns that steps measured: no text is read.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil, floor, isinf, log10
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from polyana.corpus.decide import Decided, measured
from polyana.corpus.stage import CorpusConfig
from polyana.corpus.steps import Judging
from polyana.corpus.steps.step import StepConfig, Verdict

__all__ = ["Nearest", "nearest_to_thresholds", "threshold_curves"]

_SAMPLE = 20_000  # documents: a share is known to 0.7 % (two standard errors at a half)
_BINS = 40  # of a histogram, at most; guess: more are thinner than is seen
_SWEEP = 20  # thresholds that are tried, about
_AROUND = (0.5, 0.75, 0.9, 1.1, 1.25, 1.5)  # parts of the threshold that are tried too
_TAIL = 0.005  # share of the values on either side that may lie outside the axis; guess
_NEAREST = 10  # documents on each side of a threshold
_R10 = (1.0, 1.25, 1.6, 2.0, 2.5, 3.2, 4.0, 5.0, 6.3, 8.0)  # preferred numbers, ten a decade (ISO 3)

_BESIDE = 0.08  # of the axis that is seen beyond a threshold outside the values; guess

Side = Literal["least", "most"]


@dataclass(frozen=True)
class _Judged:
    """What one verdict says of documents of one language in a chunk; `only`: that no other of its step throws out."""

    verdict: Verdict
    only: NDArray[np.bool_]


def threshold_curves(config: CorpusConfig, places: tuple[int, ...], decided: Decided) -> list[dict[str, Any]]:
    """For each verdict of these steps and each language what its number is like, and what is thrown at which threshold.

    Of the documents that come to a step those are taken whose hashes are smallest, about 20,000.
    """
    found = []
    for place in places:
        step = config.all_steps[place]
        if type(step).verdicts is StepConfig.verdicts:
            continue
        come = [decided.places(number) >= place for number in range(len(decided.chunks))]
        documents = sum(int(each.sum()) for each in come)
        last = min(1.0, _SAMPLE / max(1, documents)) * 2.0**64
        wanted = [
            each & (chunk.column("order") <= last) for each, chunk in zip(come, decided.chunks, strict=True)
        ]  # fmt: skip
        for (language, _), judged in _gathered(config, place, decided, wanted).items():
            only = np.concatenate([each.only for each in judged])
            values = np.concatenate([each.verdict.values for each in judged])
            for side, threshold in _sides(judged[0].verdict):
                about = {
                    "step": step.kind, "place": place, "reason": judged[0].verdict.reason, "language": language,
                    "side": side, "threshold": threshold, "documents": len(values),
                }  # fmt: skip
                if len(values):
                    found.append(about | {"only": round(float(only.mean()), 6)} | _curve(values, side, threshold))
    return found


def _gathered(
    config: CorpusConfig, place: int, decided: Decided, wanted: list[NDArray[np.bool_]]
) -> dict[tuple[str, int], list[_Judged]]:
    """By language and number of the verdict what it says, chunk by chunk."""
    found: dict[tuple[str, int], list[_Judged]] = {}
    for chunk, rows in zip(decided.chunks, wanted, strict=True):
        for language, _, columns in measured(chunk, place, config.languages, rows):
            verdicts = list(config.all_steps[place].verdicts(columns, language))
            thrown = np.array([verdict.thrown for verdict in verdicts])
            once = thrown.sum(0) == 1
            for number, verdict in enumerate(verdicts):
                found.setdefault((language, number), []).append(_Judged(verdict, thrown[number] & once))
    return dict(sorted(found.items(), key=lambda item: (config.languages.index(item[0][0]), item[0][1])))


def _sides(verdict: Verdict) -> Iterator[tuple[Side, float]]:
    """The thresholds of a verdict but those that are switched off."""
    if verdict.least is not None and not isinf(verdict.least):
        yield "least", float(verdict.least)
    if verdict.most is not None and not isinf(verdict.most):
        yield "most", float(verdict.most)


def _curve(values: NDArray[Any], side: Side, threshold: float) -> dict[str, Any]:
    whole = bool(values.dtype.kind in "iub")
    finite = np.sort(values[np.isfinite(values)].astype(np.float64))
    if not len(finite):
        finite = np.zeros(1)
    is_log, edges = _axis(finite, threshold, whole)
    counts, _ = np.histogram(finite, edges)
    gone = finite[finite < threshold] if side == "least" else finite[finite > threshold]
    tried = edges[:: max(1, round(len(edges) / _SWEEP))]
    tried = np.array([*tried, *(float(f"{threshold * part:.12g}") for part in _AROUND)])
    tried = np.unique([*(np.ceil(tried) if whole else tried), threshold])
    if side == "least":
        out = np.searchsorted(finite, tried, "left") / len(finite)
    else:
        out = 1 - np.searchsorted(finite, tried, "right") / len(finite)
    shares = dict(zip(tried.tolist(), (round(each, 6) for each in out.tolist()), strict=True))
    return {
        "thrown": shares[threshold], "whole": whole, "log": is_log,
        "distinct": int(1 + np.count_nonzero(np.diff(finite))),
        "quantiles": [_short(each) for each in np.quantile(finite, [0, 0.05, 0.25, 0.5, 0.75, 0.95, 1])],
        "edges": edges.tolist(), "counts": counts.tolist(),
        "gone": np.histogram(gone, edges)[0].tolist(),
        "below": int((finite < edges[0]).sum()), "above": int((finite > edges[-1]).sum()),
        "sweep": [[each, share] for each, share in shares.items()],
    }  # fmt: skip


def _short(value: float) -> float:
    """With as many digits as anybody reads; a whole number as it is."""
    return value if value == int(value) else float(f"{value:.6g}")


def _axis(values: NDArray[np.float64], threshold: float, whole: bool) -> tuple[bool, NDArray[np.float64]]:
    """Borders of a histogram at round numbers: where nearly all values lie, with the threshold if it is not far off.

    Numbers of things that reach far, as those of words, get a logarithmic axis, which it says first.
    """
    low, high = np.quantile(values, [_TAIL, 1 - _TAIL]).tolist()
    if whole and low >= 0 and threshold >= 0 and max(high, threshold) > 500:  # guess
        exponents = range(floor(log10(max(1.0, low))), ceil(log10(max(high, threshold, 2.0))) + 1)
        borders = np.unique([max(1.0, float(round(step * 10.0**each))) for each in exponents for step in _R10])
        begin = np.searchsorted(borders, max(1.0, min(low, threshold)), "right") - 1
        end = np.searchsorted(borders, max(high, threshold) * (1 + 1e-9)) + 1
        borders = borders[max(0, begin) : end]
        return True, np.concatenate([[0.0], borders]) if low < 1 else borders
    if min(abs(threshold - low), abs(threshold - high)) <= 10 * (high - low) or high == low:
        beside = _BESIDE * (max(high, threshold) - min(low, threshold))
        low = min(low, max(threshold - beside, min(low, 0.0)))
        high = max(high, threshold + beside)
    if high == low:
        high = low + (1 if whole else max(abs(low), 1e-3))
    step = _round_step(max((high - low) / _BINS, max(abs(low), abs(high)) * 1e-9), whole)
    first, last = floor(low / step + 1e-9), ceil(high / step - 1e-9)
    if whole:
        last += 1  # a number itself has its place between two borders
    return False, np.array([float(f"{place * step:.12g}") for place in range(first, last + 1)])


def _round_step(least: float, whole: bool) -> float:
    """The smallest of 1, 2, 2.5, 5 times a power of ten that is no smaller; of things counted a whole number."""
    if whole and least <= 1:
        return 1.0
    power = 10.0 ** floor(log10(least))
    return next(
        float(power * each)
        for each in (1, 2, 2.5, 5, 10)
        if power * each >= least * (1 - 1e-9) and not (whole and power * each % 1)
    )


@dataclass(frozen=True)
class Nearest:
    """The documents on both sides of a threshold that are nearest to it: (number, row of the corpus), nearest first."""

    step: str
    reason: str
    language: str
    side: Side
    threshold: float
    thrown: list[tuple[float, int]]
    kept: list[tuple[float, int]]


def nearest_to_thresholds(config: CorpusConfig, places: tuple[int, ...], decided: Decided) -> list[Nearest]:
    """For the steps that judge by what was learnt: where the eye has to say whether the threshold lies right."""
    found = []
    for place in places:
        step = config.all_steps[place]
        if not isinstance(step, Judging):
            continue
        near: dict[tuple[str, int], tuple[Verdict, list[tuple[float, float, int]], list[tuple[float, float, int]]]] = {}
        for number, chunk in enumerate(decided.chunks):
            come = decided.places(number) >= place
            for language, rows, columns in measured(chunk, place, config.languages, come):
                for at, verdict in enumerate(step.verdicts(columns, language)):
                    of = near.setdefault((language, at), (verdict, [], []))
                    of[1].extend(_nearest(verdict, rows + decided.firsts[number], thrown=True))
                    of[2].extend(_nearest(verdict, rows + decided.firsts[number], thrown=False))
        for (language, _), (verdict, *both) in near.items():
            thrown, kept = ([(value, row) for _, value, row in sorted(each)[:_NEAREST]] for each in both)
            for side, threshold in _sides(verdict):
                found.append(Nearest(step.kind, verdict.reason, language, side, threshold, thrown, kept))
    return found


def _nearest(verdict: Verdict, rows: NDArray[np.int64], *, thrown: bool) -> list[tuple[float, float, int]]:
    """(distance, number, row) of those documents nearest to the threshold that it throws out, or that it does not."""
    (threshold,) = [each for each in (verdict.least, verdict.most) if each is not None]
    mine = np.flatnonzero(verdict.thrown == thrown)
    values = verdict.values[mine].astype(np.float64)
    distances = np.abs(values - threshold)
    first = np.lexsort([rows[mine], distances])[:_NEAREST]
    return list(zip(distances[first].tolist(), values[first].tolist(), rows[mine][first].tolist(), strict=True))
