"""spaCy's way to split a stretch between spaces into words, without spaCy's objects.

The rules are those of spaCy's blank language classes (prefixes, suffixes, infixes, exceptions), applied in the order of
its `Tokenizer`; the words are the same, which tests hold it to. What is left out is a `Doc` and a `Lexeme` for each,
three quarters of the time, and expressions asked of texts that they cannot match.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable
from importlib.util import find_spec
from typing import Any

from polyana.errors import UserError

__all__ = ["Splitter", "splitter_of"]

_SIGN = re.compile(r"""[^\w()\[\]{}"'!?;#&@%$|\\`]""")  # what an infix can begin with
_TAIL = 24  # characters that a suffix and what it looks back at fit into, but for a run of dots
_UNIT = 6  # characters of the longest unit at most: `اكواب` and `км/ч`
_DIGIT = frozenset("0123456789")
_CURRENCY = frozenset("UCA")  # prefixes that begin with a letter: US$, C$, A$


def splitter_of(language: str) -> Splitter | Callable[[str], list[str]]:
    """What splits a stretch, which has no space within, into words of a language.

    Raises UserError for a language that spaCy splits by more than its characters.
    """
    spacy = _spacy_alone()
    from spacy.tokenizer import Tokenizer

    try:
        blank = spacy.blank(language)
        tokenizer = blank.tokenizer
    except (ImportError, OSError):
        tokenizer = None
    if not isinstance(tokenizer, Tokenizer) or tokenizer.prefix_search is None:
        raise UserError(
            f"words of `{language}` are not known; take a language that spaCy splits by rules, as en, ru, de"
        )
    if tokenizer.token_match is not None or not _known(blank):
        return lambda stretch: [token.text for token in tokenizer(stretch)]
    return Splitter(tokenizer)


def _spacy_alone() -> Any:
    """spaCy without torch, which it loads to see whether there is one: 3 seconds and 250 MB in each process."""
    alone = "torch" not in sys.modules and "spacy" not in sys.modules and find_spec("spacy_transformers") is None
    if alone:
        sys.modules["torch"] = None  # type: ignore[assignment]  # an import of it fails
    try:
        import spacy
    finally:
        if alone:
            del sys.modules["torch"]
    return spacy


def _known(language: Any) -> bool:
    """Whether its suffixes and infixes are those that the short cuts below know."""
    from spacy.lang import punctuation as own
    from spacy.lang.en.punctuation import TOKENIZER_INFIXES as ENGLISH

    defaults = language.Defaults
    suffixes = (own.TOKENIZER_SUFFIXES, own.COMBINING_DIACRITICS_TOKENIZER_SUFFIXES)
    infixes = (own.TOKENIZER_INFIXES, own.COMBINING_DIACRITICS_TOKENIZER_INFIXES, ENGLISH)
    return (
        any(defaults.suffixes is known for known in suffixes)
        and any(defaults.infixes is known for known in infixes)
        and defaults.prefixes is own.TOKENIZER_PREFIXES
    )


