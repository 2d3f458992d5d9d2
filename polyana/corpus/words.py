"""Text to words, each stretch between spaces split only the first time it is seen.

Splitting a stretch alone gives the words it has within a text, for spaCy's splitters never look across a space
(checked on 1,400 texts), so a table from stretch to words is exact; in running text 88 to 94 % are already known.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import pairwise
from operator import or_
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polyana.corpus import native, native_lines, native_measures, native_minhash, native_words
from polyana.corpus.steps.step import Block
from polyana.corpus.word_rules import SENTENCE_ENDS, Rules, hashed, plain_text, points_of, rules_of

__all__ = ["Batch", "WordTable", "Words"]

_POWERS = 1 << 16  # of the base of hashes that are kept; longer stretches take several
_ROOM = 1 << 16  # places of a new table


@dataclass(frozen=True, slots=True)
class Batch:
    """Some documents as the compiled passes read them; see native.py."""

    text_N: NDArray[np.uint32]
    begins: NDArray[np.int64]
    chunks: NDArray[np.int32]
    chunk_begins: NDArray[np.int64]
    chunk_ends: NDArray[np.int64]

    def of(self, documents: NDArray[np.int64]) -> Batch:
        """That of some of its documents, in their order."""
        return Batch(
            *native.taken(self.text_N, self.begins, self.chunks, self.chunk_begins, self.chunk_ends, documents)
        )

    def behind(self, other: Batch) -> tuple[Batch, NDArray[np.int64]]:
        """With another behind its documents, and where the texts of that one stand: [texts, 2] of start and end."""
        size = len(self.text_N)
        both = Batch(
            np.concatenate([self.text_N, other.text_N]),
            np.concatenate([self.begins, other.begins[1:] + size]),
            np.concatenate([self.chunks, other.chunks]),
            np.concatenate([self.chunk_begins, other.chunk_begins + size]),
            np.concatenate([self.chunk_ends, other.chunk_ends + size]),
        )
        return both, np.stack([other.begins[:-1], other.begins[1:] - 1], 1) + size

    def sizes(self, stretches: NDArray[np.int64]) -> NDArray[np.int64]:
        """Bytes of UTF-8 of stretches, [stretches, 2] of start and end."""
        return native_lines.byte_lengths(self.text_N, stretches)

    def joined(self, stretches: NDArray[np.int64], borders: NDArray[np.int64]) -> Batch:
        """That of documents of lines; document i is of stretches[borders[i]:borders[i + 1]]."""
        return Batch(
            *native_lines.joined_lines(self.text_N, self.chunks, self.chunk_begins, self.chunk_ends, stretches, borders)
        )

    def texts(self) -> Iterator[str]:
        """Of its documents."""
        text = self.text_N.tobytes().decode("utf-32-le", "surrogatepass")
        return (text[start : end - 1] for start, end in pairwise(self.begins.tolist()))


class WordTable:
    """Every stretch between spaces that was ever seen in texts of a language, and the words it is made of.

    Raises UserError for a language that spaCy splits by more than its characters.
    """

    def __init__(
        self, language: str, stop_words: Iterable[str] = (), *, plain: bool = False, words: bool = True
    ) -> None:
        """`plain`: with plain words, by which `sign` compares documents; `words`: with words as they stand, which all
        else counts."""
        self._numbered = not words
        self._rules = rules_of(language)
        self._stops = hashed(stop_words)
        self._keys, self._values = np.zeros(_ROOM, np.uint64), np.zeros(_ROOM, np.int32)  # stretches
        self.known = 0  # stretches
        self._runs = _Growing(np.int32, columns=2)  # where a stretch's words begin in `_of_chunk`, how many they are
        self._of_chunk = _Growing(np.int32)
        self._words = _WordStore(self._rules, self._stops)
        self._powers = native.powers(_POWERS)
        self._ends = np.zeros(0x110000, np.uint8)
        self._ends[[ord(sign) for sign in SENTENCE_ENDS]] = 1
        self._plain = _PlainWords(self._rules) if plain else None

    def batch(self, texts: Sequence[str]) -> Batch:
        """Documents cut into chunks, all of which the table knows afterwards."""
        # a space between documents, so that no chunk reaches into the next
        joined = "".join(part for text in texts for part in (text, " "))
        text_N = points_of(joined)
        begins = np.zeros(len(texts) + 1, np.int64)
        np.cumsum([len(text) + 1 for text in texts], out=begins[1:])
        bounds, hashes = native_words.stretches_of(text_N, self._rules.kinds)
        chunks, at = np.empty(len(bounds), np.int32), 0
        while at < len(bounds):
            before, words = self.known, self._words
            new, self.known, used, words.known, at = native_words.look_up(
                text_N, bounds, hashes, at, chunks, self._keys, self._values, self.known, self._runs.room,
                self._of_chunk.room, len(self._of_chunk), words.keys, words.values, words.known,
                words.about.room, self._rules.kinds, self._rules.special,
                self._rules.parts, self._rules.units, self._rules.pairs, self._rules.merges, self._stops,
                self._rules.digits_hyphen, self._rules.longest, self._numbered,
            )  # fmt: skip
            self._runs.size, self._of_chunk.size = self.known, used
            self._split_slowly(joined, bounds[new], before)
            if self._plain is not None:
                self._plain.learn(text_N, joined, bounds[new])
            if at < len(bounds):
                self._make_room()
        return Batch(text_N, begins, chunks, bounds[:, 0].copy(), bounds[:, 1].copy())

    def _split_slowly(self, joined: str, stretches: NDArray[np.int64], before: int) -> None:
        """The stretches that the compiled pass has left, by splitter.py."""
        left = np.flatnonzero(self._runs.values[before:, 1] < 0)
        if not len(left):
            return
        split = self._rules.split
        words = [split(joined[start:end]) for start, end in stretches[left].tolist()]
        numbers = self._words.numbers([word for each in words for word in each])
        counts = np.array([len(each) for each in words], np.int32)
        begins = len(self._of_chunk) + np.cumsum(counts) - counts
        self._runs.values[before + left] = np.stack([begins, counts], 1)
        self._of_chunk.extend(numbers)

    def _make_room(self) -> None:
        if self.known + 1 > len(self._keys) // 2:
            self._keys, self._values = native_words.grow(self._keys, self._values)
        for array in (self._runs, self._of_chunk):
            array.reserve(2 * len(array) + _ROOM)
        self._words.reserve(2 * self._words.known + _ROOM)

    @property
    def size(self) -> int:
        """Stretches it knows, of which very long ones count as several."""
        return self.known if self._plain is None else max(self.known, len(self._plain.bytes) // _STRETCH)

    def words_of(self, chunk: int) -> NDArray[np.int32]:
        """The numbers of a chunk's words."""
        begin, count = self._runs.values[chunk]
        return self._of_chunk.values[begin : begin + count]

    def measure(self, batch: Batch, groups: int = sum(set(native_measures.GROUPS.values()))) -> NDArray[np.int64]:
        """native_measures.METRICS of each document, [documents, metrics]; of some groups, or of all."""
        return native_measures.measure(  # type: ignore[no-any-return]
            batch.text_N, batch.begins, batch.chunks, batch.chunk_begins, self._runs.values,
            self._of_chunk.values, self._words.about.room, self._powers, self._ends, groups,
        )  # fmt: skip

    def cut_lines(self, batch: Batch, longest: int, fewest: int, *, ended: bool) -> tuple[Any, Any]:
        """See native_lines.cut_lines."""
        return native_lines.cut_lines(  # type: ignore[no-any-return]
            batch.text_N, batch.begins, batch.chunks, batch.chunk_begins, batch.chunk_ends, self._runs.values,
            self._of_chunk.values, self._words.about.room, longest, fewest, ended,
        )  # fmt: skip

    def sign(self, batch: Batch, n: int, factors: NDArray[np.uint64], terms: NDArray[np.uint64]) -> tuple[Any, Any]:
        """See native_minhash.sign; of a table with plain words."""
        assert self._plain is not None
        plain = self._plain
        return native_minhash.sign(  # type: ignore[no-any-return]
            batch.begins, batch.chunks, batch.chunk_begins, plain.places.values, plain.bytes.room, n, factors, terms,
        )  # fmt: skip


