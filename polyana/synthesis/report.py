"""What was made: counts, how rewards are spread, what they go with, what the best of n is worth."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polyana.evaluate import kl_of_best_of
from polyana.examples import Prompt
from polyana.synthesis.config import SynthesizeConfig
from polyana.synthesis.pairs import Asked, Counts, Pair

__all__ = ["best_of", "report_lines", "report_of", "report_page"]

_BINS = 10
_BARS = " ▁▂▃▄▅▆▇█"
_SHOWN = 400  # characters of an answer on the page
_STEEP = 0.5  # of a rank correlation with length, from which on it is told; guess


def report_of(
    found: Sequence[Asked], pairs: Sequence[Pair], best: int, counts: Counts, config: SynthesizeConfig
) -> dict[str, Any]:
    drawn = [answer for one in found for answer in one.drawn]
    names = list(drawn[0].scored.parts) if drawn else []
    columns = {name: np.array([each.scored.parts[name] for each in drawn]) for name in names}
    rewards = np.array([each.reward for each in drawn])
    lengths = np.array([each.written.tokens for each in drawn], np.float64)
    longer = [len(pair.chosen.written.text) > len(pair.rejected.written.text) for pair in pairs]
    revisions = {
        name: [each.reward for each in drawn if each.written.revision == name] for name in config.of
    }  # fmt: skip
    n = config.answers * len(config.of)
    return {
        "prompts": counts.prompts, "answers": counts.answers, "empty": counts.empty, "same": counts.same,
        "ties": counts.ties, "not_corrupted": counts.not_corrupted, "pairs": dict(sorted(counts.pairs.items())),
        "best": best, "unfinished": sum(not each.written.ended for one in found for each in one.answers),
        "reward": _spread(rewards),
        "parts": {name: _spread(column) for name, column in columns.items()},
        "with_length": {"reward": _rank_correlation(rewards, lengths),
                        **{name: _rank_correlation(column, lengths) for name, column in columns.items()}},
        "chosen_is_longer": sum(longer) / len(longer) if longer else None,
        "revisions": {name: float(np.mean(each)) if each else None for name, each in revisions.items()},
        "best_of": {str(k): best_of([[each.reward for each in one.drawn] for one in found], k)
                    for k in _powers(n)},
        "kl_of_best": {str(k): kl_of_best_of(k) for k in _powers(n)},
    }  # fmt: skip


def best_of(rewards: Sequence[Sequence[float]], k: int) -> float | None:
    """The expected reward of the best of k answers, from n >= k of each prompt: of each set of k that could have been
    drawn the best (Nakano et al. 2021, appendix I). None where no prompt has so many."""
    means = []
    for each in rewards:
        n = len(each)
        if n >= k:
            rising = sorted(each)
            shares = [math.comb(place, k - 1) / math.comb(n, k) for place in range(n)]
            means.append(sum(share * reward for share, reward in zip(shares, rising, strict=True)))
    return float(np.mean(means)) if means else None


def _powers(n: int) -> list[int]:
    return sorted({*(1 << power for power in range(n.bit_length()) if 1 << power <= n), n})


def _spread(values: NDArray[np.float64]) -> dict[str, Any]:
    if not len(values):
        return {"mean": None, "lowest": None, "highest": None, "counts": []}
    low, high = float(values.min()), float(values.max())
    counts = np.histogram(values, _BINS, (low, high if high > low else low + 1.0))[0]
    return {"mean": float(values.mean()), "lowest": low, "highest": high, "counts": [int(each) for each in counts]}


def _rank_correlation(one: NDArray[np.float64], other: NDArray[np.float64]) -> float | None:
    """Spearman's; None where one of the two is always the same."""
    ranks = [_ranks(each) for each in (one, other)]
    if len(one) < 3 or not all(each.std() for each in ranks):
        return None
    return float(np.corrcoef(ranks[0], ranks[1])[0, 1])


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks: NDArray[np.float64] = (np.cumsum(counts) - (counts - 1) / 2)[place]
    return ranks


def report_lines(report: dict[str, Any]) -> list[str]:
    """The report for the terminal."""
    pairs = ", ".join(f"{count:,} {name}" for name, count in report["pairs"].items()) or "none"
    left = [f"{report[name]:,} {what}" for name, what in (
        ("same", "the same as another"), ("empty", "empty"), ("unfinished", "cut off at `max_tokens`"))
        if report[name]]  # fmt: skip
    lines = [
        f"{report['answers']:,} answers to {report['prompts']:,} prompts" + (f" ({', '.join(left)})" if left else ""),
        f"pairs: {pairs}; {report['ties']:,} prompts whose answers are a tie; {report['best']:,} best answers",
    ]
    for name, spread in (("reward", report["reward"]), *report["parts"].items()):
        if spread["mean"] is not None:
            most = max(spread["counts"])
            bars = "".join(_BARS[math.ceil(count / most * (len(_BARS) - 1))] for count in spread["counts"])
            shown = f"{spread['lowest']:8.3g} {bars} {spread['highest']:.3g}"
            lines.append(f"{name:<14}{shown}  mean {spread['mean']:.3g}")
    curve = [f"{k} {reward:.3g}" for k, reward in report["best_of"].items() if reward is not None]
    if len(curve) > 1:
        lines.append(f"reward of the best of {', '.join(curve)}")
    steep = report["with_length"]["reward"]
    if steep is not None and abs(steep) >= _STEEP:
        lines.append(
            f"the reward goes with length (rank correlation {steep:+.2f}): what is trained on these pairs will write "
            f"{'longer' if steep > 0 else 'shorter'} answers; watch it with a `gold` measure"
        )
    return lines


def report_page(report: dict[str, Any], examples: Sequence[tuple[Prompt, Pair]]) -> str:
    """The report in Markdown."""
    parts = ["# Synthetic preferences", "\n".join(f"- {line}" for line in report_lines(report)[:2])]
    names = ["reward", *report["parts"]]
    rows = ["| | lowest | mean | highest | spread | with length |", "|---|--:|--:|--:|---|--:|"]
    for name in names:
        spread = report["reward"] if name == "reward" else report["parts"][name]
        if spread["mean"] is None:
            continue
        along = report["with_length"][name]
        rows.append(
            f"| {name} | {spread['lowest']:.4g} | {spread['mean']:.4g} | {spread['highest']:.4g} | "
            f"{' '.join(map(str, spread['counts']))} | {'-' if along is None else f'{along:+.2f}'} |"
        )
    parts += ["## Scores", "\n".join(rows), "With length: Spearman's rank correlation with an answer's tokens."]
    curve = ["| best of | reward | KL, nats |", "|--:|--:|--:|"]
    for k, reward in report["best_of"].items():
        if reward is not None:
            curve.append(f"| {k} | {reward:.4g} | {report['kl_of_best'][k]:.3f} |")
    parts += ["## The best of n", "\n".join(curve)]
    for prompt, pair in examples:
        shown = [f"**{name}** ({answer.reward:.3g}{', ' + answer.corruption if answer.corruption else ''}): "
                 + json.dumps(answer.written.text[:_SHOWN], ensure_ascii=False)
                 for name, answer in (("chosen", pair.chosen), ("rejected", pair.rejected))]  # fmt: skip
        asked = json.dumps(str(prompt.messages[-1]["content"])[:_SHOWN], ensure_ascii=False)
        parts += [f"### {asked}", "\n\n".join(shown)]
    return "\n\n".join(parts) + "\n"
