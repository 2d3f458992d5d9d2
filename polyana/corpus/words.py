"""Text to words, each stretch between spaces split only the first time it is seen.

Splitting a stretch alone gives the words it has within a text, for spaCy's splitters never look across a space
(checked on 1,400 texts), so a table from stretch to words is exact; in running text 88 to 94 % are already known.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polyana.corpus import native
from polyana.corpus.steps.step import Block
from polyana.errors import UserError

__all__ = ["SENTENCE_ENDS", "Batch", "WordTable", "Words", "plain_text"]

_BASE = 1_000_003 * 2_147_483_659 % ((1 << 61) - 1)  # of the polynomial hash; any large number: guess
_POWERS = 1 << 16  # of it that are kept; longer stretches take several
_ROOM = 1 << 16  # places of a new table


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


@dataclass(frozen=True, slots=True)
class Batch:
    """Some documents as the compiled passes read them; see native.py."""

    text_N: NDArray[np.uint32]
    begins: NDArray[np.int64]
    chunks: NDArray[np.int32]
    chunk_begins: NDArray[np.int64]


class WordTable:
    """Every stretch between spaces that was ever seen in texts of a language, and the words it is made of.

    Raises UserError for a language that spaCy splits by more than its characters.
    """

    def __init__(self, language: str, stop_words: Iterable[str] = (), *, plain: bool = False) -> None:
        """`plain`: with plain words, too, by which `sign` compares documents."""
        self._split = _splitter(language)
        self._plain = _PlainWords(self._split) if plain else None
        self._stop_words = frozenset(stop_words)
        self._keys, self._values = np.zeros(_ROOM, np.uint64), np.zeros(_ROOM, np.int32)
        self.known = 0  # stretches
        self._words: dict[str, int] = {}
        self._first, self._of_chunk = _Growing(np.int64, [0]), _Growing(np.int32)
        self._length, self._hash = _Growing(np.int32), _Growing(np.uint64)
        self._flags = _Growing(np.uint8)
        self._powers = native.powers(_BASE, _POWERS)
        self._sentence_ends = _sentence_ends()
        self._ends = np.zeros(0x110000, np.uint8)
        self._ends[[ord(sign) for sign in SENTENCE_ENDS]] = 1

    def batch(self, texts: Sequence[str]) -> Batch:
        """Documents cut into chunks, all of which the table knows afterwards."""
        encoded = [_points(text) for text in texts]
        begins = np.zeros(len(texts) + 1, np.int64)
        np.cumsum([len(each) for each in encoded], out=begins[1:])
        # a space between documents, so that no chunk reaches into the next
        spaced = [part for each in encoded for part in (each, _SPACE)]
        text_N = np.concatenate(spaced) if spaced else np.zeros(0, np.uint32)
        begins += np.arange(len(texts) + 1)
        found, places, at = [], [], 0
        while at < len(text_N):
            room = len(self._keys) // 2
            chunks, chunk_begins, new, stopped = native.lookup(text_N[at:], self._keys, self._values, self.known, room)
            self._learn([_text(text_N[at + start : at + end]) for start, end in new.tolist()])
            found.append(chunks)
            places.append(chunk_begins + at)
            at += stopped
            if at < len(text_N):
                self._keys, self._values = native.grow(self._keys, self._values)
        if not found:
            return Batch(text_N, begins, np.zeros(0, np.int32), np.zeros(0, np.int64))
        return Batch(text_N, begins, np.concatenate(found), np.concatenate(places))

    def measure(self, batch: Batch) -> NDArray[np.int64]:
        """native.METRICS of each document, [documents, metrics]."""
        return native.measure(  # type: ignore[no-any-return]
            batch.text_N, batch.begins, batch.chunks, batch.chunk_begins, self._first.values, self._of_chunk.values,
            self._length.values, self._hash.values, self._flags.values, self._powers, self._ends,
        )  # fmt: skip

    def cut_lines(self, batch: Batch, longest: int, fewest: int, *, ended: bool) -> tuple[Any, Any]:
        """See native.cut_lines."""
        return native.cut_lines(  # type: ignore[no-any-return]
            batch.text_N, batch.begins, batch.chunks, batch.chunk_begins, self._first.values, self._of_chunk.values,
            self._flags.values, longest, fewest, ended,
        )  # fmt: skip

    def sign(self, batch: Batch, n: int, factors: NDArray[np.uint64], terms: NDArray[np.uint64]) -> tuple[Any, Any]:
        """See native.sign; of a table with plain words."""
        assert self._plain is not None
        plain = self._plain
        return native.sign(  # type: ignore[no-any-return]
            batch.begins, batch.chunks, batch.chunk_begins, plain.first.values, plain.of_chunk.values,
            plain.begins.values, plain.bytes.values, n, factors, terms,
        )  # fmt: skip

    def _learn(self, chunks: list[str]) -> None:
        if self._plain is not None:
            self._plain.learn(chunks)
        known, numbers, ends, count = self._words, list[int](), list[int](), len(self._of_chunk)
        before = len(known)
        for chunk in chunks:
            for token in self._split(chunk):
                if word := token.strip():
                    numbers.append(known.setdefault(word, len(known)))
            ends.append(count + len(numbers))
        self._of_chunk.extend(numbers)
        self._first.extend(ends)
        self.known += len(chunks)
        new = list(islice(known, before, None))
        lengths = [len(word) for word in new]
        self._length.extend(lengths)
        self._hash.extend(native.word_hashes(_points("".join(new)), np.cumsum([0, *lengths]), np.uint64(_BASE)))
        self._flags.extend([self._flags_of(word) for word in new])

    def _flags_of(self, word: str) -> int:
        if not word.isalnum() and all(unicodedata.category(sign).startswith("P") for sign in word):
            ends = native.ENDER * (word in self._sentence_ends) | native.PUNCTUATION
            return ends | native.SOLID * (not _PUNCTUATION.issuperset(word)) | native.STOP * (word in self._stop_words)
        if word.isalpha():
            return native.ALPHABETIC | native.SOLID | native.STOP * (word in self._stop_words)
        solid = not _PUNCTUATION.issuperset(word)
        flags = native.ALPHABETIC * any(map(str.isalpha, word)) | native.SOLID * solid
        return flags | native.STOP * (word in self._stop_words)


class _PlainWords:
    """The words of each chunk once it is plain: small letters without accents and punctuation, numbers all the same."""

    def __init__(self, split: Any) -> None:
        self._split = split
        self._known: dict[str, int] = {}
        self.first, self.of_chunk = _Growing(np.int64, [0]), _Growing(np.int32)
        self.begins, self.bytes = _Growing(np.int64, [0]), _Growing(np.uint8)

    def learn(self, chunks: list[str]) -> None:
        known, numbers, ends = self._known, list[int](), list[int]()
        count, before = len(self.of_chunk), len(known)
        for chunk in chunks:
            if chunk.isascii() and chunk.isalpha():  # nearly all: nothing to take out, and one word
                numbers.append(known.setdefault(chunk.lower(), len(known)))
            else:
                for piece in plain_text(chunk).split():
                    for token in self._split(piece):
                        numbers.append(known.setdefault(token, len(known)))
            ends.append(count + len(numbers))
        self.of_chunk.extend(numbers)
        self.first.extend(ends)
        new = [word.encode("utf-8", "replace") for word in islice(known, before, None)]
        self.bytes.extend(np.frombuffer(b"".join(new), np.uint8))
        last = int(self.begins.values[-1])
        self.begins.extend(last + np.cumsum([len(word) for word in new], dtype=np.int64))


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


class Words:
    """The words of blocks, counted once for all the steps that ask, by each document's language.

    `stop_words` of a language are those that its steps look for.
    """

    def __init__(
        self, languages: Sequence[str], stop_words: Mapping[str, Iterable[str]], *, plain: bool = False
    ) -> None:
        self._languages, self._stop_words, self._plain = languages, stop_words, plain
        self._tables: dict[int, WordTable] = {}
        self._block: Block | None = None
        self._counted = np.zeros((0, len(native.METRICS)), np.int64)

    def table(self, language: int) -> WordTable:
        """Of a language by its place; a new one where the old has grown too large."""
        table = self._tables.get(language)
        if table is None or table.known > _LARGEST:
            name = self._languages[language]
            table = self._tables[language] = WordTable(name, self._stop_words.get(name, ()), plain=self._plain)
        return table

    def tables(self, block: Block, rows: NDArray[np.int64]) -> Iterator[tuple[WordTable, NDArray[np.int64]]]:
        """For each language among these documents its table, and which of them are of it."""
        of = block.languages[rows]
        for language in np.unique(of).tolist():
            yield self.table(language), rows[of == language]

    def counts(self, block: Block) -> dict[str, NDArray[np.int64]]:
        """native.METRICS of each document as its text is now."""
        if block is not self._block:
            self._block, block.changed = block, set(range(len(block)))
            self._counted = np.zeros((len(block), len(native.METRICS)), np.int64)
        if block.changed:
            changed = np.array(sorted(block.changed), np.int64)
            for table, rows in self.tables(block, changed):
                self._counted[rows] = table.measure(table.batch([block.texts[row] for row in rows.tolist()]))
            block.changed.clear()
        return dict(zip(native.METRICS, self._counted.T.copy(), strict=True))


_LARGEST = 4_000_000  # stretches in a table, some 500 MB with their words; guess
_SPACE = np.array([32], np.uint32)
_OWNED = ("'s", "\u2019s")
_BEFORE, _BEHIND = '("\u201c\u00ab', ',;!?)"\u201d\u00bb'


def _points(text: str) -> NDArray[np.uint32]:
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)


def _text(points: NDArray[np.uint32]) -> str:
    return points.tobytes().decode("utf-32-le", "surrogatepass")


class _Growing:
    """An array that is added to at its end."""

    def __init__(self, dtype: Any, values: Sequence[int] = ()) -> None:
        self._array, self._size = np.zeros(1024, dtype), 0
        self.extend(values)

    def extend(self, values: Sequence[int] | NDArray[Any]) -> None:
        while self._size + len(values) > len(self._array):
            self._array = np.concatenate([self._array, np.zeros_like(self._array)])
        self._array[self._size : self._size + len(values)] = values
        self._size += len(values)

    def __len__(self) -> int:
        return self._size

    @property
    def values(self) -> NDArray[Any]:
        return self._array[: self._size]


def _ends_before_dot(word: str) -> bool:
    """Whether the dot at the end is a sign of its own: behind small letters and digits."""
    return word[-2:-1].islower() or (word[-2:-1].isdigit() and word.isascii())


def _splitter(language: str) -> Any:
    """What splits a stretch into words as spaCy's blank class of a language does. Raises UserError."""
    import spacy
    from spacy.tokenizer import Tokenizer

    try:
        tokenizer = spacy.blank(language).tokenizer
    except (ImportError, OSError):
        tokenizer = None
    if not isinstance(tokenizer, Tokenizer):
        raise UserError(
            f"words of `{language}` are not known; take a language that spaCy splits by rules, as en, ru, de"
        )
    special = tokenizer.rules

    def split(chunk: str) -> list[str]:
        # Nearly every stretch is letters with a sign or two around them, of which spaCy makes a word of its own each,
        # unless what is left is one of a language's exceptions (`dont`, `D:`, `Mr.`). The rest it is asked for.
        word, left, right = chunk, list[str](), list[str]()
        while word and word not in special:
            if word.isalpha() or (word.isdigit() and word.isascii()):
                return [*left, word, *reversed(right)]
            if word[0] in _BEFORE:
                left.append(word[0])
                word = word[1:]
            elif word[-1] in _BEHIND or (word[-1] == "." and _ends_before_dot(word)):
                right.append(word[-1])
                word = word[:-1]
            elif word[-2:] in _OWNED:
                right.append(word[-2:])
                word = word[:-2]
            elif "-" in word and "." not in right and all(map(str.isalpha, parts := word.split("-"))):
                hyphened = [piece for part in parts for piece in (part, "-")][:-1]
                return [*left, *hyphened, *reversed(right)]
            else:
                break
        return [token.text for token in tokenizer(chunk)]

    return split