class Splitter:
    """The rules of a language."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._prefix = tokenizer.prefix_search.__self__.match  # each begins with ^, which `search` would try everywhere
        self._suffix = tokenizer.suffix_search.__self__
        self._infix = tokenizer.infix_finditer.__self__.match
        self._url = tokenizer.url_match
        signs = [sign for sign in map(chr, range(0x10000)) if not sign.isalnum() and not sign.isspace()]
        # signs that are a prefix or suffix by themselves and begin or end no longer one
        self._single_prefixes = {sign for sign in signs if self._prefix(sign)} - set("+.\u2026$")
        self._single_suffixes = {sign for sign in signs if self._suffix.match(sign)} - set(".\u2026$")
        from spacy.attrs import ORTH
        from spacy.lang import char_classes as classes

        self._special: dict[str, list[str]] = {
            text: [token[ORTH] for token in tokens] for text, tokens in tokenizer.rules.items()
        }
        # exceptions whose words would be split otherwise are looked for once more among the words
        self._patterns: dict[str, list[list[str]]] = {}
        for text in self._special:
            if " " not in text and (self._prefix(text) or self._suffix.search(text) or tokenizer.find_infix(text)):
                words = self._words(text, {})
                if words == self._special[text]:  # whose words it is anyway, as '
                    continue
                self._patterns.setdefault(words[0], []).append(words)

        self.exceptions = self._special
        self.patterns = [pattern for patterns in self._patterns.values() for pattern in patterns]
        self.units = [unit.replace("\\", "") for unit in (*classes.LIST_UNITS, *classes.LIST_CURRENCY, "+")]
        self.digits_hyphen = tokenizer.find_infix("1-a") != []

    def is_one(self, exception: str) -> bool:
        """Whether an exception is one word."""
        return len(self._special[exception]) == 1

    def classes(self, signs: Iterable[str]) -> dict[str, list[str]]:
        """Which of the signs are what the rules distinguish, by the names of native_split.KINDS."""
        from spacy.lang import char_classes as classes

        tests: dict[str, Callable[[str], Any]] = {
            "alpha": re.compile(f"[{classes.ALPHA}]").match,
            "lower": re.compile(f"[{classes.ALPHA_LOWER}]").match,
            "upper": re.compile(f"[{classes.ALPHA_UPPER}]").match,
            "quote": re.compile(f"[{classes.CONCAT_QUOTES}]").match,
            "prefix": self._single_prefixes.__contains__,
            "suffix": self._single_suffixes.__contains__,
            "before_dot": lambda sign: self._suffix.match(f"{sign}.", 1),
            "host": re.compile("[A-Za-z0-9\u00a1-\uffff]").match,
            # signs that several rules know, or rules of several signs
            "strange": re.compile(f"[$\u2026\u00b0{classes.COMBINING_DIACRITICS}{classes.CONCAT_ICONS}]").match,
        }
        return {name: [sign for sign in signs if test(sign)] for name, test in tests.items()}

    def split(self, stretch: str) -> list[str]:
        if stretch.isalpha() and stretch not in self._special:
            return [stretch]
        words = self._words(stretch, self._special)
        spans = [
            (at, at + len(pattern))
            for at, word in enumerate(words)
            for pattern in self._patterns.get(word, ())
            if words[at : at + len(pattern)] == pattern
        ]
        return self._put_together(words, spans) if spans else words

    def _put_together(self, words: list[str], spans: list[tuple[int, int]]) -> list[str]:
        """Words that together are an exception become what it says: the longest where some overlap, then the first."""
        taken, seen = dict[int, int](), set[int]()
        for start, end in sorted(spans, key=lambda span: (span[0] - span[1], span[0])):
            if start not in seen and end - 1 not in seen:
                taken[start] = end
            seen.update(range(start, end))
        found, at = list[str](), 0
        while at < len(words):
            end = taken.get(at, at + 1)
            found += self._special["".join(words[at:end])] if at in taken else words[at:end]
            at = end
        return found

    def _words(self, rest: str, special: dict[str, list[str]]) -> list[str]:
        before, behind, last = list[str](), list[str](), 0
        while rest and len(rest) != last and rest not in special:
            last = len(rest)
            begin = self._begin(rest)
            if begin and (inner := rest[begin:]) and inner in special:
                before.append(rest[:begin])
                rest = inner
                break
            end = self._end(rest[begin:])
            if end and (inner := rest[:-end]) and inner in special:
                behind.append(rest[-end:])
                rest = inner
                break
            if begin and end and begin + end <= len(rest):
                before.append(rest[:begin])
                behind.append(rest[-end:])
                rest = rest[begin:-end]
            elif begin:
                before.append(rest[:begin])
                rest = rest[begin:]
            elif end:
                behind.append(rest[-end:])
                rest = rest[:-end]
        if rest:
            if rest in special:
                before += special[rest]
            elif "." in rest and self._url(rest):  # a host has a dot
                before.append(rest)
            else:
                self._cut_inside(rest, before)
        return before + behind[::-1]

    def _begin(self, text: str) -> int:
        """Characters of a prefix; 0 if there is none."""
        first = text[0]
        if first in self._single_prefixes:
            return 1
        if first.isalnum() and first not in _CURRENCY:
            return 0
        found = self._prefix(text)
        return found.end() if found else 0

    def _end(self, text: str) -> int:
        """Characters of a suffix; 0 if there is none."""
        last = text[-1:]
        if last in self._single_suffixes:
            return 1
        if last.isalpha():
            if last in "sS" and text[-2:-1] in ("'", "\u2019"):
                return 2
            if _DIGIT.isdisjoint(text[-_UNIT - 1 :]):  # a unit stands behind one
                return 0
        elif last.isdigit() and last.isascii():
            return 0
        elif last == "." and text[-2:-1] != ".":
            return 1 if self._suffix.match(text, len(text) - 1) else 0
        tail = text[-_TAIL:]
        found = self._suffix.search(tail)
        if found is None:
            return 0
        if found.start() < 2 and len(text) > len(tail):  # it may begin before the tail, or look back there
            found = self._suffix.search(text)
        return found.end() - found.start()  # type: ignore[no-any-return]

    def _cut_inside(self, text: str, words: list[str]) -> None:
        """Put the words of a text into `words` that signs within it part; all such signs are no letters or digits."""
        start, free = 0, 0
        for sign in _SIGN.finditer(text):
            at = sign.start()
            if at < free:
                continue
            found = self._infix(text, at)
            if found is None:
                continue
            free = found.end()
            if at == 0:  # spaCy leaves one at the beginning where it is
                continue
            if at != start:
                words.append(text[start:at])
            words.append(found[0])
            start = free
        if rest := text[start:]:
            words.append(rest)
