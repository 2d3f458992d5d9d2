"""Runs of words as numbers of 64 bits, and a table of them that texts are looked up in by compiled passes.

A word is a run of letters and digits in lower case without accents; all else only separates words. Two runs that differ
have the same number with a probability of 2^-64, so among 10 million known runs a text of a billion words meets a false
one with a probability of 5e-4.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from functools import cache
from typing import Any

import numpy as np
from numba import njit, uint64
from numpy.typing import NDArray

from polyana.corpus.native import Hash, mixed, slot_of
from polyana.errors import UserError

__all__ = ["RunIndex", "runs_of"]

_PIECE = 1 << 18  # characters looked up at once, for memory's sake: guess
_MARK = 1  # in `_folds`: belongs to the word and does not count
_WORD = 1 << 31  # a word by itself, as scripts without spaces have them
_BASE = np.uint64(0x9E3779B97F4A7C15)  # of the polynomial over words; odd, so that no word is multiplied away


def _points(text: str) -> NDArray[np.uint32]:
    """Code points, [N]."""
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)


@cache
def _folds() -> NDArray[np.uint32]:
    """What each code point counts as in a word: 0 if it is in none, else a letter, _MARK, or with _WORD set."""
    found = np.zeros(0x110000, np.uint32)
    for point in range(0x110000):
        sign = chr(point)
        if sign.isalnum():
            found[point] = ord(unicodedata.normalize("NFD", sign.casefold())[0])
        elif unicodedata.category(sign) in {"Mn", "Mc", "Me", "Cf"}:  # accents, vowel signs; soft hyphens, joiners
            found[point] = _MARK
    for low, high in ((0x3040, 0x30FF), (0x3400, 0x9FFF), (0xF900, 0xFAFF), (0x20000, 0x3FFFF)):  # Kana and Han
        letters = found[low : high + 1]
        letters[letters > _MARK] |= _WORD
    return found


@njit(cache=True, nogil=True)
def _words_of(text_N: NDArray[np.uint32], folds: NDArray[np.uint32]) -> Any:
    """(number of each word, where it begins, where it ends), [W] each."""
    room = len(text_N) + 1
    hashes, begins, ends = np.empty(room, np.uint64), np.empty(room, np.int32), np.empty(room, np.int32)
    count, start, value = 0, -1, uint64(0)
    for at in range(len(text_N)):
        letter = folds[text_N[at]]
        if letter == _MARK:
            continue  # between two letters or behind one
        alone = letter >= _WORD
        if start >= 0 and (letter == 0 or alone):
            hashes[count], begins[count], ends[count] = mixed(value), start, at
            count, start = count + 1, -1
        if alone:
            hashes[count], begins[count], ends[count] = mixed(uint64(letter)), at, at + 1
            count += 1
        elif letter != 0:
            if start < 0:
                start, value = at, uint64(0)
            value = (value ^ uint64(letter)) * uint64(0x9FB21C651E98DF25)
            value ^= value >> uint64(29)
    if start >= 0:
        hashes[count], begins[count], ends[count] = mixed(value), start, len(text_N)
        count += 1
    return hashes[:count], begins[:count], ends[:count]


@njit(cache=True, nogil=True)
def _prefixes(words_W: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The polynomial hash (modulo 2^64) of the words in front of each place, [W + 1]."""
    found = np.empty(len(words_W) + 1, np.uint64)
    found[0] = uint64(0)
    for at in range(len(words_W)):
        found[at + 1] = found[at] * _BASE + words_W[at]
    return found


@njit(cache=True, inline="always")
def _power(length: int) -> Hash:
    value = uint64(1)
    for _ in range(length):
        value *= _BASE
    return value


@njit(cache=True, inline="always")
def _run(prefixes: NDArray[np.uint64], start: int, length: int, power: Hash) -> Hash:
    """The number of words start to start + length; never 0, which marks a free place."""
    return mixed(prefixes[start + length] - prefixes[start] * power) | uint64(1)


@njit(cache=True, nogil=True)
def _runs(prefixes: NDArray[np.uint64], length: int) -> NDArray[np.uint64]:
    """The number of every run of `length` words."""
    power = _power(length)
    found = np.empty(max(len(prefixes) - length, 0), np.uint64)
    for start in range(len(found)):
        found[start] = _run(prefixes, start, length, power)
    return found


def runs_of(text: str, length: int) -> NDArray[np.uint64]:
    """The number of every run of `length` words of a text, in their order; of a shorter one that of all its words."""
    prefixes = _prefixes(_words_of(_points(text), _folds())[0])
    words = len(prefixes) - 1
    return _runs(prefixes, min(words, length)) if words else np.zeros(0, np.uint64)


