"""The compiled pass that measures documents: everything that published rules count, in one look."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit, uint64
from numpy.typing import NDArray

from polyana.corpus.native import (
    ALPHABETIC,
    FLAGS,
    SEED,
    SOLID,
    STOP,
    Hash,
    ends_row,
    hash_end,
    hashed_on,
    is_space,
    leaf,
    mixed,
    power,
)

__all__ = ["GROUPS", "METRICS", "measure"]

METRICS = (
    "characters", "words", "solid_words", "solid_characters", "alphabetic_words", "stop_words",
    "hashes", "ellipses", "rows", "bullet_rows", "ellipsis_rows",
    "paragraphs", "duplicate_paragraphs", "duplicate_paragraph_characters",
    "lines", "duplicate_lines", "duplicate_line_characters",
    "top_2_gram", "top_3_gram", "top_4_gram",
    "duplicate_5_grams", "duplicate_6_grams", "duplicate_7_grams", "duplicate_8_grams", "duplicate_9_grams",
    "duplicate_10_grams",
    "full_lines", "ended_lines", "short_lines", "duplicate_full_line_characters", "newlines",
)  # fmt: skip
"""What `measure` counts in each document, in the order of its columns.

solid words are those that are not punctuation alone; rows are what Python's splitlines gives, lines what lies between
runs of newlines, full lines those between single newlines that are not blank. `top_n_gram` is the length of the most
frequent n words, spaces between, times how often they stand; `duplicate_n_grams` are the characters of n words that
stood before, counted without overlap. All by the definitions of Rae et al. 2021 (table A1) as datatrove computes them.
"""

(
    _CHARACTERS, _WORDS, _SOLID_WORDS, _SOLID_CHARACTERS, _ALPHABETIC_WORDS, _STOP_WORDS, _HASHES, _ELLIPSES,
    _ROWS, _BULLET_ROWS, _ELLIPSIS_ROWS, _PARAGRAPHS, _DUPLICATE_PARAGRAPHS, _DUPLICATE_PARAGRAPH_CHARACTERS,
    _LINES, _DUPLICATE_LINES, _DUPLICATE_LINE_CHARACTERS, _FULL_LINES, _ENDED_LINES, _SHORT_LINES,
    _DUPLICATE_FULL_LINE_CHARACTERS, _NEWLINES,
) = (METRICS.index(name) for name in METRICS if not name.endswith(("_gram", "_grams")))  # fmt: skip
_TOP, _DUPLICATE = METRICS.index("top_2_gram"), METRICS.index("duplicate_5_grams")  # and those behind them
_FLAGS, _SPLIT_LINES, _BLOCKS, _GRAMS = 1, 2, 4, 8
GROUPS = {
    name: _GRAMS if name.endswith(("_gram", "_grams"))
    else _FLAGS if name in ("solid_words", "solid_characters", "alphabetic_words", "stop_words")
    else _SPLIT_LINES if name in ("hashes", "ellipses", "rows", "bullet_rows", "ellipsis_rows")
    else 0 if name in ("characters", "words")
    else _BLOCKS
    for name in METRICS
}  # fmt: skip
"""What is counted together, as a bit; characters and words are by all."""
_LENGTH = (np.uint64(1) << FLAGS) - np.uint64(1)
_STOPS = 1000  # stop words that are told apart in a document: guess, no list is as long
_SHORT = 30  # characters of a short line (Penedo et al. 2024, section 3.6)


@leaf
def _hash_of_line(text_N: NDArray[np.uint32], start: int, end: int) -> Hash:
    """Another one, two characters in the time of one: each step waits for the one before."""
    value, at = SEED ^ uint64(end - start), start
    while at + 1 < end:
        value = hashed_on(value, uint64(text_N[at]) | (uint64(text_N[at + 1]) << uint64(32)))
        at += 2
    return hash_end(hashed_on(value, text_N[at]) if at < end else value)


@njit(cache=True, inline="always")
def _place(keys: NDArray[np.uint64], stamps: NDArray[np.int32], mask: Hash, key: Hash, stamp: int) -> Hash:
    """Where a key of mixed bits stands in this table, or would. Entries of older stamps do not count."""
    at = (key >> uint64(1)) & mask
    while stamps[at] == stamp and keys[at] != key:
        at = (at + uint64(1)) & mask
    return at


@njit(cache=True, inline="always")
def _seen(keys: NDArray[np.uint64], stamps: NDArray[np.int32], mask: Hash, key: Hash, stamp: int) -> bool:
    """Whether a key of mixed bits was put into this set before; now it was."""
    at = _place(keys, stamps, mask, key, stamp)
    if stamps[at] == stamp:
        return True
    stamps[at], keys[at] = stamp, key
    return False


@njit(cache=True, inline="always")
def _mask(count: int) -> Hash:
    """Of a table that `count` things fill by half at most: small ones stay in the nearest cache."""
    room = 64
    while room < 2 * count:
        room *= 2
    return uint64(room - 1)


_STOPPING = np.zeros(128, np.bool_)
"""What `_rows` stops at: what ends a row, # and the dot. Other signs of ASCII it passes over by one look."""
_STOPPING[[10, 11, 12, 13, 28, 29, 30, 35, 46]] = True


