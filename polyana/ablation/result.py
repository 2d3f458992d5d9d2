"""What the trained models say: which text was the better one, by how much, and how much sooner.

Shapes: S seeds, N evaluations, D held-out documents.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polyana.ablation.texts import Written
from polyana.evaluate import Difference, bits_per_byte_difference, mean_and_interval
from polyana.tracking import show_clock

__all__ = ["ALL", "Measured", "Trained", "reached_at", "result_of", "verdict_lines"]

ALL = "all"
"""Held-out documents of all domains together."""


@dataclass(frozen=True)
class Trained:
    """One model. `curves`: bits per byte of each domain after so many `tokens`; `nats`: of each held-out document."""

    run: str
    seed: int
    tokens: Sequence[int]
    curves: Mapping[str, Sequence[float]]
    nats: Sequence[float]
    seconds: float


@dataclass(frozen=True)
class Measured:
    """One variant: the steps that it does without, its text, the tokens in it, its models by seed."""

    without: Sequence[str]
    text: Written
    tokens: int
    trained: Sequence[Trained]

    def bits(self) -> NDArray[np.float64]:
        """[S, D]."""
        return np.array([each.nats for each in self.trained]) / math.log(2)


def reached_at(tokens: Sequence[int], values: Sequence[float], goal: float) -> float | None:
    """After how many tokens a curve first comes down to a goal, on straight lines between its points."""
    for at, value in enumerate(values):
        if value <= goal:
            if not at:
                return float(tokens[0])
            share = (values[at - 1] - goal) / (values[at - 1] - value)
            return tokens[at - 1] + share * (tokens[at] - tokens[at - 1])
    return None


def result_of(
    found: Mapping[str, Measured], domains: Sequence[str], bytes_D: NDArray[np.int64], settings: Mapping[str, Any]
) -> dict[str, Any]:
    """Plain data for ablation.json; `domains` and `bytes_D` are those of the held-out documents."""
    rows = {ALL: np.arange(len(domains))}
    rows |= {name: np.flatnonzero(np.array(domains) == name) for name in dict.fromkeys(domains)}
    return {
        "settings": dict(settings),
        "held_out": {
            name: {"documents": len(mine), "bytes": int(bytes_D[mine].sum())} for name, mine in rows.items()
        },
        "variants": {name: _variant(each) for name, each in found.items()},
        "against": {
            name: {domain: _compared(found["cleaned"], each, mine, bytes_D) for domain, mine in rows.items()}
            for name, each in found.items()
            if name != "cleaned"
        },
        "reach": _reach(found["raw"], found["cleaned"]),
    }  # fmt: skip


def _variant(found: Measured) -> dict[str, Any]:
    tokens = found.trained[0].tokens
    curves = {}
    for domain in found.trained[0].curves:
        mean_N, reach_N = mean_and_interval(np.array([each.curves[domain] for each in found.trained]))
        curves[domain] = {"mean": mean_N.tolist(), "reach": reach_N.tolist()}
    return {
        "without": list(found.without),
        "documents": found.text.documents, "bytes": found.text.bytes, "tokens": found.tokens,
        "domains": found.text.domains, "whole": found.text.whole,
        "excluded_documents": found.text.excluded_documents, "excluded_bytes": found.text.excluded_bytes,
        "epochs": tokens[-1] / found.tokens * found.text.share,
        "seconds": float(np.mean([each.seconds for each in found.trained])),
        "after_tokens": list(tokens), "bits_per_byte": curves,
        "models": [{"run": each.run, "seed": each.seed, "seconds": each.seconds,
                    "bits_per_byte": {domain: curve[-1] for domain, curve in each.curves.items()}}
                   for each in found.trained],
    }  # fmt: skip


def _compared(
    cleaned: Measured, other: Measured, rows: NDArray[np.int64], bytes_D: NDArray[np.int64]
) -> dict[str, Any]:
    """`difference`: cleaned minus other, so that what is below 0 speaks for the cleaned text."""
    found: Difference = bits_per_byte_difference(cleaned.bits()[:, rows], other.bits()[:, rows], bytes_D[rows])
    return {
        "cleaned": found.first, "other": found.second, "difference": found.value, "low": found.low, "high": found.high,
        "seen": found.is_seen,
    }  # fmt: skip


def _reach(raw: Measured, cleaned: Measured) -> dict[str, Any]:
    """After how many tokens, and seconds of training, each model on cleaned text was where the raw one of its seed
    ended; None for one that never was."""
    tokens = [
        reached_at(mine.tokens, mine.curves[ALL], theirs.curves[ALL][-1])
        for mine, theirs in zip(cleaned.trained, raw.trained, strict=True)
    ]
    # all models take as long for a token, but for what else the machine did meanwhile
    of_tokens = raw.trained[0].tokens[-1]
    of_seconds = float(np.mean([each.seconds for each in [*raw.trained, *cleaned.trained]]))
    seconds = [at / of_tokens * of_seconds if at is not None else None for at in tokens]
    return {"tokens": tokens, "seconds": seconds, "of_tokens": of_tokens, "of_seconds": of_seconds}


def verdict_lines(result: Mapping[str, Any]) -> list[str]:
    """What came out, in sentences."""
    seeds = len(result["variants"]["raw"]["models"])
    found = result["against"]["raw"][ALL]
    chance = f"{_interval(found)}; {seeds} seeds, {result['held_out'][ALL]['documents']:,} held-out documents"
    figures = f"{found['cleaned']:.3f} bits per byte of held-out clean text where raw text came to {found['other']:.3f}"
    runs = [{model["run"] for model in result["variants"][name]["models"]} for name in ("raw", "cleaned")]
    if runs[0] == runs[1]:
        lines = ["no difference between cleaned and raw text: no step changed anything in what models learn from"]
    elif found["seen"]:
        what = "cleaning helped" if found["difference"] < 0 else "CLEANING DID HARM"
        lines = [f"{what}: {figures} ({chance})"]
    else:
        lines = [f"no difference between cleaned and raw text can be seen: {figures} ({chance})"]
    if found["seen"] and found["difference"] < 0:
        lines.append(_reached(result["reach"]))
    for name, each in ((name, each[ALL]) for name, each in result["against"].items() if name != "raw"):
        step = name.removeprefix("without_")
        if not each["seen"]:
            lines.append(f"{step}: no difference can be seen ({_interval(each)})")
        else:
            lines.append(f"{step}: {'helped' if each['difference'] < 0 else 'DID HARM'} ({_interval(each)})")
    return lines


def _interval(found: Mapping[str, Any]) -> str:
    if found["low"] is None:
        return f"difference {found['difference']:+.3f}, too few documents for an interval"
    return f"difference {found['difference']:+.3f}, with 95 % from {found['low']:+.3f} to {found['high']:+.3f}"


def _reached(reach: Mapping[str, Any]) -> str:
    came = [at for at in reach["tokens"] if at is not None]
    if len(came) < len(reach["tokens"]):
        of = len(reach["tokens"])
        return f"{len(came)} of {of} models on cleaned text came to where the raw one of their seed ended"
    seconds = [show_clock(each) for each in (float(np.mean(reach["seconds"])), reach["of_seconds"])]
    share = 100 * np.array(came) / reach["of_tokens"]
    return (
        f"on cleaned text the raw model's loss was reached after {np.mean(came):,.0f} of {reach['of_tokens']:,} tokens "
        f"({share.mean():.0f} %; between {share.min():.0f} and {share.max():.0f} %), in {seconds[0]} of "
        f"{seconds[1]} of training"
    )
