"""What a set of answers is like, whatever they are worth: variety, repetition, refusals, what length explains."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["beside_length", "distinct_n", "refusals", "repetition"]

_REPEATED = 4  # words in a row (seq-rep-4, Welleck et al. 2020, section 4)
_REFUSAL = re.compile(
    r"\b(?:I|we)(?:'m| am| are|'re)? (?:sorry|afraid|unable|not able|can(?:no|')t|won't|do not|don't (?:feel|have))\b"
    r"|\bas an AI\b|\bI (?:must|have to) decline\b|(?:я|мы) не (?:могу|можем|буду)\b|\bизвините\b|\bк сожалению\b",
    re.IGNORECASE,
)
"""What assistants begin to say when they do not answer, in English and Russian: a list, so a lower bound."""
_OPENING = 120  # characters of an answer in which it is looked for: later on "sorry" may be anybody's; guess


def distinct_n(texts: Sequence[str], n: int) -> float:
    """Different runs of n words among all of all texts together (Li et al. 2016): falls where answers become alike."""
    runs = [run for text in texts for run in _runs(text, n)]
    return len(set(runs)) / len(runs) if runs else 1.0


def repetition(texts: Sequence[str]) -> float:
    """The mean share of a text's runs of 4 words that it has had before (seq-rep-4, Welleck et al. 2020)."""
    shares = []
    for text in texts:
        runs = _runs(text, _REPEATED)
        shares.append(1 - len(set(runs)) / len(runs) if runs else 0.0)
    return sum(shares) / max(len(shares), 1)


def refusals(texts: Sequence[str]) -> float:
    """The share that begins with one of the usual words of refusing."""
    return sum(_REFUSAL.search(text[:_OPENING]) is not None for text in texts) / max(len(texts), 1)


def beside_length(
    reward_A: NDArray[np.float64], length_A: NDArray[np.float64], now_A: NDArray[np.bool_]
) -> float:  # fmt: skip
    """By how much the answers that are `now` are better than the others at the same length: c of the least squares fit
    reward = a + b length + c now. 0 where they cannot be told apart."""
    columns = np.stack([np.ones_like(length_A), length_A, now_A.astype(np.float64)], axis=1)
    if np.linalg.matrix_rank(columns) < 3:
        difference = reward_A[now_A].mean() - reward_A[~now_A].mean() if 0 < now_A.sum() < len(now_A) else 0.0
        return float(difference)
    return float(np.linalg.lstsq(columns, reward_A, rcond=None)[0][2])


def _runs(text: str, n: int) -> list[tuple[str, ...]]:
    words = re.findall(r"\w+", text.lower())
    return [tuple(words[at : at + n]) for at in range(len(words) - n + 1)]