@leaf
def _rows(text_N: NDArray[np.uint32], row_M: NDArray[np.int64]) -> None:
    """Count hashes, ellipses and the rows of one document."""
    size, start, at = len(text_N), 0, 0
    while start < size:
        at = start
        dots, dot = 0, -2  # in a row up to now; where the last one stood
        while at < size:
            point = text_N[at]
            if point < 128 and not _STOPPING[point]:
                at += 1
                continue
            if ends_row(point):
                break
            if point == 35:
                row_M[_HASHES] += 1
            elif point == 0x2026:
                row_M[_ELLIPSES] += 1
            elif point == 46:
                dots = dots + 1 if dot == at - 1 else 1
                dot = at
                if dots == 3:
                    row_M[_ELLIPSES] += 1
                    dots = 0
            at += 1
        row_M[_ROWS] += 1
        end, first = at, start
        while first < end and is_space(text_N[first]):
            first += 1
        if first < end:
            row_M[_BULLET_ROWS] += text_N[first] in (0x2022, 45)
        while end > first and is_space(text_N[end - 1]):
            end -= 1
        if end > first and (
            text_N[end - 1] == 0x2026
            or (end - start >= 3 and text_N[end - 1] == 46 and text_N[end - 2] == 46 and text_N[end - 3] == 46)
        ):
            row_M[_ELLIPSIS_ROWS] += 1
        start = at + 2 if at + 1 < size and text_N[at] == 13 and text_N[at + 1] == 10 else at + 1


