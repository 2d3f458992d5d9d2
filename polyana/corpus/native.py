"""The compiled passes over a batch of documents: chunks to words, and everything that is measured from both.

A batch is one array of code points, `text_N`, with the documents one behind the other and a space behind each: document
i is text_N[begins[i]:begins[i + 1] - 1]. Nothing here calls Python, so threads run side by side.

Equal stretches of text are recognised by 64-bit hashes alone: among a hundred million distinct ones, two that differ
are taken for one with a probability of 3e-4.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit, uint64
from numpy.typing import NDArray

__all__ = ["METRICS", "grow", "lookup", "measure", "powers", "word_hashes"]

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

Hash = Any
"""An unsigned number of 64 bits."""

ALPHABETIC, SOLID, STOP = 1, 2, 4
"""Flags of a word: it has a letter; it is more than punctuation; it is one of the language's stop words."""

(
    _CHARACTERS, _WORDS, _SOLID_WORDS, _SOLID_CHARACTERS, _ALPHABETIC_WORDS, _STOP_WORDS, _HASHES, _ELLIPSES,
    _ROWS, _BULLET_ROWS, _ELLIPSIS_ROWS, _PARAGRAPHS, _DUPLICATE_PARAGRAPHS, _DUPLICATE_PARAGRAPH_CHARACTERS,
    _LINES, _DUPLICATE_LINES, _DUPLICATE_LINE_CHARACTERS, _FULL_LINES, _ENDED_LINES, _SHORT_LINES,
    _DUPLICATE_FULL_LINE_CHARACTERS, _NEWLINES,
) = (METRICS.index(name) for name in METRICS if not name.endswith(("_gram", "_grams")))  # fmt: skip
_TOP, _DUPLICATE = METRICS.index("top_2_gram"), METRICS.index("duplicate_5_grams")  # and those behind them
_SHORT = 30  # characters of a short line (Penedo et al. 2024, section 3.6)
_PRIME = np.uint64((1 << 61) - 1)


@njit(cache=True, inline="always")
def _is_space(point: int) -> bool:
    """As Python's str.isspace."""
    if point <= 32:
        return point == 32 or 9 <= point <= 13 or 28 <= point <= 31
    if point < 0x85:
        return False
    return (
        point in (0x85, 0xA0, 0x1680) or 0x2000 <= point <= 0x200A
        or point in (0x2028, 0x2029, 0x202F, 0x205F, 0x3000)
    )  # fmt: skip


@njit(cache=True, inline="always")
def _ends_row(point: int) -> bool:
    """As Python's str.splitlines."""
    return 10 <= point <= 13 or 28 <= point <= 30 or point in (0x85, 0x2028, 0x2029)


@njit(cache=True, inline="always")
def _mixed(value: Hash) -> Hash:
    """The finalizer of MurmurHash3: every bit of the result depends on every bit given."""
    value = uint64(value)
    value ^= value >> uint64(33)
    value *= uint64(0xFF51AFD7ED558CCD)
    value ^= value >> uint64(33)
    value *= uint64(0xC4CEB9FE1A85EC53)
    return value ^ (value >> uint64(33))


@njit(cache=True, nogil=True)
def _hash_of(text_N: NDArray[np.uint32], start: int, end: int) -> Hash:
    """64 bits of a stretch of text; never 0, which marks a free place."""
    value = uint64(0x9E3779B97F4A7C15)
    for at in range(start, end):
        value = (value ^ uint64(text_N[at])) * uint64(0x9FB21C651E98DF25)
        value ^= value >> uint64(29)
    return _mixed(value) | uint64(1)


@njit(cache=True, inline="always")
def _place(keys: NDArray[np.uint64], key: Hash) -> Hash:
    """Where a key stands in a table of open addressing, or would."""
    mask = uint64(len(keys) - 1)
    at = (key >> uint64(1)) & mask
    while keys[at] != uint64(0) and keys[at] != key:
        at = (at + uint64(1)) & mask
    return at


@njit(cache=True, nogil=True)
def grow(keys: NDArray[np.uint64], values: NDArray[np.int32]) -> tuple[NDArray[np.uint64], NDArray[np.int32]]:
    """The table with twice as many places."""
    larger, moved = np.zeros(2 * len(keys), np.uint64), np.zeros(2 * len(keys), np.int32)
    for at in range(len(keys)):
        if keys[at] != uint64(0):
            place = _place(larger, keys[at])
            larger[place], moved[place] = keys[at], values[at]
    return larger, moved


