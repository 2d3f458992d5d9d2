"""The compiled passes over a batch of documents: chunks to words, and everything that is measured from both.

A batch is one array of code points, `text_N`, with the documents one behind the other and a space behind each: document
i is text_N[begins[i]:begins[i + 1] - 1]. Nothing here calls Python, so threads run side by side.

Equal stretches of text are recognised by 64-bit hashes alone: among a hundred million distinct ones, two that differ
are taken for one with a probability of 3e-4.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
from numba import njit, uint64
from numpy.typing import NDArray

__all__ = [
    "GROUPS",
    "METRICS",
    "SEED",
    "byte_lengths",
    "cut_lines",
    "flatten",
    "hash_end",
    "hash_lines",
    "hash_of",
    "hashed_on",
    "is_space",
    "joined",
    "joined_lines",
    "leaf",
    "measure",
    "mixed",
    "powers",
    "slot_of",
    "taken",
    "unite",
]

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
F = TypeVar("F", bound=Callable[..., Any])

ALPHABETIC, SOLID, STOP, ENDER, PUNCTUATION = 1, 2, 4, 8, 16
"""Flags of a word: it has a letter; it is more than punctuation; it is one of the language's stop words; it ends a
sentence as spaCy's sentencizer has it; it is punctuation by its Unicode categories."""

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
_STOPS = 1000  # stop words that are told apart in a document: guess, no list is as long
_SHORT = 30  # characters of a short line (Penedo et al. 2024, section 3.6)
_PRIME = np.uint64((1 << 61) - 1)


def leaf(function: F) -> F:
    """Compile a function that makes no array. Its arguments' references are not counted, which is half of the time
    where functions call each other from stretch to stretch."""
    return njit(cache=True, nogil=True, _nrt=False)(function)  # type: ignore[call-overload]


@njit(cache=True, inline="always")
def is_space(point: int) -> bool:
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
def mixed(value: Hash) -> Hash:
    """The finalizer of MurmurHash3: every bit of the result depends on every bit given."""
    value = uint64(value)
    value ^= value >> uint64(33)
    value *= uint64(0xFF51AFD7ED558CCD)
    value ^= value >> uint64(33)
    value *= uint64(0xC4CEB9FE1A85EC53)
    return value ^ (value >> uint64(33))


SEED = np.uint64(0x9E3779B97F4A7C15)


@njit(cache=True, inline="always")
def hashed_on(value: Hash, point: int) -> Hash:
    """A hash with one character more, or two in one number, begun from SEED and ended by `hash_end`: a polynomial
    modulo 2^64, for what comes next waits for it, and a product and a sum are the least there is to wait for."""
    return value * uint64(0x9FB21C651E98DF25) + uint64(point)


@njit(cache=True, inline="always")
def hash_end(value: Hash) -> Hash:
    """64 mixed bits; never 0, which marks a free place."""
    return mixed(value) | uint64(1)


@leaf
def hash_of(text_N: NDArray[np.uint32], start: int, end: int) -> Hash:
    """64 bits of a stretch of text."""
    value = SEED
    for at in range(start, end):
        value = hashed_on(value, text_N[at])
    return hash_end(value)


@leaf
def _hash_of_line(text_N: NDArray[np.uint32], start: int, end: int) -> Hash:
    """Another one, two characters in the time of one: each step waits for the one before."""
    value, at = SEED ^ uint64(end - start), start
    while at + 1 < end:
        value = hashed_on(value, uint64(text_N[at]) | (uint64(text_N[at + 1]) << uint64(32)))
        at += 2
    return hash_end(hashed_on(value, text_N[at]) if at < end else value)


