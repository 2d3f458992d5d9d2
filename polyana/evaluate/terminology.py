"""Is a term rendered by the same word throughout a document?"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from math import comb
from typing import Protocol

from polyana.errors import UserError

__all__ = ["TermConsistency", "term_consistency"]

_SHORTEST = 4  # letters; shorter words are mostly grammar ("the", "and", "что"); guess
_FAITHFUL = 0.8  # Dice coefficient from which on the human translator's word counts as the term's; guess
_WORD = re.compile(rf"[^\W\d_]{{{_SHORTEST},}}")

_STEMMERS = {
    "ar": "arabic", "hy": "armenian", "eu": "basque", "ca": "catalan", "cs": "czech", "da": "danish", "nl": "dutch",
    "en": "english", "eo": "esperanto", "et": "estonian", "fi": "finnish", "fr": "french", "de": "german",
    "el": "greek", "hi": "hindi", "hu": "hungarian", "id": "indonesian", "ga": "irish", "it": "italian",
    "lt": "lithuanian", "ne": "nepali", "no": "norwegian", "nb": "norwegian", "fa": "persian", "pl": "polish",
    "pt": "portuguese", "ro": "romanian", "ru": "russian", "sr": "serbian", "es": "spanish", "sv": "swedish",
    "ta": "tamil", "tr": "turkish", "yi": "yiddish",
}  # fmt: skip
"""ISO 639-1 -> the name of snowballstemmer's algorithm."""


class Rendered(Protocol):
    """A segment in two languages, and a model's translation of it."""

    @property
    def source(self) -> str: ...
    @property
    def reference(self) -> str: ...
    @property
    def hypothesis(self) -> str: ...


@dataclass(frozen=True, slots=True)
class TermConsistency:
    terms: int
    occurrences: int
    """Segments that hold a term, counted for each term."""
    consistency: float
    """Share of the pairs of a term's occurrences that the model rendered alike, 0 to 1; 0 where there are no terms."""
    accuracy: float
    """Share of the occurrences that the model rendered as the human translator did, 0 to 1."""


def term_consistency(
    documents: Iterable[Sequence[Rendered]], source_language: str, target_language: str
) -> TermConsistency:
    """The lexical translation consistency ratio (LTCR, Lyu et al. 2021), without a word aligner.

    A term is a source word that stands in several segments of a document, at most half of them, and that the human
    translator rendered there by one word: the word of the reference whose segments agree best with the term's (Dice).
    The model's rendering of a term is found the same way, in what it wrote; occurrences that are left may share a
    second rendering, and so on. LTCR is the number of pairs of occurrences rendered alike over the number of all
    pairs, summed over terms and documents. Words are compared by their stems (Snowball), for languages that have a
    stemmer there, else as they are. Languages written without spaces give no terms.
    """
    source_stems, target_stems = _stems_in(source_language), _stems_in(target_language)
    terms = occurrences = right = alike = pairs = 0
    for document in documents:
        sources = _places(source_stems(each.source) for each in document)
        references = _places(target_stems(each.reference) for each in document)
        hypotheses = _places(target_stems(each.hypothesis) for each in document)
        for places in sources.values():
            if not 2 <= len(places) <= len(document) / 2:
                continue
            dice, rendering = max((_dice(places, where), stem) for stem, where in (references | {"": set()}).items())
            held = places & references.get(rendering, set())
            if dice < _FAITHFUL or len(held) < 2:
                continue
            terms += 1
            occurrences += len(held)
            right += len(held & hypotheses.get(rendering, set()))
            pairs += comb(len(held), 2)
            alike += sum(comb(size, 2) for size in _renderings(held, places, hypotheses))
    return TermConsistency(
        terms, occurrences, alike / pairs if pairs else 0.0, right / occurrences if occurrences else 0.0
    )


def _renderings(held: set[int], places: set[int], hypotheses: dict[str, set[int]]) -> Iterable[int]:
    """How many of a term's occurrences share each rendering that at least two share."""
    # with the term more than twice as often as without it: what _FAITHFUL asks of the reference's word at least
    own = {stem: where & held for stem, where in hypotheses.items() if len(where & held) > 2 * len(where - places)}
    left = set(held)
    while own:
        best = max(own, key=lambda stem: (len(own[stem] & left), _dice(held, hypotheses[stem]), stem))
        shared = own.pop(best) & left
        if len(shared) < 2:
            return
        yield len(shared)
        left -= shared


def _dice(one: set[int], other: set[int]) -> float:
    return 2 * len(one & other) / (len(one) + len(other))


def _places(segments: Iterable[set[str]]) -> dict[str, set[int]]:
    """Each stem's segments, by number."""
    found: dict[str, set[int]] = {}
    for number, stems in enumerate(segments):
        for stem in stems:
            found.setdefault(stem, set()).add(number)
    return found


def _stems_in(language: str) -> Callable[[str], set[str]]:
    try:
        import snowballstemmer
    except ImportError:
        raise UserError("term consistency needs snowballstemmer: `pip install 'polyana[translate]'`") from None
    if language not in _STEMMERS:
        return lambda text: set(_WORD.findall(text.lower()))
    stemmer = snowballstemmer.stemmer(_STEMMERS[language])
    return lambda text: set(stemmer.stemWords(_WORD.findall(text.lower())))