class _WordStore:
    """Words by number; `about` as native_words.add_words has it."""

    def __init__(self, rules: Rules, stops: NDArray[np.uint64]) -> None:
        self._rules, self._stops = rules, stops
        self.keys, self.values = np.zeros(_ROOM, np.uint64), np.zeros(_ROOM, np.int32)
        self.known = 0
        self.about = _Growing(np.uint64, columns=2)
        self.reserve(_ROOM // 4)

    def reserve(self, size: int) -> None:
        """Room for so many words."""
        self.about.reserve(size)
        while size > len(self.keys) // 2:
            self.keys, self.values = native_words.grow(self.keys, self.values)

    def numbers(self, words: list[str]) -> NDArray[np.int32]:
        """Of words, which are known afterwards."""
        text_N, bounds = points_of("".join(words)), _bounds([len(word) for word in words])
        found = np.empty(len(bounds), np.int32)
        self.reserve(self.known + len(bounds))
        self.known = native_words.add_words(
            text_N, bounds, len(bounds), self.keys, self.values, self.known, self.about.room,
            self._rules.kinds, self._stops, found,
        )  # fmt: skip
        return found


class _PlainWords:
    """The words of each chunk once it is plain: small letters without accents and punctuation, numbers all the same.

    Those of chunk c are `bytes` from `places[c, 0]` to `places[c, 1]`, `places[c, 2]` of them: UTF-8, a space behind
    each.
    """

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self.places, self.bytes = _Growing(np.int32, columns=3), _Growing(np.uint8)

    def learn(self, text_N: NDArray[np.uint32], joined: str, stretches: NDArray[np.int64]) -> None:
        rules, before = self._rules, len(self.places)
        room = int((stretches[:, 1] - stretches[:, 0]).sum())
        self.bytes.reserve(len(self.bytes) + 4 * room + native_minhash.SLACK)
        self.places.reserve(before + len(stretches))
        self.places.size += len(stretches)
        places = self.places.values[before:]
        self.bytes.size = native_words.simplify(
            text_N, stretches, rules.plain, rules.kinds, rules.special, rules.parts, rules.units, rules.pairs,
            rules.merges, rules.digits_hyphen, rules.longest, self.bytes.room, self.bytes.size, places,
        )  # fmt: skip
        slowly = np.flatnonzero(places[:, 2] < 0)
        more = [
            "".join(f"{word} " for piece in plain_text(joined[start:end]).split() for word in rules.split(piece))
            for start, end in stretches[slowly].tolist()
        ]
        encoded = [text.encode("utf-8", "replace") for text in more]
        places[slowly, :2] = _bounds([len(each) for each in encoded]) + len(self.bytes)
        places[slowly, 2] = [text.count(" ") for text in more]
        self.bytes.extend(np.frombuffer(b"".join(encoded), np.uint8))
        self.bytes.reserve(len(self.bytes) + native_minhash.SLACK)


Layer = tuple[WordTable, NDArray[np.int64], Batch]
"""The table of a language, documents of it by their places in a block, their texts as they are now."""


class Words:
    """The words of blocks, counted once for all the steps that ask, by each document's language.

    `stop_words` of a language are those that its steps look for; `plain` and `words` as in WordTable; `counted`: what
    will be asked for of texts as they first come, which is counted at once.
    """

    def __init__(
        self, languages: Sequence[str], stop_words: Mapping[str, Iterable[str]], *, plain: bool = False,
        words: bool = True, counted: Iterable[str] = (),
    ) -> None:  # fmt: skip
        self._languages, self._stop_words, self._kinds = languages, stop_words, {"plain": plain, "words": words}
        self._tables: dict[int, WordTable] = {}
        self._block: Block | None = None
        self._told = np.zeros(0, np.int16)  # the languages of its documents
        self._layers = list[Layer]()
        self._expected = list[tuple[WordTable, NDArray[np.int64], list[str], Batch]]()
        self._counted = np.zeros((0, len(native_measures.METRICS)), np.int64)
        self._groups = np.zeros(0, np.uint8)  # those of native_measures.GROUPS that each document was counted for
        self._first = _groups_of(counted)
        self._foreseen = self._first  # what will be asked for of the texts as they are now

    def _table(self, language: int) -> WordTable:
        """Of a language by its place."""
        table = self._tables.get(language)
        if table is None:
            name = self._languages[language]
            stops = self._stop_words.get(name, ())
            table = self._tables[language] = WordTable(name, stops, **self._kinds)
        return table

    def batches(self, block: Block) -> Sequence[Layer]:
        """All documents of a block, each in one batch. A text is looked up once for all steps."""
        if block is not self._block or block.languages is not self._told:
            self._begin(block)
            self._layers = self._looked_up(block, np.arange(len(block)))
        elif block.changed:
            changed = np.array(sorted(block.changed), np.int64)
            still = [(layer, ~np.isin(layer[1], changed)) for layer in self._layers]
            self._layers = [
                layer if stays.all() else (layer[0], layer[1][stays], layer[2].of(np.flatnonzero(stays)))
                for layer, stays in still
                if stays.any()
            ]
            self._layers += self._edited(block, changed)
            self._groups[changed], self._foreseen = 0, 0
        block.changed.clear()
        self._expected.clear()
        return self._layers

    def expect(self, table: WordTable, rows: NDArray[np.int64], texts: list[str], batch: Batch) -> None:
        """That documents of the block become these texts, whose batch is known already."""
        self._expected.append((table, rows, texts, batch))

    def _edited(self, block: Block, changed: NDArray[np.int64]) -> list[Layer]:
        """Of documents that have another text than before."""
        layers = list[Layer]()
        for table, rows, texts, batch in self._expected:
            came = [block.texts[row] is text for row, text in zip(rows.tolist(), texts, strict=True)]
            at = np.flatnonzero(came & np.isin(rows, changed))
            if len(at):
                layers.append((table, rows[at], batch if len(at) == len(rows) else batch.of(at)))
                changed = np.setdiff1d(changed, rows[at])
        return layers + self._looked_up(block, changed)

    def _begin(self, block: Block) -> None:
        self._block, self._told = block, block.languages
        self._expected.clear()
        self._foreseen = self._first
        if sum(table.size for table in self._tables.values()) > _LARGEST:
            self._tables.clear()
        self._counted = np.zeros((len(block), len(native_measures.METRICS)), np.int64)
        self._groups = np.zeros(len(block), np.uint8)

    def _looked_up(self, block: Block, rows: NDArray[np.int64]) -> list[Layer]:
        of = block.languages[rows]
        found = []
        for language in np.unique(of).tolist():
            table, its = self._table(language), rows[of == language]
            found.append((table, its, table.batch([block.texts[row] for row in its.tolist()])))
        return found

    def counts(self, block: Block, names: Sequence[str]) -> dict[str, NDArray[np.int64]]:
        """These of native_measures.METRICS for each document as its text is now."""
        asked = _groups_of(names)
        for table, rows, batch in self.batches(block):
            lacking = np.flatnonzero((self._groups[rows] & asked) != asked)
            if not len(lacking):
                continue
            wanted = asked | self._foreseen
            columns = [at for at, group in enumerate(native_measures.GROUPS.values()) if group & wanted == group]
            some = batch if len(lacking) == len(rows) else batch.of(lacking)
            self._counted[rows[lacking, None], columns] = table.measure(some, wanted)[:, columns]
            self._groups[rows[lacking]] |= np.uint8(wanted)
        return {name: self._counted[:, native_measures.METRICS.index(name)].copy() for name in names}


def _groups_of(names: Iterable[str]) -> int:
    return reduce(or_, (native_measures.GROUPS[name] for name in names), 0)


_LARGEST = 800_000  # stretches in all tables, with their words 150 MB; at 2^20 their arrays would double: measured
_STRETCH = 80  # bytes of plain words that count as a stretch: few stretches have more, but one can have millions: guess


def _bounds(lengths: Sequence[int] | NDArray[np.int64]) -> NDArray[np.int64]:
    """Starts and ends of what lies one behind the other."""
    ends = np.cumsum(np.asarray(lengths, np.int64))
    return np.stack([ends - np.asarray(lengths, np.int64), ends], 1)


class _Growing:
    """An array that is added to at its end; `room` is all of it, `values` what is filled."""

    def __init__(self, dtype: Any, values: Sequence[int] = (), columns: int = 0) -> None:
        self.room, self.size = np.zeros((1024, columns) if columns else 1024, dtype), 0
        self.extend(values)

    def reserve(self, size: int) -> None:
        if size > len(self.room):
            larger = np.zeros((max(size, 2 * len(self.room)), *self.room.shape[1:]), self.room.dtype)
            larger[: len(self.room)] = self.room  # compiled passes fill it, too, before `size` is set
            self.room = larger

    def extend(self, values: Sequence[int] | NDArray[Any]) -> None:
        self.reserve(self.size + len(values))
        if len(values):
            self.room[self.size : self.size + len(values)] = values
        self.size += len(values)

    def __len__(self) -> int:
        return self.size

    @property
    def values(self) -> NDArray[Any]:
        return self.room[: self.size]
