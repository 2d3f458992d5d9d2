"""How a language's stretches are split into words, as tables that the compiled passes read."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from polyana.corpus import native, native_words
from polyana.corpus.native_split import KINDS
from polyana.corpus.splitter import Splitter, splitter_of

__all__ = ["SENTENCE_ENDS", "Rules", "hashed", "plain_text", "points_of", "rules_of"]


def _characters(ranges: str) -> frozenset[str]:
    """Characters by their code points in hexadecimal: `21 2e 203c-203d`."""
    found: set[str] = set()
    for part in ranges.split():
        low, _, high = part.partition("-")
        found |= {chr(point) for point in range(int(low, 16), int(high or low, 16) + 1)}
    return frozenset(found)


SENTENCE_ENDS = _characters(
    "21 2e 3f 589 61d-61f 6d4 700-702 7f9 837 839 83d-83e 964-965 104a-104b 1362 1367-1368 166e 1735-1736 "
    "17d4-17d6 17d9-17da 1803 1809 1944-1945 1aa8-1aab 1b5a-1b5b 1b5e-1b5f 1b7d-1b7e 1c3b-1c3c 1c7e-1c7f "
    "203c-203d 2047-2049 2e2e 2e3c 2e53-2e54 3002 a4ff a60e-a60f a6f3 a6f7 a876-a877 a8ce-a8cf a92f a9c8-a9c9 "
    "aa5d-aa5f aaf0-aaf1 abeb fe52 fe56-fe57 ff01 ff0e ff1f ff61 10a56-10a57 10f55-10f59 10f86-10f89 11047-11048 "
    "110be-110c1 11141-11143 111c5-111c6 111cd 111de-111df 11238-11239 1123b-1123c 112a9 1144b-1144c 115c2-115c3 "
    "115c9-115d7 11641-11642 1173c-1173e 11944 11946 11a42-11a43 11a9b-11a9c 11c41-11c42 11ef7-11ef8 11f43-11f44 "
    "16a6e-16a6f 16af5 16b37-16b38 16b44 16e98 1bc9f 1da88"
)
"""What ends a sentence: Unicode 15's property Sentence_Terminal, and three signs of Khmer."""

_PUNCTUATION = _characters(
    "0-8 b-1f 21-2f 3a-40 5b-60 7b-9f ab b4 bb 589 61d-61f 6d4 700-702 7f9 837 839 83d-83e 964-965 104a-104b 1362 "
    "1367-1368 166e 1735-1736 17d4-17d6 17d9-17da 1803 1809 1944-1945 1aa8-1aab 1b5a-1b5b 1b5e-1b5f 1b7d-1b7e "
    "1c3b-1c3c 1c7e-1c7f 2013-2014 2019 201c-201e 2026 203c-203d 2047-2049 2236 2501 25ba 2e2e 2e3c 2e53-2e54 "
    "3001-3002 3008-300d 3010-3011 a4ff a60e-a60f a6f3 a6f7 a876-a877 a8ce-a8cf a92f a9c8-a9c9 aa5d-aa5f "
    "aaf0-aaf1 abeb fe52 fe56-fe57 ff01 ff05 ff08-ff09 ff0c ff0e ff11 ff1a-ff1b ff1f ff5e ff61 10a56-10a57 "
    "10f55-10f59 10f86-10f89 11047-11048 110be-110c1 11141-11143 111c5-111c6 111cd 111de-111df 11238-11239 "
    "1123b-1123c 112a9 1144b-1144c 115c2-115c3 115c9-115d7 11641-11642 1173c-1173e 11944 11946 11a42-11a43 "
    "11a9b-11a9c 11c41-11c42 11ef7-11ef8 11f43-11f44 16a6e-16a6f 16af5 16b37-16b38 16b44 16e98 1bc9f 1da88"
)
"""With those: what a word may consist of and still be none (CCNet's list, Wenzek et al. 2020, and controls)."""


@dataclass(frozen=True)
class Rules:
    """How a language's stretches are split, for the compiled passes and for what they leave."""

    split: Callable[[str], list[str]]
    kinds: NDArray[np.uint16]
    plain: NDArray[np.uint32]
    special: NDArray[np.uint64]
    parts: NDArray[np.uint64]
    units: NDArray[np.uint64]
    pairs: NDArray[np.uint64]
    merges: NDArray[np.uint64]
    digits_hyphen: bool
    longest: int


_LAST_PUNCTUATION = 0x20000  # none stands above: those planes are ideographs and tags
_PLAIN_BELOW = 0x3000  # signs above are left to Python: CJK is not split by characters' rules here


@lru_cache(maxsize=1)
def _characters_kinds() -> NDArray[np.uint16]:
    """What characters are in any language, by code point."""
    kinds, bit = np.zeros(0x110000, np.uint16), {name: 1 << at for at, name in enumerate(KINDS)}
    every = "".join(map(chr, range(0x110000)))
    # `re` knows them from stretches of the whole; asked one by one, a million take a second
    for name, members in (("alnum", r"[^\W_]+"), ("space", r"\s+")):
        for found in re.finditer(members, every):
            kinds[found.start() : found.end()] |= np.uint16(bit[name])
    for point in np.flatnonzero(kinds & bit["alnum"]).tolist():
        if every[point].isalpha():
            kinds[point] |= np.uint16(bit["letter"])
    for point in np.flatnonzero(kinds[:_LAST_PUNCTUATION] & bit["alnum"] == 0).tolist():
        if unicodedata.category(every[point])[0] == "P":
            kinds[point] |= np.uint16(bit["punctuation"])
    kinds[list(map(ord, _PUNCTUATION))] |= np.uint16(bit["list"])
    kinds[list(map(ord, _sentence_ends()))] |= np.uint16(bit["ender"])
    kinds[_PLAIN_BELOW:] |= np.uint16(bit["strange"])
    return kinds


