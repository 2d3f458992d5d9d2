"""Scored answers to a prompt -> pairs of them, the best ones, and good ones made bad."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations

from polyana.examples import Prompt
from polyana.rewards import Scored
from polyana.synthesis.config import CorruptConfig, PairsConfig
from polyana.synthesis.corrupt import corrupt
from polyana.synthesis.write import Written, seed_of

__all__ = ["Answer", "Asked", "Counts", "Pair", "corrupted", "pairs_of"]


@dataclass(frozen=True, slots=True)
class Answer:
    """corruption: what was done to a good answer, for one that was made bad."""

    written: Written
    scored: Scored
    corruption: str | None = None

    @property
    def reward(self) -> float:
        return self.scored.reward


@dataclass(frozen=True, slots=True)
class Asked:
    """A prompt and its answers, each text once, the highest reward first; of equal ones the one drawn first. drawn: all
    that were, as often as they were, the empty ones too: what means over answers are of."""

    prompt: Prompt
    answers: list[Answer]
    drawn: list[Answer]


@dataclass(frozen=True, slots=True)
class Pair:
    chosen: Answer
    rejected: Answer
    rule: str


@dataclass(slots=True)
class Counts:
    """What became of the prompts. not_corrupted: whose best answer lent itself to none of the kinds."""

    prompts: int = 0
    answers: int = 0
    same: int = 0  # answers to one prompt that are the same text
    empty: int = 0
    ties: int = 0  # prompts
    not_corrupted: int = 0
    pairs: dict[str, int] = field(default_factory=dict)

    def add(self, pairs: Sequence[Pair]) -> None:
        for pair in pairs:
            name = pair.rejected.corruption or pair.rule
            self.pairs[name] = self.pairs.get(name, 0) + 1


def asked(prompt: Prompt, answers: Sequence[tuple[Written, Scored]], counts: Counts) -> Asked:
    """The answers to a prompt, best first, without empty ones and those that are there already."""
    counts.prompts += 1
    drawn, kept = [Answer(*each) for each in answers], dict[str, Answer]()
    for answer in drawn:
        counts.answers += 1
        if not answer.written.text:
            counts.empty += 1
        elif answer.written.text in kept:
            counts.same += 1
        else:
            kept[answer.written.text] = answer
    return Asked(prompt, sorted(kept.values(), key=lambda each: -each.reward), drawn)


def pairs_of(one: Asked, config: PairsConfig, counts: Counts) -> list[Pair]:
    """The pairs that the rule makes of a prompt's answers."""
    if len(one.answers) < 2:
        return []
    if config.rule == "best_worst":
        best, worst = one.answers[0], one.answers[-1]
        found = [Pair(best, worst, "best_worst")] if best.reward - worst.reward > config.min_gap else []
    else:
        apart = [
            Pair(better, worse, "margin")
            for better, worse in combinations(one.answers, 2)
            if better.reward - worse.reward >= config.min_gap
        ]
        found = sorted(apart, key=lambda pair: pair.rejected.reward - pair.chosen.reward)[: config.most]
    counts.ties += not found
    counts.add(found)
    return found


def corrupted(
    prompts: Sequence[Asked], config: CorruptConfig, foreign: Sequence[str], seed: int, counts: Counts
) -> list[tuple[Asked, Written, str]]:
    """(a prompt, its best answer made bad, how) for a share of the prompts. What is done follows from the seed and the
    prompt's id alone, but for the facts, which come from all other answers."""
    best = [(one, one.answers[0].written) for one in prompts if one.answers]
    found = []
    for one, written in best:
        draw = random.Random(seed_of(seed, one.prompt.id, "corrupt"))
        if draw.random() >= config.share:
            continue
        others = [other.text for each, other in best if each.prompt.id != one.prompt.id]
        bad = corrupt(written.text, config.kinds, others, foreign, draw)
        if bad is None:
            counts.not_corrupted += 1
            continue
        kind, text = bad
        found.append((one, replace(written, text=text, tokens=0, ended=True), kind))
    return found
