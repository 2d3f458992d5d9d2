"""Published rules of what a good document is, as decisions over what native_measures.py measures.

Gopher's of quality and repetition (Rae et al. 2021, section A.1) and FineWeb's (Penedo et al. 2024, section 3.6), with
the same decision and the same first reason as datatrove 0.10 gives. Thresholds belong to a language: English ones are
the papers', those of other languages are FineWeb 2's (Penedo et al. 2025; its repository's configs/).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from polyana.config import KeyPath
from polyana.corpus.steps.step import Block, Columns, Found, StepConfig, Surroundings, Verdict, Worker

__all__ = ["FineWebRule", "GopherQualityRule", "GopherRepetitionRule", "WordRule", "published_languages"]

_ENGLISH_STOPS = ("the", "be", "to", "of", "and", "that", "have", "with")  # Rae et al. 2021, section A.1.1
_RUSSIAN_STOPS = (
    "в", "и", "на", "с", "года", "по", "году", "из", "был", "к", "не", "от", "что", "за", "для", "его", "как", "а",
    "он", "также", "до", "после",
)  # fmt: skip
_OFF = float("inf")

PUBLISHED: dict[str, dict[str, Any]] = {
    "en": {
        "max_mean_length": 10.0, "min_alphabetic": 0.8, "stop_words": _ENGLISH_STOPS,
        "max_duplicate_lines": 0.3, "max_duplicate_line_characters": 0.2,
        "max_duplicate_paragraphs": 0.3, "max_duplicate_paragraph_characters": 0.2,
        "max_top_grams": (0.2, 0.18, 0.16), "max_duplicate_grams": (0.15, 0.14, 0.13, 0.12, 0.11, 0.10),
        "min_ended_lines": 0.12, "max_short_lines": 0.67, "max_repeated_characters": 0.01, "max_newlines": 0.3,
    },
    "ru": {
        "max_mean_length": 11.0, "min_alphabetic": 0.713, "stop_words": _RUSSIAN_STOPS,
        "max_duplicate_lines": 0.322, "max_duplicate_line_characters": _OFF,
        "max_duplicate_paragraphs": _OFF, "max_duplicate_paragraph_characters": _OFF,
        "max_top_grams": (0.184, 0.164, 0.146), "max_duplicate_grams": (0.168, 0.156, 0.145, 0.133, 0.121, 0.109),
        "min_ended_lines": 0.231, "max_short_lines": _OFF, "max_repeated_characters": 0.1, "max_newlines": 0.139,
    },
}  # fmt: skip
"""Thresholds by language (ISO 639-1); English as Rae et al. 2021 and Penedo et al. 2024 print them, Russian as FineWeb
2's configs/rus_Cyrl.yml and pipeline have them."""


def published_languages() -> list[str]:
    """Those that every threshold is known for."""
    return list(PUBLISHED)


def _number(text: str) -> Any:
    return Field(None, description=f"{text}; default: the language's published number")


class WordRule(StepConfig):
    """What rules share that count words. `counted`: those of native_measures.METRICS that they decide by."""

    counted: ClassVar[tuple[str, ...]] = ()
    counts_words = True

    def worker(self, surroundings: Surroundings) -> Worker:
        words = surroundings.words
        assert words is not None

        def count(block: Block) -> Found:
            counts = words.counts(block, self.counted)
            return Found({name: values.astype(np.int32) for name, values in counts.items()})

        return count

    def threshold(self, name: str, language: str) -> Any:
        """As the recipe gives it, or as it was published for the language."""
        given = getattr(self, name)
        return PUBLISHED[language][name] if given is None else given

    def needs(self) -> list[str]:
        """The settings that a language has to have published numbers for."""
        return [name for name in type(self).model_fields if name in PUBLISHED["en"] and getattr(self, name) is None]


class GopherQualityRule(WordRule):
    """Gopher's rules of quality (Rae et al. 2021, section A.1.1)."""

    counted = (
        "words", "solid_words", "solid_characters", "alphabetic_words", "stop_words", "hashes", "ellipses", "rows",
        "bullet_rows", "ellipsis_rows",
    )  # fmt: skip
    deciding = frozenset({
        "min_words", "max_words", "min_mean_length", "max_mean_length", "max_symbols", "max_bullets",
        "max_ellipsis_lines", "min_alphabetic", "min_stop_words",
    })  # fmt: skip

    kind: Literal["gopher_quality"] = "gopher_quality"
    min_words: int = Field(50, ge=0, description="words that are more than punctuation, at least")
    max_words: int = Field(100_000, ge=1, description="and at most")
    min_mean_length: float = Field(3.0, ge=0, description="characters of such a word on average, at least")
    max_mean_length: float | None = _number("and at most")
    max_symbols: float = Field(0.1, ge=0, description="`#`, or ellipses, for each word")
    max_bullets: float = Field(0.9, ge=0, description="share of lines that begin with a bullet or a hyphen")
    max_ellipsis_lines: float = Field(0.3, ge=0, description="share of lines that end in an ellipsis")
    min_alphabetic: float | None = _number("share of words with a letter")
    min_stop_words: int = Field(2, ge=0, description="how many of the language's most frequent words stand in it")
    stop_words: list[str] | None = _number("those words")

    def looked_for(self, language: str) -> Sequence[str]:
        return list(self.threshold("stop_words", language))

    def verdicts(self, columns: Columns, language: str) -> Iterator[Verdict]:
        words, solid = columns["words"], columns["solid_words"]
        yield Verdict(f"fewer than {self.min_words} words", solid, self.min_words)
        yield Verdict(f"more than {self.max_words:,} words", solid, most=self.max_words)
        mean = _share(columns["solid_characters"], solid)
        longest = self.threshold("max_mean_length", language)
        yield Verdict(f"words of {self.min_mean_length:g} letters and fewer", mean, self.min_mean_length)
        yield Verdict(f"words of {longest:g} letters and more", mean, most=longest)
        yield Verdict("too many #", _share(columns["hashes"], words), most=self.max_symbols)
        yield Verdict("too many ellipses", _share(columns["ellipses"], words), most=self.max_symbols)
        yield Verdict("mostly bullets", _share(columns["bullet_rows"], columns["rows"]), most=self.max_bullets)
        broken_off = _share(columns["ellipsis_rows"], columns["rows"])
        yield Verdict("many lines break off", broken_off, most=self.max_ellipsis_lines)
        least = self.threshold("min_alphabetic", language)
        yield Verdict("too few words with letters", _share(columns["alphabetic_words"], words), least)
        yield Verdict("too few stop words", columns["stop_words"], self.min_stop_words)