@lru_cache(maxsize=8)
def rules_of(language: str) -> Rules:
    """Raises UserError for a language that spaCy splits by more than its characters."""
    splitter = splitter_of(language)
    kinds, bit = _characters_kinds().copy(), {name: 1 << at for at, name in enumerate(KINDS)}

    def mark(name: str, points: Iterable[int]) -> None:
        kinds[list(points)] |= np.uint16(bit[name])

    near = [chr(point) for point in range(_PLAIN_BELOW)]
    mark("strange", (ord(sign) for sign in near if sign.isdecimal() and not sign.isascii()))
    if not isinstance(splitter, Splitter):  # nothing is known of its rules
        kinds |= np.uint16(bit["strange"])
    else:
        for name, members in splitter.classes(near).items():
            mark(name, map(ord, members))
    plain = np.zeros(0x110000, np.uint32)
    for sign in near:
        simple = "0" if sign.isdecimal() else plain_text(sign)
        if sign.isspace() or ord(sign) in _BLANKED:
            plain[ord(sign)] = 32
        elif len(simple) == 1 and len(sign.lower()) == 1 and sign != "\u03a3":  # how Σ ends depends on where it stands
            plain[ord(sign)] = ord(simple)
        elif simple or not unicodedata.combining(sign):
            mark("decomposes", [ord(sign)])
    special, units, digits_hyphen = dict[str, list[str]](), list[str](), False
    merged, begun = list[list[str]](), list[list[str]]()
    if isinstance(splitter, Splitter):
        special, units, digits_hyphen = splitter.exceptions, splitter.units, splitter.digits_hyphen
        for pattern in splitter.patterns:
            one = len(pattern) == 2 and splitter.is_one("".join(pattern))
            (merged if one else begun).append(pattern[:2])
    pairs, merges = _beginnings(begun), _beginnings([pattern for pattern in merged if pattern not in begun])
    return Rules(
        splitter.split if isinstance(splitter, Splitter) else splitter,
        kinds, plain, *_exceptions(special), hashed(units), _table(pairs), _table(merges), digits_hyphen,
        max(map(len, special), default=0),
    )  # fmt: skip


def _exceptions(words_of: Mapping[str, list[str]]) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """The table of spaCy's exceptions and the lengths of their words, as native_split.split takes them."""
    table = hashed(words_of)
    parts = np.zeros(len(table), np.uint64)
    hashes = native_words.hash_texts(points_of("".join(words_of)), np.cumsum([0, *map(len, words_of)]))
    for key, (text, words) in zip(hashes, words_of.items(), strict=True):
        lengths = bytes(min(len(word), 255) for word in words)
        if len(words) <= 8 and max(lengths) < 255 and "".join(words) == text:
            parts[native.slot_of(table, key)] = int.from_bytes(lengths, "little")
    return table, parts


def _beginnings(patterns: list[list[str]]) -> NDArray[np.uint64]:
    """Hashes of the first two words of each, or of the only one, as native_split makes them."""
    words = [word for pattern in patterns for word in pattern]
    hashes = iter(native_words.hash_texts(points_of("".join(words)), np.cumsum([0, *map(len, words)])))
    found = []
    for pattern in patterns:
        one, *others = (next(hashes) for _ in pattern)
        with np.errstate(over="ignore"):
            found.append((one * np.uint64(3) + others[0]) | np.uint64(1) if others else one)
    return np.array(found, np.uint64)


def hashed(texts: Iterable[str]) -> NDArray[np.uint64]:
    """A table of the hashes of texts, for the compiled passes."""
    known = sorted(set(texts))
    keys = native_words.hash_texts(points_of("".join(known)), np.cumsum([0, *map(len, known)]))
    return _table(keys)


def _table(keys: NDArray[np.uint64]) -> NDArray[np.uint64]:
    table, values = np.zeros(64, np.uint64), np.zeros(64, np.int32)
    while len(table) < 4 * len(keys):
        table, values = native_words.grow(table, values)
    for key in keys.tolist():
        table[native.slot_of(table, np.uint64(key))] = key
    return table


def plain_text(text: str) -> str:
    """Text as near copies are compared: case, accents, punctuation and which number it is do not count.

    The steps and their order are those of datatrove 0.10 (TextNormConfig's defaults), so that signatures are the same.
    """
    text = _NUMBER.sub("0", text.lower()).translate(_BLANKED)
    text = _BLANK.sub(" ", text.strip())
    text = "".join(sign for sign in unicodedata.normalize("NFD", text) if unicodedata.category(sign) != "Mn")
    return text.strip()


_NUMBER = re.compile(r"\d+(?:[.,\u060c\u066b\u2396\u2397\u2398]\d+)?")
_BLANK = re.compile(r"\s+")
_BLANKED = dict.fromkeys(
    map(
        ord,
        _characters(
            "0-8 b-1f 21-2f 3a-40 5b-60 7b-9f ab b4 bb 2013-2014 2019 201c-201e 2026 2236 2501 25ba 3001-3002 "
            "3008-300d 3010-3011 ff01 ff05 ff08-ff09 ff0c ff0e ff11 ff1a-ff1b ff1f ff5e"
        ),
    ),
    " ",
)


def _sentence_ends() -> frozenset[str]:
    from spacy.pipeline import Sentencizer

    return frozenset(Sentencizer.default_punct_chars)


def points_of(text: str) -> NDArray[np.uint32]:
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
