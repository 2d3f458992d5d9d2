"""Good answers made bad in ways that have names. Each gives None where an answer does not lend itself to it."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence

__all__ = ["CORRUPTIONS", "corrupt"]

_SENTENCE = re.compile(r"[^.!?…]+(?:[.!?…]+[\"'»)]*|$)\s*")
_FACT = re.compile(r"\d[\d,.]*\d|\d|(?<![.!?…]\s)(?<!^)\b[A-ZА-ЯЁ][\w-]+")
"""Numbers, and words with a capital that begin no sentence."""
_TRIES = 20  # orders or swaps drawn before an answer is given up; guess


def _sentences(text: str) -> list[str]:
    return [found.strip() for found in _SENTENCE.findall(text) if found.strip()]


def _shuffle(text: str, _others: Sequence[str], draw: random.Random) -> str | None:
    sentences = _sentences(text)
    for _ in range(_TRIES):
        mixed = draw.sample(sentences, len(sentences))
        if mixed != sentences:
            return " ".join(mixed)
    return None


def _facts(text: str, others: Sequence[str], draw: random.Random) -> str | None:
    """Each number becomes another number, each name another name, of another answer."""
    own = set(_FACT.findall(text))
    pool = [fact for other in draw.sample(others, min(len(others), _TRIES)) for fact in _FACT.findall(other)]
    numbers = [fact for fact in pool if fact[0].isdigit() and fact not in own]
    names = [fact for fact in pool if not fact[0].isdigit() and fact not in own]
    swapped: dict[str, str] = {}

    def swap(match: re.Match[str]) -> str:
        fact = match[0]
        source = numbers if fact[0].isdigit() else names
        if fact not in swapped and source:
            swapped[fact] = draw.choice(source)
        return swapped.get(fact, fact)

    changed = _FACT.sub(swap, text)
    return changed if changed != text else None


def _truncate(text: str, _others: Sequence[str], draw: random.Random) -> str | None:
    words = text.split(" ")
    if len(words) < 4:
        return None
    keep = draw.randint(max(1, len(words) * 3 // 10), max(1, len(words) * 7 // 10))
    return " ".join(words[:keep]).rstrip(" .!?…,;:\n")


def _repeat(text: str, _others: Sequence[str], draw: random.Random) -> str | None:
    sentences = _sentences(text)
    if not sentences:
        return None
    place = draw.randrange(len(sentences))
    return " ".join([*sentences[: place + 1], *[sentences[place]] * draw.randint(3, 6)])


CORRUPTIONS: dict[str, Callable[[str, Sequence[str], random.Random], str | None]] = {
    "shuffle": _shuffle, "facts": _facts, "truncate": _truncate, "repeat": _repeat,
}  # fmt: skip


def corrupt(
    text: str, kinds: Sequence[str], others: Sequence[str], foreign: Sequence[str], draw: random.Random
) -> tuple[str, str] | None:
    """(kind, the bad answer) by one of the kinds, or by the next one that the answer lends itself to.

    others: answers to other prompts, which facts are taken from. foreign: texts in another language.
    """
    first = draw.randrange(len(kinds))
    for kind in [*kinds[first:], *kinds[:first]]:
        if kind == "language":
            bad = draw.choice(foreign) if foreign else None
        else:
            bad = CORRUPTIONS[kind](text, others, draw)
        if bad and bad.strip() and bad.strip() != text.strip():
            return kind, bad.strip()
    return None
