"""The compiled passes from text to words: stretches between spaces are looked up, and new ones split.

A stretch and a word are known by 64-bit hashes alone: among a hundred million, two that differ are taken for one with a
probability of 3e-4.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit, uint64
from numpy.typing import NDArray

from polyana.corpus.native import (
    ALPHABETIC,
    BASE,
    ENDER,
    FLAGS,
    PUNCTUATION,
    SEED,
    SOLID,
    STOP,
    Hash,
    digit,
    hash_end,
    hash_of,
    hashed_on,
    leaf,
    slot_of,
)  # fmt: skip
from polyana.corpus.native_split import (
    CATEGORY_P,
    DECOMPOSES,
    ENDS_SENTENCE,
    LETTER,
    LIST,
    MOST_WORDS,
    SPACE,
    STRANGE,
    is_known,
    split,
)  # fmt: skip

__all__ = ["add_words", "grow", "hash_texts", "look_up", "simplify", "stretches_of"]


@leaf
def _flags(
    text_N: NDArray[np.uint32], low: int, high: int, key: Hash, kinds: NDArray[np.uint16], stops: NDArray[np.uint64]
) -> int:
    letter, listed, category = False, True, True
    for at in range(low, high):
        kind = kinds[text_N[at]]
        letter = letter or (kind & LETTER) != 0
        listed = listed and (kind & LIST) != 0
        category = category and (kind & CATEGORY_P) != 0
    flags: int = ALPHABETIC * letter + SOLID * (not listed) + PUNCTUATION * category
    if high - low == 1 and kinds[text_N[low]] & ENDS_SENTENCE:
        flags += ENDER
    return flags + STOP if is_known(stops, key) else flags


@leaf
def add_words(
    text_N: NDArray[np.uint32], bounds: NDArray[np.int64], count: int, keys: NDArray[np.uint64],
    values: NDArray[np.int32], words: int, about_W: NDArray[np.uint64], kinds: NDArray[np.uint16],
    stops: NDArray[np.uint64], numbers: NDArray[np.int32],
) -> int:  # fmt: skip
    """Put the number of each word, text_N[bounds[i, 0]:bounds[i, 1]], into `numbers`; new ones are numbered from
    `words` on. How many words are known then; the arrays have to have room for all. `about_W` [words, 2]: a word's hash
    as a polynomial of BASE, and its length with its flags from bit FLAGS on."""
    for word in range(count):
        low, high = bounds[word, 0], bounds[word, 1]
        key = hash_of(text_N, low, high)
        at = slot_of(keys, key)
        if keys[at] == uint64(0):
            keys[at], values[at] = key, words
            value = uint64(0)
            for point in range(low, high):
                value = value * BASE + uint64(text_N[point]) + uint64(1)
            flags = _flags(text_N, low, high, key, kinds, stops)
            about_W[words, 0], about_W[words, 1] = value, uint64(high - low) | (uint64(flags) << FLAGS)
            words += 1
        numbers[word] = values[at]
    return words


@njit(cache=True, nogil=True)
def stretches_of(text_N: NDArray[np.uint32], kinds: NDArray[np.uint16]) -> Any:
    """What stands between spaces, in its order: ([stretches, 2] of start and end, hash of each). The last character is
    a space.

    Without a branch: where a stretch ends, no processor can foresee.
    """
    room = len(text_N) // 2 + 1
    bounds, hashes = np.empty((room, 2), np.int64), np.empty(room, np.uint64)
    count, start, inside, value = 0, 0, False, SEED
    for at in range(len(text_N)):
        point = text_N[at]
        space = (kinds[point] & SPACE) != 0
        bounds[count, 0], bounds[count, 1], hashes[count] = start, at, value
        count += space & inside
        start = start if inside else at
        value = SEED if space else hashed_on(value, point)
        inside = not space
    bounds, hashes = bounds[:count], hashes[:count]
    for number in range(count):
        hashes[number] = hash_end(hashes[number])
    return bounds, hashes


@njit(cache=True, nogil=True)
def look_up(
    text_N: NDArray[np.uint32], bounds: NDArray[np.int64], hashes: NDArray[np.uint64], begin: int,
    found: NDArray[np.int32], keys: NDArray[np.uint64], values: NDArray[np.int32], known: int,
    runs: NDArray[np.int32], of_chunk: NDArray[np.int32], used: int,
    word_keys: NDArray[np.uint64], word_values: NDArray[np.int32], words: int, about_W: NDArray[np.uint64],
    kinds: NDArray[np.uint16], special: NDArray[np.uint64], parts: NDArray[np.uint64], units: NDArray[np.uint64],
    pairs: NDArray[np.uint64], merges: NDArray[np.uint64], stops: NDArray[np.uint64], digits_hyphen: bool,
    longest: int, numbered: bool,
) -> Any:  # fmt: skip
    """Put the number that the table knows each stretch under into `found`, from stretch `begin` on; new ones are split
    and kept.

    (The new ones, known stretches, words of stretches and words afterwards, the stretch before which the pass stopped.)
    `runs` [stretches, 2]: where the words of a stretch begin in `of_chunk` and how many they are, -1 for one
    left to splitter.py. It stops when a table is half full or an array has no room, to be
    called again for the rest. With `numbered` it splits none: their numbers alone are of use.
    """
    new = np.empty(len(bounds) - begin, np.int64)
    pieces, numbers = np.empty((MOST_WORDS, 2), np.int64), np.empty(MOST_WORDS, np.int32)
    fresh, at = 0, begin
    while at < len(bounds):
        slot = slot_of(keys, hashes[at])
        if keys[slot] == uint64(0):
            if (
                known + 1 > len(keys) // 2 or known + 1 > len(runs) or used + MOST_WORDS > len(of_chunk)
                or words + MOST_WORDS > len(about_W) or words + MOST_WORDS > len(word_keys) // 2
            ):  # fmt: skip
                break
            keys[slot], values[slot] = hashes[at], known
            count = 0
            if not numbered:
                count = split(
                    text_N, bounds[at, 0], bounds[at, 1], hashes[at], longest, kinds, special, parts, units, pairs,
                    merges, digits_hyphen, pieces,
                )  # fmt: skip
            runs[known, 0], runs[known, 1] = used, count
            new[fresh] = at
            fresh += 1
            if count >= 0:
                words = add_words(
                    text_N, pieces, count, word_keys, word_values, words, about_W, kinds, stops, numbers,
                )  # fmt: skip
                of_chunk[used : used + count] = numbers[:count]
                used += count
            known += 1
        found[at] = values[slot]
        at += 1
    return new[:fresh], known, used, words, at


@njit(cache=True, nogil=True)
def hash_texts(text_N: NDArray[np.uint32], begins: NDArray[np.int64]) -> NDArray[np.uint64]:
    """The hash of each text, text_N[begins[i]:begins[i + 1]]."""
    found = np.empty(len(begins) - 1, np.uint64)
    for text in range(len(found)):
        found[text] = hash_of(text_N, begins[text], begins[text + 1])
    return found


@njit(cache=True, nogil=True)
def grow(keys: NDArray[np.uint64], values: NDArray[np.int32]) -> tuple[NDArray[np.uint64], NDArray[np.int32]]:
    """The table with twice as many places."""
    larger, moved = np.zeros(2 * len(keys), np.uint64), np.zeros(2 * len(keys), np.int32)
    for at in range(len(keys)):
        if keys[at] != uint64(0):
            slot = slot_of(larger, keys[at])
            larger[slot], moved[slot] = keys[at], values[at]
    return larger, moved


@njit(cache=True, inline="always")
def _encode(point: int, bytes_B: NDArray[np.uint8], at: int) -> int:
    """Put a character in UTF-8 to place `at`; the place behind it."""
    if point < 0x80:
        bytes_B[at] = point
        return at + 1
    if point < 0x800:
        bytes_B[at], bytes_B[at + 1] = 0xC0 | (point >> 6), 0x80 | (point & 63)
        return at + 2
    bytes_B[at], bytes_B[at + 1], bytes_B[at + 2] = (
        0xE0 | (point >> 12),
        0x80 | ((point >> 6) & 63),
        0x80 | (point & 63),
    )
    return at + 3


@njit(cache=True, nogil=True)
def simplify(  # noqa: PLR0912  one pass over the stretches
    text_N: NDArray[np.uint32], stretches: NDArray[np.int64], plain: NDArray[np.uint32], kinds: NDArray[np.uint16],
    special: NDArray[np.uint64], parts: NDArray[np.uint64], units: NDArray[np.uint64], pairs: NDArray[np.uint64],
    merges: NDArray[np.uint64], digits_hyphen: bool, longest: int, bytes_B: NDArray[np.uint8], used: int,
    places: NDArray[np.int32],
) -> int:  # fmt: skip
    """Put the plain words of new stretches, [stretches, 2] of start and end, into `bytes_B` from place `used` on: in
    UTF-8 with a space behind each, one stretch behind the other; the place behind the last.

    `places` [stretches, 3] gets where each begins and ends and how many words it has, -1 for those left to Python.
    `plain[point]` is what a character becomes: 0 nothing, 32 a border, or another character. There has to be room for
    4 bytes a character: 3 of its own, and a space.
    """
    bounds = np.empty((MOST_WORDS, 2), np.int64)
    scratch = np.empty(64, np.uint32)
    for number in range(len(stretches)):
        start, end = stretches[number]
        if end - start + 1 > len(scratch):
            scratch = np.empty(2 * (end - start + 1), np.uint32)
        length, at, strange = 0, start, False
        while at < end:
            point = text_N[at]
            if kinds[point] & DECOMPOSES or (kinds[point] & STRANGE and plain[point] != 32):
                strange = True
                break
            if digit(point):
                while at < end and digit(text_N[at]):
                    at += 1
                if at + 1 < end and text_N[at] in (46, 44) and digit(text_N[at + 1]):
                    at += 1
                    while at < end and digit(text_N[at]):
                        at += 1
                scratch[length] = 48
                length += 1
                continue
            if plain[point]:
                scratch[length] = plain[point]
                length += 1
            at += 1
        first, low, words = used, 0, 0
        while not strange and low < length:
            if scratch[low] == 32:
                low += 1
                continue
            high = low
            while high < length and scratch[high] != 32:
                high += 1
            key = hash_of(scratch, low, high)
            pieces = split(
                scratch, low, high, key, longest, kinds, special, parts, units, pairs, merges, digits_hyphen, bounds
            )
            if pieces < 0:
                strange = True
                break
            for piece in range(pieces):
                for place in range(bounds[piece, 0], bounds[piece, 1]):
                    used = _encode(scratch[place], bytes_B, used)
                bytes_B[used] = 32
                used += 1
            words += pieces
            low = high
        used = first if strange else used
        places[number, 0], places[number, 1], places[number, 2] = first, used, -1 if strange else words
    return used