@leaf
def _blocks(  # noqa: PLR0912, PLR0915  three ways to cut a text, by one look at it
    text_N: NDArray[np.uint32], ends: NDArray[np.uint8], row_M: NDArray[np.int64], stretches: NDArray[np.int64],
    hashes: NDArray[np.uint64], keys: NDArray[np.uint64], stamps: NDArray[np.int32], stamp: int,
) -> int:  # fmt: skip
    """Count paragraphs, lines and full lines of one document; the next free stamp. `stretches`, [lines, 2], and
    `hashes` have room for what lies between its newlines."""
    size, count, start = len(text_N), 0, 0
    for at in range(size + 1):
        if at == size or text_N[at] == 10:
            stretches[count, 0], stretches[count, 1] = start, at
            hashes[count] = _hash_of_line(text_N, start, at)
            count += 1
            start = at + 1
    row_M[_NEWLINES] = count - 1
    mask = _mask(count)
    for number in range(count):
        start, end = stretches[number]
        if start == end and 0 < number < count - 1:  # within a run of newlines, which part lines like one
            continue
        blank = start
        while blank < end and is_space(text_N[blank]):
            blank += 1
        again = _seen(keys, stamps, mask, hashes[number], stamp)
        row_M[_LINES] += 1
        if again:
            row_M[_DUPLICATE_LINES] += 1
            row_M[_DUPLICATE_LINE_CHARACTERS] += end - start
        if blank < end:
            row_M[_FULL_LINES] += 1
            row_M[_ENDED_LINES] += ends[text_N[end - 1]]
            row_M[_SHORT_LINES] += end - start <= _SHORT
            if again:
                row_M[_DUPLICATE_FULL_LINE_CHARACTERS] += end - start
    # paragraphs: of the text without the space around it, parted by two newlines and more
    left, right = 0, size
    while left < right and is_space(text_N[left]):
        left += 1
    while right > left and is_space(text_N[right - 1]):
        right -= 1
    if left == right:
        row_M[_PARAGRAPHS] += 1
        return stamp + 1
    stamp += 1
    begin, last, key = -1, 0, uint64(0)
    for number in range(count + 1):
        start, end = right, right
        if number < count:
            if stretches[number, 1] < left or stretches[number, 0] > right:
                continue
            start, end = max(stretches[number, 0], left), min(stretches[number, 1], right)
        if start == end:
            if begin >= 0:
                row_M[_PARAGRAPHS] += 1
                if _seen(keys, stamps, mask, key, stamp):
                    row_M[_DUPLICATE_PARAGRAPHS] += 1
                    row_M[_DUPLICATE_PARAGRAPH_CHARACTERS] += last - begin
            begin = -1
            continue
        whole = start == stretches[number, 0] and end == stretches[number, 1]
        if begin < 0:
            begin, key = start, uint64(0)
        key = mixed(key + (hashes[number] if whole else _hash_of_line(text_N, start, end)))
        last = end
    return stamp + 1


@njit(cache=True, nogil=True)
def _grams(  # noqa: PLR0912  one pass over the words
    words: NDArray[np.int32], about_W: NDArray[np.uint64], powers: NDArray[np.uint64], row_M: NDArray[np.int64],
    keys: NDArray[np.uint64], stamps: NDArray[np.int32], counts: NDArray[np.int32], stamp: int,
) -> int:  # fmt: skip
    """Count the repeated n words of one document; the next free stamp."""
    count = len(words)
    mask = _mask(count)
    lengths = np.empty(count + 1, np.int64)
    lengths[0] = 0
    for at in range(count):
        lengths[at + 1] = lengths[at] + int(about_W[words[at], 1] & _LENGTH)
    folded, slots = np.empty(count, np.uint64), np.empty(count, np.int32)
    again = np.arange(count)  # where n - 1 words begin that stand anywhere else, too
    left = count
    for at in range(count):
        folded[at] = uint64(words[at])
    for number in range(3):
        n, most = number + 2, 0
        looked = 0
        for candidate in range(left):
            at = again[candidate]
            # n words that stand twice begin and end with n - 1 that do
            if at + n > count or candidate + 1 == left or again[candidate + 1] != at + 1:
                continue
            key = folded[at] = mixed(
                (folded[at] << uint64(32)) ^ (folded[at] >> uint64(32)) ^ uint64(words[at + n - 1])
            )
            place = _place(keys, stamps, mask, key, stamp)
            if stamps[place] != stamp:
                stamps[place], keys[place], counts[place] = stamp, key, 0
            counts[place] += 1
            most = max(most, counts[place])
            again[looked], slots[looked] = at, place
            looked += 1
        left, first = 0, -1
        for candidate in range(looked):
            frequent = counts[slots[candidate]]
            if frequent == most and first < 0:  # of those as frequent the first
                first = again[candidate]
            if frequent > 1:
                again[left] = again[candidate]
                left += 1
        if most <= 1:  # all stand once, those that were not looked at, too
            most, first = 1, 0
        if count >= n:
            row_M[_TOP + number] = (lengths[first + n] - lengths[first] + n - 1) * most
        stamp += 1
    if left == 0:
        return stamp
    hashes = np.empty(count + 1, np.uint64)
    hashes[0] = uint64(0)
    for at in range(count):
        hashes[at + 1] = hashes[at] * power(powers, lengths[at + 1] - lengths[at]) + about_W[words[at], 0]
    for number in range(6):
        n, free = number + 5, 0
        for candidate in range(left):
            at = again[candidate]
            if at < free or at + n > count:
                continue
            # by their letters, so that `a bc` would repeat `ab c`; of those that begin with four words that stand once
            # only such a pair could repeat, and none does in 339,449 stretches of real text
            length = lengths[at + n] - lengths[at]
            value = hashes[at + n] - hashes[at] * power(powers, length)
            key = mixed(value * uint64(0x9E3779B97F4A7C15) + uint64(length))
            if _seen(keys, stamps, mask, key, stamp):
                row_M[_DUPLICATE + number] += length
                free = at + n
        stamp += 1
    return stamp