@njit(cache=True, inline="always")
def slot_of(keys: NDArray[np.uint64], key: Hash) -> Hash:
    """Where a key stands in a table of open addressing, or would."""
    mask = uint64(len(keys) - 1)
    at = (key >> uint64(1)) & mask
    while keys[at] != uint64(0) and keys[at] != key:
        at = (at + uint64(1)) & mask
    return at


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
def joined(hash_a: Hash, hash_b: Hash, power_b: Hash) -> Hash:
    """The hash of two texts one behind the other: a polynomial in the base, so that only the characters count."""
    total = _times(hash_a, power_b) + hash_b
    return total - _PRIME if total >= _PRIME else total


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
    last = len(powers) - 1
    if exponent <= last:
        return powers[exponent]
    value = powers[exponent % last]
    for _ in range(exponent // last):
        value = _times(value, powers[last])
    return value


@leaf
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
            if first == 0 and not is_space(point):
                first = point
            at += 1
        dots = 0
        row_M[_ROWS] += 1
        if first in (0x2022, 45):
            row_M[_BULLET_ROWS] += 1
        end = at
        while end > start and is_space(text_N[end - 1]):
            end -= 1
        if (end > start and text_N[end - 1] == 0x2026) or (
            end - start >= 3 and text_N[end - 1] == 46 and text_N[end - 2] == 46 and text_N[end - 3] == 46
        ):
            row_M[_ELLIPSIS_ROWS] += 1
        if at < size:
            at += 2 if text_N[at] == 13 and at + 1 < size and text_N[at + 1] == 10 else 1


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
def _grams(  # noqa: PLR0912, PLR0915  one pass over the words
    words: NDArray[np.int32], length_W: NDArray[np.int32], hash_W: NDArray[np.uint64], powers: NDArray[np.uint64],
    row_M: NDArray[np.int64], keys: NDArray[np.uint64], stamps: NDArray[np.int32], counts: NDArray[np.int32],
    stamp: int,
) -> int:  # fmt: skip
    """Count the repeated n words of one document; the next free stamp."""
    count = len(words)
    mask = _mask(count)
    lengths = np.empty(count + 1, np.int64)
    lengths[0] = 0
    for at in range(count):
        lengths[at + 1] = lengths[at] + length_W[words[at]]
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
        hashes[at + 1] = joined(hashes[at], hash_W[words[at]], _power(powers, length_W[words[at]]))
    for number in range(6):
        n, free = number + 5, 0
        for candidate in range(left):
            at = again[candidate]
            if at < free or at + n > count:
                continue
            # by their letters, so that `a bc` would repeat `ab c`; of those that begin with four words that stand once
            # only such a pair could repeat, and none does in 339,449 stretches of real text
            length = lengths[at + n] - lengths[at]
            taken = _times(hashes[at], _power(powers, length))
            value = hashes[at + n] + _PRIME - taken
            value = value - _PRIME if value >= _PRIME else value
            key = mixed(value * uint64(0x9E3779B97F4A7C15) + uint64(length))
            if _seen(keys, stamps, mask, key, stamp):
                row_M[_DUPLICATE + number] += length
                free = at + n
        stamp += 1
    return stamp


@njit(cache=True, nogil=True)
def measure(  # noqa: PLR0912  one pass over the documents
    text_N: NDArray[np.uint32], begins: NDArray[np.int64], chunks: NDArray[np.int32], chunk_begins: NDArray[np.int64],
    first: NDArray[np.int64], count_C: NDArray[np.int32], of_chunk: NDArray[np.int32],
    length_W: NDArray[np.int32], hash_W: NDArray[np.uint64], flags_W: NDArray[np.uint8],
    powers: NDArray[np.uint64], ends: NDArray[np.uint8], groups: int,
) -> Any:  # fmt: skip
    """[documents, METRICS]. `chunks` as `look_up` found them; chunk c has count_C[c] words, from of_chunk[first[c]] on.

    `ends[point]` is 1 where a character ends a sentence; `powers` are those of the base that `hash_W` was made with.
    Only the metrics of these `groups` (bits, GROUPS) are counted.
    """
    documents = len(begins) - 1
    found = np.zeros((documents, len(METRICS)), np.int64)
    most_words, most_lines, at = 0, 0, 0
    for document in range(documents):
        count, lines = 0, 1
        while at < len(chunks) and chunk_begins[at] < begins[document + 1]:
            count += count_C[chunks[at]]
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
            for place in range(first[chunks[at]], first[chunks[at]] + count_C[chunks[at]]):
                words[count] = of_chunk[place]
                count += 1
            at += 1
        if groups & _FLAGS:
            known = 0
            for word in words[:count]:
                flags = flags_W[word]
                if flags & SOLID:
                    row[_SOLID_WORDS] += 1
                    row[_SOLID_CHARACTERS] += length_W[word]
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
            stamp = _grams(words[:count], length_W, hash_W, powers, row, keys, stamps, counts, stamp)
    return found


CLEAN, LONG_WORD, UNENDED, FEW_WORDS = 0, 1, 2, 3
"""What `cut_lines` says of a line, in the order in which it is looked at."""


@njit(cache=True, nogil=True)
def cut_lines(  # noqa: PLR0912, PLR0915  one pass over the text
    text_N: NDArray[np.uint32], begins: NDArray[np.int64], chunks: NDArray[np.int32], chunk_begins: NDArray[np.int64],
    chunk_ends: NDArray[np.int64], first: NDArray[np.int64], count_C: NDArray[np.int32], of_chunk: NDArray[np.int32],
    flags_W: NDArray[np.uint8], longest: int, fewest: int,
    ended: bool,
) -> Any:  # fmt: skip
    """The rows of documents as C4 judges them: [rows, 4] of start, end without the space around, verdict, sentences;
    and where the rows of each document begin. Starts and ends count from the beginning of their document.

    `longest`: characters of a word, `fewest`: words between spaces; `ended`: whether a row has to end as a sentence.
    """
    documents = len(begins) - 1
    rows = 0
    for document in range(documents):
        rows += 1
        for at in range(begins[document], begins[document + 1] - 1):
            rows += _ends_row(text_N[at])
    found, of_document = np.zeros((rows, 4), np.int64), np.zeros(documents + 1, np.int64)
    row, chunk = 0, 0
    for document in range(documents):
        origin, last = begins[document], begins[document + 1] - 1
        at = origin
        while at < last:
            start = at
            while at < last and not _ends_row(text_N[at]):
                at += 1
            end, following = at, at + 1
            if at < last and text_N[at] == 13 and at + 1 < last and text_N[at + 1] == 10:
                following += 1
            while start < end and is_space(text_N[start]):
                start += 1
            while end > start and is_space(text_N[end - 1]):
                end -= 1
            words, sentences, too_long = 0, 0, False
            over, behind = False, start  # a sentence has ended; where the last chunk ended
            while chunk < len(chunks) and chunk_begins[chunk] < end:
                begin, stop = chunk_begins[chunk], chunk_ends[chunk]
                gap = begin - behind
                if words > 0 and over and (gap != 1 or text_N[behind] != 32):
                    sentences += 1  # spaCy makes a word of other space than one blank, and it begins the next sentence
                    over = False
                words += 1
                too_long = too_long or stop - begin > longest
                sentences = max(sentences, 1)
                for place in range(first[chunks[chunk]], first[chunks[chunk]] + count_C[chunks[chunk]]):
                    flags = flags_W[of_chunk[place]]
                    if over and not flags & (PUNCTUATION | ENDER):
                        sentences += 1
                        over = False
                    elif flags & ENDER:
                        over = True
                behind = stop
                chunk += 1
            point = text_N[end - 1] if end > start else 0
            open_end = point not in (46, 63, 33, 34, 39) or (
                end - start >= 3 and point == 46 and text_N[end - 2] == 46 and text_N[end - 3] == 46
            )
            found[row, 0], found[row, 1], found[row, 3] = start - origin, end - origin, sentences
            if too_long:
                found[row, 2] = LONG_WORD
            elif ended and open_end:
                found[row, 2] = UNENDED
            elif words < fewest:
                found[row, 2] = FEW_WORDS
            row += 1
            at = following
        of_document[document + 1] = row
    return found[:row], of_document


@njit(cache=True, nogil=True)
def byte_lengths(text_N: NDArray[np.uint32], stretches: NDArray[np.int64]) -> NDArray[np.int64]:
    """Bytes of UTF-8 of each stretch, text_N[stretches[i, 0]:stretches[i, 1]]; half a character counts as one."""
    found = np.zeros(len(stretches), np.int64)
    for number in range(len(stretches)):
        size = 0
        for at in range(stretches[number, 0], stretches[number, 1]):
            point = text_N[at]
            size += 1 + (point >= 0x80) + (point >= 0x800) + (point >= 0x10000) - 2 * (0xD800 <= point <= 0xDFFF)
        found[number] = size
    return found


@njit(cache=True, nogil=True)
def joined_lines(
    text_N: NDArray[np.uint32], stretches: NDArray[np.int64], of_document: NDArray[np.int64]
) -> tuple[NDArray[np.uint32], NDArray[np.int64]]:
    """Texts of the lines stretches[of_document[i]:of_document[i + 1]] with a newline behind each, one text behind the
    other, and where each ends."""
    size = len(stretches)
    for number in range(len(stretches)):
        size += stretches[number, 1] - stretches[number, 0]
    points, ends, used = np.empty(size, np.uint32), np.empty(len(of_document) - 1, np.int64), 0
    for document in range(len(ends)):
        for number in range(of_document[document], of_document[document + 1]):
            for at in range(stretches[number, 0], stretches[number, 1]):
                points[used] = text_N[at]
                used += 1
            points[used] = 10
            used += 1
        ends[document] = used
    return points, ends


@njit(cache=True, nogil=True)
def taken(
    text_N: NDArray[np.uint32], begins: NDArray[np.int64], chunks: NDArray[np.int32], chunk_begins: NDArray[np.int64],
    chunk_ends: NDArray[np.int64], documents: NDArray[np.int64],
) -> Any:  # fmt: skip
    """The batch of these documents, in this order."""
    size = 0
    for document in documents:
        size += begins[document + 1] - begins[document]
    firsts = np.searchsorted(chunk_begins, begins)
    count = 0
    for document in documents:
        count += firsts[document + 1] - firsts[document]
    new_N, new_begins = np.empty(size, np.uint32), np.zeros(len(documents) + 1, np.int64)
    new_chunks = np.empty(count, np.int32)
    new_chunk_begins, new_chunk_ends = np.empty(count, np.int64), np.empty(count, np.int64)
    used, at = 0, 0
    for number in range(len(documents)):
        document = documents[number]
        moved = used - begins[document]
        length = begins[document + 1] - begins[document]
        new_N[used : used + length] = text_N[begins[document] : begins[document + 1]]
        for chunk in range(firsts[document], firsts[document + 1]):
            new_chunks[at] = chunks[chunk]
            new_chunk_begins[at], new_chunk_ends[at] = chunk_begins[chunk] + moved, chunk_ends[chunk] + moved
            at += 1
        used += length
        new_begins[number + 1] = used
    return new_N, new_begins, new_chunks, new_chunk_begins, new_chunk_ends


@njit(cache=True, nogil=True)
def unite(parent: NDArray[Any], one: NDArray[np.int64], other: NDArray[np.int64]) -> None:
    """Note pairs that belong together in `parent`, by which each thing leads to the smallest of its cluster
    (union-find)."""
    for pair in range(len(one)):
        a, b = one[pair], other[pair]
        while parent[a] != a:
            parent[a] = parent[parent[a]]
            a = parent[a]
        while parent[b] != b:
            parent[b] = parent[parent[b]]
            b = parent[b]
        if a < b:
            parent[b] = a
        else:
            parent[a] = b


@njit(cache=True, nogil=True)
def flatten(parent: NDArray[Any]) -> None:
    """Each thing at once to the smallest of its cluster."""
    for thing in range(len(parent)):
        parent[thing] = parent[parent[thing]]  # its parent comes before it and already points at the smallest


@njit(cache=True, nogil=True)
def hash_lines(bytes_B: Any, begin_D: Any, site_D: Any) -> Any:
    """(document, hash, start, end) of each line that is not blank; FNV-1a of its bytes, begun from its site, mixed."""
    most = np.count_nonzero(bytes_B == 10)
    document_L, hash_L = np.empty(most, np.int64), np.empty(most, np.uint64)
    start_L, end_L = np.empty(most, np.int64), np.empty(most, np.int64)
    count = 0
    for document in range(len(begin_D) - 1):
        start = begin_D[document]
        for at in range(start, begin_D[document + 1]):
            if bytes_B[at] != 10:
                continue
            left, right = start, at
            while left < right and bytes_B[left] <= 32:
                left += 1
            while right > left and bytes_B[right - 1] <= 32:
                right -= 1
            if left < right:
                value = site_D[document] ^ uint64(0xCBF29CE484222325)
                for place in range(left, right):
                    value = (value ^ uint64(bytes_B[place])) * uint64(0x100000001B3)
                document_L[count], hash_L[count], start_L[count], end_L[count] = document, mixed(value), start, at + 1
                count += 1
            start = at + 1
    return document_L[:count], hash_L[:count], start_L[:count], end_L[:count]