def _table(count: int) -> tuple[NDArray[np.uint64], NDArray[np.int32]]:
    """Keys and values of an empty table of open addressing for `count` keys; at least a third stays free."""
    room = 1 << max((count * 3 // 2).bit_length(), 4)
    return np.zeros(room, np.uint64), np.zeros(room, np.int32)


@njit(cache=True, nogil=True)
def _insert(keys: NDArray[np.uint64], values: NDArray[np.int32], new_R: NDArray[np.uint64], value_R: Any) -> None:
    """Puts keys into a table with their values; one that is there keeps its own."""
    for at in range(len(new_R)):
        place = slot_of(keys, new_R[at])
        if keys[place] == uint64(0):
            keys[place], values[place] = new_R[at], value_R[at]


@njit(cache=True, nogil=True)
def _matches(
    prefixes: NDArray[np.uint64], length: int, keys: NDArray[np.uint64], values: NDArray[np.int32],
    shortest: int, heads: NDArray[np.uint64],
) -> NDArray[np.int64]:  # fmt: skip
    """(first word, words, value) of each run of `length` words that a table knows, and of each shorter one.

    Shorter ones have `shortest` words at least, and `heads` holds the numbers of their first `shortest` words; it is
    empty where there is none of them.
    """
    count, words = 0, len(prefixes) - 1
    found = np.empty((16, 3), np.int64)
    power, head_power = _power(length), _power(shortest)
    for start in range(words - min(shortest, length) + 1):
        shorter = length
        if len(heads) and start + shortest <= words:
            head = _run(prefixes, start, shortest, head_power)
            if heads[slot_of(heads, head)] != uint64(0):
                shorter = shortest
        for size in range(shorter, length + 1):
            if start + size > words:
                break
            key = _run(prefixes, start, size, power if size == length else _power(size))
            place = slot_of(keys, key)
            if keys[place] != uint64(0):
                if count == len(found):
                    larger = np.empty((2 * count, 3), np.int64)
                    larger[:count] = found
                    found = larger
                found[count, 0], found[count, 1], found[count, 2] = start, size, values[place]
                count += 1
    return found[:count]


_NOTHING = np.zeros((0, 3), np.int64)


class RunIndex:
    """The runs of words of evaluation sets. `set_of_item` [items]: which set each item is of.

    18 to 36 bytes for each run of words that is in any item.
    """

    def __init__(self, sets: Iterable[Iterable[str]], words: int, min_words: int) -> None:
        self._words, self._min_words = words, min_words
        keys, heads, of_item = list[Any](), list[Any](), list[int]()
        for number, texts in enumerate(sets):
            for text in texts:
                prefixes = _prefixes(_words_of(_points(text), _folds())[0])
                length = len(prefixes) - 1
                of_item.append(number)
                keys.append(_runs(prefixes, min(length, words)) if length >= min_words else np.zeros(0, np.uint64))
                if min_words <= length < words:
                    heads.append(_runs(prefixes[: min_words + 1], min_words))
        self.set_of_item = np.array(of_item, np.int32)
        sizes = [len(each) for each in keys]
        if not sum(sizes):
            raise UserError(f"no item of the evaluation sets has {min_words} words")
        self._keys, self._items = _table(sum(sizes))
        _insert(self._keys, self._items, np.concatenate(keys), np.repeat(np.arange(len(keys), dtype=np.int32), sizes))
        self._heads, unused = _table(len(heads)) if heads else (np.zeros(0, np.uint64), np.zeros(0, np.int32))
        if heads:
            _insert(self._heads, unused, np.concatenate(heads), np.zeros(len(heads), np.int32))

    def matches(self, text: str) -> NDArray[np.int64]:
        """(first character, end, item) of each known run of words; of an item that several share, the first."""
        found, at = list[NDArray[np.int64]](), 0
        while at < len(text):
            points = _points(text[at : at + _PIECE])
            hashes, begins, ends = _words_of(points, _folds())
            more = at + len(points) < len(text)
            if more and len(ends) and ends[-1] == len(points):  # it may go on
                hashes, begins, ends = hashes[:-1], begins[:-1], ends[:-1]
            rows = _matches(_prefixes(hashes), self._words, self._keys, self._items, self._min_words, self._heads)
            if len(rows):
                first, last = rows[:, 0], rows[:, 0] + rows[:, 1] - 1
                found.append(np.stack([begins[first] + at, ends[last] + at, rows[:, 2]], axis=1))
            if not more:
                break
            # runs that reach over the border begin with one of the last words
            overlap = begins[-self._words + 1] if len(begins) >= self._words else 0
            at += int(overlap) or len(points)
        return np.unique(np.concatenate(found), axis=0) if found else _NOTHING