@njit(cache=True, nogil=True)
def measure(  # noqa: PLR0912  one pass over the documents
    text_N: NDArray[np.uint32], begins: NDArray[np.int64], chunks: NDArray[np.int32], chunk_begins: NDArray[np.int64],
    runs: NDArray[np.int32], of_chunk: NDArray[np.int32], about_W: NDArray[np.uint64], powers: NDArray[np.uint64],
    ends: NDArray[np.uint8], groups: int,
) -> Any:  # fmt: skip
    """[documents, METRICS]. `chunks` as `look_up` found them; `runs`, `of_chunk` and `about_W` as it keeps them.

    `ends[point]` is 1 where a character ends a sentence; `powers` are those of BASE.
    Only the metrics of these `groups` (bits, GROUPS) are counted.
    """
    documents = len(begins) - 1
    found = np.zeros((documents, len(METRICS)), np.int64)
    most_words, most_lines, at = 0, 0, 0
    for document in range(documents):
        count, lines = 0, 1
        while at < len(chunks) and chunk_begins[at] < begins[document + 1]:
            count += runs[chunks[at], 1]
            at += 1
        if groups & _BLOCKS:
            for place in range(begins[document], begins[document + 1]):
                lines += text_N[place] == 10
        found[document, _WORDS] = count
        most_words, most_lines = max(most_words, count), max(most_lines, lines)
    room = int(_mask(max(most_words, most_lines))) + 1
    keys, stamps, counts = np.zeros(room, np.uint64), np.zeros(room, np.int32), np.zeros(room, np.int32)
    stretches, hashes = np.empty((most_lines, 2), np.int64), np.empty(most_lines, np.uint64)
    words = np.empty(most_words, np.int32)
    stops = np.empty(_STOPS, np.int32)  # those that stand in a document
    stamp, at = 1, 0
    for document in range(documents):
        text, row = text_N[begins[document] : begins[document + 1] - 1], found[document]
        row[_CHARACTERS] = len(text)
        count = 0
        while at < len(chunks) and chunk_begins[at] < begins[document + 1]:
            begin = runs[chunks[at], 0]
            for place in range(begin, begin + runs[chunks[at], 1]):
                words[count] = of_chunk[place]
                count += 1
            at += 1
        if groups & _FLAGS:
            known = 0
            for word in words[:count]:
                flags = int(about_W[word, 1] >> FLAGS)
                if flags & SOLID:
                    row[_SOLID_WORDS] += 1
                    row[_SOLID_CHARACTERS] += int(about_W[word, 1] & _LENGTH)
                row[_ALPHABETIC_WORDS] += flags & ALPHABETIC
                if flags & STOP and known < _STOPS:
                    at_stop = 0
                    while at_stop < known and stops[at_stop] != word:
                        at_stop += 1
                    if at_stop == known:
                        stops[known] = word
                        known += 1
            row[_STOP_WORDS] = known
        if groups & _SPLIT_LINES:
            _rows(text, row)
        if groups & _BLOCKS:
            stamp = _blocks(text, ends, row, stretches, hashes, keys, stamps, stamp)
        if groups & _GRAMS:
            stamp = _grams(words[:count], about_W, powers, row, keys, stamps, counts, stamp)
    return found