class GopherRepetitionRule(WordRule):
    """Gopher's rules of repetition (Rae et al. 2021, table A1)."""

    counted = (
        "characters", "paragraphs", "duplicate_paragraphs", "duplicate_paragraph_characters", "lines",
        "duplicate_lines", "duplicate_line_characters", "top_2_gram", "top_3_gram", "top_4_gram", "duplicate_5_grams",
        "duplicate_6_grams", "duplicate_7_grams", "duplicate_8_grams", "duplicate_9_grams", "duplicate_10_grams",
    )  # fmt: skip
    deciding = frozenset({
        "max_duplicate_paragraphs", "max_duplicate_paragraph_characters", "max_duplicate_lines",
        "max_duplicate_line_characters", "max_top_grams", "max_duplicate_grams",
    })  # fmt: skip

    kind: Literal["gopher_repetition"] = "gopher_repetition"
    max_duplicate_paragraphs: float | None = _number("share of paragraphs that stood before")
    max_duplicate_paragraph_characters: float | None = _number("their share of the characters")
    max_duplicate_lines: float | None = _number("share of lines that stood before")
    max_duplicate_line_characters: float | None = _number("their share of the characters")
    max_top_grams: list[float] | None = _number("share of the most frequent 2, 3 and 4 words in a row")
    max_duplicate_grams: list[float] | None = _number("share of 5, 6, 7, 8, 9 and 10 words in a row that stood before")

    def problems(self) -> Iterator[tuple[KeyPath, str]]:
        for name, count in (("max_top_grams", 3), ("max_duplicate_grams", 6)):
            given = getattr(self, name)
            if given is not None and len(given) != count:
                yield (name,), f"`{name}` needs {count} numbers, and has {len(given)}"

    def verdicts(self, columns: Columns, language: str) -> Iterator[Verdict]:
        size = columns["characters"]
        for what in ("paragraph", "line"):
            share = _share(columns[f"duplicate_{what}s"], columns[f"{what}s"])
            yield Verdict(f"{what}s repeated", share, most=self.threshold(f"max_duplicate_{what}s", language))
            share = _share(columns[f"duplicate_{what}_characters"], size)
            most = self.threshold(f"max_duplicate_{what}_characters", language)
            yield Verdict(f"much of it in repeated {what}s", share, most=most)
        for n, most in zip((2, 3, 4), self.threshold("max_top_grams", language), strict=True):
            yield Verdict(f"the same {n} words again and again", _share(columns[f"top_{n}_gram"], size), most=most)
        for n, most in zip(range(5, 11), self.threshold("max_duplicate_grams", language), strict=True):
            yield Verdict(f"{n} words in a row repeated", _share(columns[f"duplicate_{n}_grams"], size), most=most)


class FineWebRule(WordRule):
    """FineWeb's own rules (Penedo et al. 2024, section 3.6)."""

    counted = (
        "characters", "words", "full_lines", "ended_lines", "short_lines", "duplicate_full_line_characters", "newlines",
    )  # fmt: skip
    deciding = frozenset({"min_ended_lines", "max_short_lines", "max_repeated_characters", "max_newlines"})

    kind: Literal["fineweb_quality"] = "fineweb_quality"
    min_ended_lines: float | None = _number("share of lines that end as a sentence does")
    max_short_lines: float | None = _number("share of lines of 30 characters and fewer")
    max_repeated_characters: float | None = _number("share of characters in lines that stood before")
    max_newlines: float | None = _number("newlines for each word")

    def verdicts(self, columns: Columns, language: str) -> Iterator[Verdict]:
        lines = columns["full_lines"]
        yield Verdict("empty", lines, 1)
        ended = _share(columns["ended_lines"], lines)
        yield Verdict("few lines end a sentence", ended, self.threshold("min_ended_lines", language))
        short = _share(columns["short_lines"], lines)
        yield Verdict("mostly short lines", short, most=self.threshold("max_short_lines", language))
        repeated = _share(columns["duplicate_full_line_characters"], columns["characters"] - columns["newlines"])
        yield Verdict("repeated lines", repeated, most=self.threshold("max_repeated_characters", language))
        newlines = _share(columns["newlines"], columns["words"])
        yield Verdict("a list", newlines, most=self.threshold("max_newlines", language))


def _share(part: NDArray[np.int64], whole: NDArray[np.int64]) -> NDArray[np.float64]:
    """0 where there is nothing at all, which no rule counts against a document."""
    return np.divide(part, whole, out=np.zeros(len(part)), where=whole > 0)