@njit(cache=True, nogil=True)
def lookup(
    text_N: NDArray[np.uint32], keys: NDArray[np.uint64], values: NDArray[np.int32], known: int, room: int
) -> Any:
    """What stands between spaces, by the number that the table knows it under.

    (numbers of the chunks in their order, where each begins, starts and ends of those that were new, which are numbered
    from `known` on, where the pass stopped). It stops when `room` places are taken, to be called again for the rest.
    """
    found = np.empty(len(text_N) // 2 + 1, np.int32)
    begins = np.empty(len(text_N) // 2 + 1, np.int64)
    new = np.empty((len(text_N) // 2 + 1, 2), np.int64)
    count, fresh, at = 0, 0, 0
    while at < len(text_N):
        if _is_space(text_N[at]):
            at += 1
            continue
        start = at
        while at < len(text_N) and not _is_space(text_N[at]):
            at += 1
        key = _hash_of(text_N, start, at)
        place = _place(keys, key)
        if keys[place] == uint64(0):
            if known + fresh >= room:
                at = start
                break
            keys[place] = key
            values[place] = known + fresh
            new[fresh, 0], new[fresh, 1] = start, at
            fresh += 1
        found[count] = values[place]
        begins[count] = start
        count += 1
    return found[:count], begins[:count], new[:fresh], at


@njit(cache=True, inline="always")
def _times(a: Hash, b: Hash) -> Hash:
    """a b modulo the prime 2^61 - 1."""
    low_a, high_a = a & uint64(0xFFFFFFFF), a >> uint64(32)
    low_b, high_b = b & uint64(0xFFFFFFFF), b >> uint64(32)
    low, high = low_a * low_b, high_a * high_b
    cross = low_a * high_b + high_a * low_b  # below 2^62: both have 61 bits
    # 2^64 = 8 and 2^61 = 1 modulo the prime
    total = (low & _PRIME) + (low >> uint64(61)) + (high << uint64(3)) + (cross >> uint64(29))
    total += (cross & uint64(0x1FFFFFFF)) << uint64(32)
    total = (total & _PRIME) + (total >> uint64(61))
    return total - _PRIME if total >= _PRIME else total


@njit(cache=True, inline="always")
def _joined(hash_a: Hash, hash_b: Hash, power_b: Hash) -> Hash:
    """The hash of two texts one behind the other: a polynomial in the base, so that only the characters count."""
    total = _times(hash_a, power_b) + hash_b
    return total - _PRIME if total >= _PRIME else total


@njit(cache=True, inline="always")
def _seen(keys: NDArray[np.uint64], stamps: NDArray[np.int32], mask: Hash, key: Hash, stamp: int) -> bool:
    """Whether a key was put into this set before; now it was. Entries of older stamps do not count."""
    at = _mixed(key) & uint64(mask)
    while stamps[at] == stamp:
        if keys[at] == key:
            return True
        at = (at + uint64(1)) & uint64(mask)
    stamps[at], keys[at] = stamp, key
    return False


@njit(cache=True, nogil=True)
def powers(base: Hash, count: int) -> NDArray[np.uint64]:
    """base^0 to base^(count - 1) modulo the prime."""
    found = np.empty(count, np.uint64)
    found[0] = uint64(1)
    for at in range(1, count):
        found[at] = _times(found[at - 1], base)
    return found


@njit(cache=True, inline="always")
def _power(powers: NDArray[np.uint64], exponent: int) -> Hash:
    """As the table has it, or by several of its entries where it is too short."""
    last, value = len(powers) - 1, uint64(1)
    while exponent > last:
        value = _times(value, powers[last])
        exponent -= last
    return _times(value, powers[exponent])


@njit(cache=True, nogil=True)
def word_hashes(text_N: NDArray[np.uint32], begins: NDArray[np.int64], base: Hash) -> NDArray[np.uint64]:
    """The polynomial hash of each word; word i is text_N[begins[i]:begins[i + 1]]."""
    found = np.zeros(len(begins) - 1, np.uint64)
    for word in range(len(found)):
        value = uint64(0)
        for at in range(begins[word], begins[word + 1]):
            value = _joined(value, uint64(text_N[at]) + uint64(1), base)
        found[word] = value
    return found


@njit(cache=True, inline="always")
def _repeated(
    text_N: NDArray[np.uint32], start: int, end: int, keys: NDArray[np.uint64], stamps: NDArray[np.int32], mask: Hash,
    stamp: int,
) -> bool:  # fmt: skip
    return _seen(keys, stamps, mask, _hash_of(text_N, start, end), stamp)


@njit(cache=True, nogil=True)
def _rows(text_N: NDArray[np.uint32], row_M: NDArray[np.int64]) -> None:
    """Count hashes, ellipses and the rows of one document."""
    size, at = len(text_N), 0
    dots = 0  # in a row, up to now
    while at < size:
        start = at
        first = 0  # character that is no space
        while at < size and not _ends_row(text_N[at]):
            point = text_N[at]
            if point == 35:
                row_M[_HASHES] += 1
            if point == 46:
                dots += 1
                if dots == 3:
                    row_M[_ELLIPSES] += 1
                    dots = 0
            else:
                dots = 0
                if point == 0x2026:
                    row_M[_ELLIPSES] += 1
            if first == 0 and not _is_space(point):
                first = point
            at += 1
        dots = 0
        row_M[_ROWS] += 1
        if first in (0x2022, 45):
            row_M[_BULLET_ROWS] += 1
        end = at
        while end > start and _is_space(text_N[end - 1]):
            end -= 1
        if (end > start and text_N[end - 1] == 0x2026) or (
            end - start >= 3 and text_N[end - 1] == 46 and text_N[end - 2] == 46 and text_N[end - 3] == 46
        ):
            row_M[_ELLIPSIS_ROWS] += 1
        if at < size:
            at += 2 if text_N[at] == 13 and at + 1 < size and text_N[at + 1] == 10 else 1


@njit(cache=True, nogil=True)
def _blocks(  # noqa: PLR0912, PLR0915  one pass over the text
    text_N: NDArray[np.uint32], ends: NDArray[np.uint8], row_M: NDArray[np.int64],
    keys: NDArray[np.uint64], stamps: NDArray[np.int32], stamp: int,
) -> int:  # fmt: skip
    """Count paragraphs, lines and full lines of one document; the next free stamp."""
    size, mask = len(text_N), len(keys) - 1
    # paragraphs: of the text without the space around it, parted by two newlines and more
    left, right = 0, size
    while left < right and _is_space(text_N[left]):
        left += 1
    while right > left and _is_space(text_N[right - 1]):
        right -= 1
    start, at = left, left
    while at <= right:
        run = at
        while run < right and text_N[run] == 10:
            run += 1
        if run - at >= 2 or at == right:
            row_M[_PARAGRAPHS] += 1
            if _repeated(text_N, start, at, keys, stamps, mask, stamp):
                row_M[_DUPLICATE_PARAGRAPHS] += 1
                row_M[_DUPLICATE_PARAGRAPH_CHARACTERS] += at - start
            if at == right:
                break
            start = at = run
        else:
            at = max(run, at + 1)
    # lines: parted by one newline and more, an empty one at either end where the text has a newline there
    stamp += 1
    start, at = 0, 0
    while at <= size:
        if at == size or text_N[at] == 10:
            row_M[_LINES] += 1
            if _repeated(text_N, start, at, keys, stamps, mask, stamp):
                row_M[_DUPLICATE_LINES] += 1
                row_M[_DUPLICATE_LINE_CHARACTERS] += at - start
            if at == size:
                break
            while at < size and text_N[at] == 10:
                at += 1
            start = at
        else:
            at += 1
    # full lines: parted by each newline, those that are not blank
    stamp += 1
    start, at, blank = 0, 0, True
    while at <= size:
        if at == size or text_N[at] == 10:
            if not blank:
                row_M[_FULL_LINES] += 1
                row_M[_ENDED_LINES] += ends[text_N[at - 1]]
                row_M[_SHORT_LINES] += at - start <= _SHORT
                if _repeated(text_N, start, at, keys, stamps, mask, stamp):
                    row_M[_DUPLICATE_FULL_LINE_CHARACTERS] += at - start
            if at == size:
                break
            row_M[_NEWLINES] += 1
            start, blank = at + 1, True
        else:
            blank = blank and _is_space(text_N[at])
        at += 1
    return stamp + 1


@njit(cache=True, nogil=True)
def _grams(
    words: NDArray[np.int32], length_W: NDArray[np.int32], hash_W: NDArray[np.uint64], powers: NDArray[np.uint64],
    row_M: NDArray[np.int64], keys: NDArray[np.uint64], stamps: NDArray[np.int32], counts: NDArray[np.int32],
    slots: NDArray[np.int64], stamp: int,
) -> int:  # fmt: skip
    """Count the repeated n words of one document; the next free stamp."""
    count, mask = len(words), uint64(len(keys) - 1)
    lengths, hashes = np.empty(count + 1, np.int64), np.empty(count + 1, np.uint64)
    lengths[0], hashes[0] = 0, uint64(0)
    for at in range(count):
        word = words[at]
        lengths[at + 1] = lengths[at] + length_W[word]
        hashes[at + 1] = _joined(hashes[at], hash_W[word], _power(powers, length_W[word]))
    for number in range(3):
        n, most = number + 2, 0
        for at in range(count - n + 1):
            key = uint64(0)
            for offset in range(n):
                key = _mixed(key ^ uint64(words[at + offset])) + uint64(offset + 1)
            place = key & mask
            while stamps[place] == stamp and keys[place] != key:
                place = (place + uint64(1)) & mask
            if stamps[place] != stamp:
                stamps[place], keys[place], counts[place] = stamp, key, 0
            counts[place] += 1
            slots[at] = place
            most = max(most, counts[place])
        for at in range(count - n + 1):  # of those as frequent the first
            if counts[slots[at]] == most:
                row_M[_TOP + number] = (lengths[at + n] - lengths[at] + n - 1) * most
                break
        stamp += 1
    for number in range(6):
        n, at = number + 5, 0
        while at < count - n + 1:
            length = lengths[at + n] - lengths[at]
            taken = _times(hashes[at], _power(powers, length))
            value = hashes[at + n] + _PRIME - taken
            value = value - _PRIME if value >= _PRIME else value
            if _seen(keys, stamps, mask, value * uint64(0x9E3779B97F4A7C15) + uint64(length), stamp):
                row_M[_DUPLICATE + number] += length
                at += n
            else:
                at += 1
        stamp += 1
    return stamp


@njit(cache=True, nogil=True)
def measure(
    text_N: NDArray[np.uint32], begins: NDArray[np.int64], chunks: NDArray[np.int32], chunk_begins: NDArray[np.int64],
    first: NDArray[np.int64], of_chunk: NDArray[np.int32],
    length_W: NDArray[np.int32], hash_W: NDArray[np.uint64], flags_W: NDArray[np.uint8],
    powers: NDArray[np.uint64], ends: NDArray[np.uint8],
) -> Any:  # fmt: skip
    """[documents, METRICS]. `chunks` as `lookup` found them; the words of chunk c are of_chunk[first[c]:first[c + 1]].

    `ends[point]` is 1 where a character ends a sentence; `powers` are those of the base that `hash_W` was made with.
    """
    documents = len(begins) - 1
    found = np.zeros((documents, len(METRICS)), np.int64)
    most_words, most_lines, at = 0, 0, 0
    for document in range(documents):
        count, lines = 0, 1
        while at < len(chunks) and chunk_begins[at] < begins[document + 1]:
            count += first[chunks[at] + 1] - first[chunks[at]]
            at += 1
        for place in range(begins[document], begins[document + 1]):
            lines += text_N[place] == 10
        most_words, most_lines = max(most_words, count), max(most_lines, lines)
    room = 64
    while room < 2 * max(most_words, most_lines) + 2:
        room *= 2
    keys, stamps = np.zeros(room, np.uint64), np.zeros(room, np.int32)
    counts, slots = np.zeros(room, np.int32), np.zeros(most_words + 1, np.int64)
    words = np.empty(most_words + 1, np.int32)
    last_stop = np.full(len(length_W), -1, np.int32)
    stamp, at = 1, 0
    for document in range(documents):
        text, row = text_N[begins[document] : begins[document + 1] - 1], found[document]
        row[_CHARACTERS] = len(text)
        count = 0
        while at < len(chunks) and chunk_begins[at] < begins[document + 1]:
            for place in range(first[chunks[at]], first[chunks[at] + 1]):
                word = of_chunk[place]
                words[count] = word
                count += 1
                flags = flags_W[word]
                if flags & SOLID:
                    row[_SOLID_WORDS] += 1
                    row[_SOLID_CHARACTERS] += length_W[word]
                row[_ALPHABETIC_WORDS] += flags & ALPHABETIC
                if flags & STOP and last_stop[word] != document:
                    last_stop[word] = document
                    row[_STOP_WORDS] += 1
            at += 1
        row[_WORDS] = count
        _rows(text, row)
        stamp = _blocks(text, ends, row, keys, stamps, stamp)
        stamp = _grams(words[:count], length_W, hash_W, powers, row, keys, stamps, counts, slots, stamp)
    return found
