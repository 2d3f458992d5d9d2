"""What is wrong with a pair, and which pairs of the training text stand in the test set."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import cache
from operator import itemgetter
from typing import Any

from polyana.corpus.normalise import normalise, not_text
from polyana.errors import UserError
from polyana.parallel.config import HygieneConfig, LanguagesConfig
from polyana.parallel.segment import Segment
from polyana.parallel.sentences import base_language, separator

__all__ = ["HeldOut", "Hygiene"]

# Measured on LibreOffice's help (docs/log.md): of 25,567 paragraphs one is wrongly called another language's.
_TELLING = 30  # letters from which on the detector is trusted
_DOUBT = 8.0  # so much likelier must another language be
_SHORT = 20  # characters; the lengths of shorter texts say little: guess
_RUN = 12  # words in a row that give a text away; GPT-3 (arXiv 2005.14165, appendix C) took 8 to 13
_WORD = re.compile(r"\w+")


class Hygiene:
    """Finds the fault of a pair. Raises UserError when the detector is missing or does not know a language."""

    def __init__(self, config: HygieneConfig, languages: LanguagesConfig) -> None:
        self._config = config
        self._languages = (base_language(languages.source), base_language(languages.target))
        self._detector: Any = None
        if not config.wrong_language or self._languages[0] == self._languages[1]:
            return
        self._detector = _detector()
        for language in self._languages:
            if language not in self._detector.labels:
                raise UserError(
                    f"the detector of languages does not know `{language}`; write `hygiene: {{wrong_language: false}}`"
                )

    def clean(self, text: str) -> str:
        """NFC, single blanks, no control characters."""
        return " ".join(normalise(text).split())

    def unreadable(self, source: str, target: str) -> str | None:
        """Why nobody could learn from a pair, or be measured by it: None if one could."""
        for side, text in (("source", source), ("target", target)):
            if not text.strip():
                return f"empty {side}"
            if noise := not_text(text):
                return f"{noise} in the {side}"
        return None

    def fault(self, source: str, target: str) -> str | None:
        """What is wrong with a pair of clean texts, None if nothing is."""
        config = self._config
        if config.identical and source.casefold() == target.casefold():
            return "identical sides"
        short, long = sorted((len(source), len(target)))
        if long >= _SHORT and long > config.max_ratio * short:
            return f"one side over {config.max_ratio:g} times as long"
        if self._detector is not None:
            for side, text, language in zip(("source", "target"), (source, target), self._languages, strict=True):
                if self._is_another(text, language):
                    return f"{side} in another language"
        return None

    def check_sides(self, sources: Sequence[str], targets: Sequence[str]) -> None:
        """Raises UserError where the beginning of a source, taken together, is in other languages than it is said to
        be: short sentences alone do not tell."""
        if self._detector is None:
            return
        for side, texts, language in zip(("source", "target"), (sources, targets), self._languages, strict=True):
            text = " ".join(texts)
            if self._is_another(text, language):
                likely = max(self._detector.rank(text), key=itemgetter(1))[0]
                raise UserError(
                    f"its {side} looks like `{likely}`, not like `{language}` ({texts[0][:40]} ...): mend `languages` "
                    "or `columns`, or write `hygiene: {wrong_language: false}`"
                )

    def _is_another(self, text: str, language: str) -> bool:
        if sum(map(str.isalpha, text)) < _TELLING:
            return False
        likelihoods = dict(self._detector.rank(text))
        return bool(max(likelihoods.values()) > _DOUBT * likelihoods[language])


@cache
def _detector() -> Any:
    """py3langid's, with likelihoods that add up to 1; loading takes a second."""
    try:
        from py3langid.langid import MODEL_FILE, LanguageIdentifier
    except ImportError:
        raise UserError(
            "finding text in the wrong language needs py3langid; run: pip install 'polyana[translate]', or write "
            "`hygiene: {wrong_language: false}`"
        ) from None
    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)


class HeldOut:
    """The sentences of the test set, and every run of 12 words in it, either side; only words count, not their case.

    Sentences of fewer than `least` words are left out. In languages without spaces a character is a word.
    """

    def __init__(self, languages: LanguagesConfig, least: int) -> None:
        self._codes = (languages.source, languages.target)
        self._least = least
        self._sentences: set[int] = set()
        self._runs: set[int] = set()

    def add(self, segment: Segment) -> None:
        for words in self._sides(segment):
            self._sentences.add(hash(words))
            self._runs.update(_runs(words))

    def holds(self, segment: Segment) -> bool:
        return any(
            hash(words) in self._sentences or any(run in self._runs for run in _runs(words))
            for words in self._sides(segment)
        )

    def _sides(self, segment: Segment) -> Iterator[tuple[str, ...]]:
        for text, code in zip((segment.source, segment.target), self._codes, strict=True):
            words = _WORD.findall(text.casefold())
            words = words if separator(code) else list("".join(words))
            if len(words) >= self._least:
                yield tuple(words)


def _runs(words: tuple[str, ...]) -> Iterator[int]:
    return (hash(words[start : start + _RUN]) for start in range(len(words) - _RUN + 1))
