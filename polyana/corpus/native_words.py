"""The compiled passes from text to words: stretches between spaces are looked up, and new ones split as spaCy does.

What the rules of splitter.py come to for signs below U+3000 without surprises is done here, which is nearly all; for
the rest `split` gives up and splitter.py is asked. Both give spaCy's words, which tests hold them to.

A stretch and a word are known by 64-bit hashes alone: among a hundred million, two that differ are taken for one with a
probability of 3e-4.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit, uint8, uint64
from numpy.typing import NDArray

from polyana.corpus.native import (
    ALPHABETIC,
    ENDER,
    PUNCTUATION,
    SEED,
    SOLID,
    STOP,
    Hash,
    hash_end,
    hash_of,
    hashed_on,
    joined,
    leaf,
    slot_of,
)  # fmt: skip

__all__ = ["KINDS", "add_words", "grow", "hash_texts", "look_up", "simplify", "stretches_of"]

KINDS = (
    "letter", "alnum", "list", "punctuation", "ender", "alpha", "lower", "upper", "quote", "prefix", "suffix",
    "before_dot", "host", "strange", "decomposes", "space",
)  # fmt: skip
"""Bits of a character in `kinds`. letter, alnum: as Python's isalpha, isalnum; list: what a word may consist of and be
none; punctuation: Unicode categories P; ender: ends a sentence; alpha, lower, upper, quote: spaCy's classes; prefix,
suffix: one by itself; before_dot: behind which a dot is a suffix; host: of a host's name; strange: left to splitter.py;
decomposes: more than one character when it is plain; space: as Python's isspace."""

(
    _LETTER, _ALNUM, _LIST, _CATEGORY_P, _ENDER, _ALPHA, _LOWER, _UPPER, _QUOTE, _PREFIX, _SUFFIX, _BEFORE_DOT, _HOST,
    _STRANGE, _DECOMPOSES, _SPACE,
) = (1 << bit for bit in range(len(KINDS)))  # fmt: skip
_MOST = 200  # words of a stretch that are found here; longer ones are left to splitter.py: guess


@njit(cache=True, inline="always")
def _known(keys: NDArray[np.uint64], key: Hash) -> Any:
    return keys[slot_of(keys, key)] != uint64(0)


@njit(cache=True, inline="always")
def _digit(point: int) -> bool:
    return 48 <= point <= 57


@leaf
def _is_address(text_N: NDArray[np.uint32], low: int, high: int, kinds: NDArray[np.uint16]) -> int:
    """1 for what spaCy takes for an address of the web, 0 for what it does not, -1 for what is left to it."""
    # a host has a dot, and begins the stretch, or stands behind a protocol that does, or behind somebody's name and @
    found = _is_host(text_N, low, high, kinds)
    scheme = True
    for at in range(low, high):
        if found > 0:
            break
        point = text_N[at]
        start = low
        if point == 64 and at > low:
            start = at + 1
        elif scheme and point == 58 and at + 2 < high and text_N[at + 1] == 47 and text_N[at + 2] == 47:
            start = at + 3 if at - low >= 2 else low
        if start > low:
            one = _is_host(text_N, start, high, kinds)
            found = one if one else found
        scheme = scheme and ((kinds[point] & _ALNUM) != 0 or point in (43, 45, 46, 95))
    return found


@leaf
def _is_host(text_N: NDArray[np.uint32], low: int, high: int, kinds: NDArray[np.uint16]) -> int:
    """As `_is_address`, of what is a host, a port and a path."""
    end = low
    while end < high and (kinds[text_N[end]] & _HOST or text_N[end] in (45, 46, 95)):
        end += 1
    rest = end
    if rest < high and text_N[rest] == 58:
        rest += 1
        while rest < high and _digit(text_N[rest]):
            rest += 1
        if not 2 <= rest - end - 1 <= 5:
            return 0
    if rest < high and text_N[rest] not in (47, 63, 35):
        return 0
    start, labels, numbers = low, 0, 0
    for at in range(low, end + 1):
        if at < end and text_N[at] != 46:
            continue
        size = at - start
        number, lower = size > 0, size > 0
        for inner in range(start, at):
            number = number and _digit(text_N[inner])
            lower = lower and (kinds[text_N[inner]] & _LOWER) != 0
        numbers += number
        labels += 1
        if at == end:
            if numbers == 4 and labels == 4:
                return -1
            return 1 if labels > 1 and lower and 2 <= size <= 63 else 0
        if size == 0 or not kinds[text_N[start]] & _HOST or not kinds[text_N[at - 1]] & _HOST:
            return -1 if numbers == labels else 0
        if size > 64:
            return -1
        start = at + 1
    return 0


@njit(cache=True, inline="always")
def _dots(text_N: NDArray[np.uint32], at: int, high: int) -> int:
    """How many stand in a row from here on."""
    end = at
    while end < high and text_N[end] == 46:
        end += 1
    return end - at


@njit(cache=True, inline="always")
def _dots_before(text_N: NDArray[np.uint32], low: int, high: int) -> int:
    start = high
    while start > low and text_N[start - 1] == 46:
        start -= 1
    return high - start


@leaf
def _suffix(
    text_N: NDArray[np.uint32], low: int, high: int, kinds: NDArray[np.uint16], units: NDArray[np.uint64]
) -> int:
    """Characters of a suffix of text_N[low:high]; -1 where it is left to splitter.py."""
    if low >= high:
        return 0
    point = text_N[high - 1]
    kind = kinds[point]
    if kind & _SUFFIX:
        return 1
    if _digit(point):
        return 0
    if kind & _LETTER:
        if point in (115, 83) and high - low >= 2 and text_N[high - 2] in (39, 0x2019):
            return 2
    elif point == 46:
        if high - low < 2:
            return 0
        before = text_N[high - 2]
        if before == 46:
            return _dots_before(text_N, low, high)
        if kinds[before] & _BEFORE_DOT:
            return 1
        return int(high - low >= 3 and (kinds[before] & _UPPER) != 0 and (kinds[text_N[high - 3]] & _UPPER) != 0)
    for at in range(high - 2, max(low, high - 8) - 1, -1):  # a unit behind a digit
        if _digit(text_N[at]):
            return high - 1 - at if _known(units, hash_of(text_N, at + 1, high)) else 0
    return 0


@leaf
def _inside(
    text_N: NDArray[np.uint32], low: int, at: int, high: int, kinds: NDArray[np.uint16], digits_hyphen: bool
) -> int:
    """Characters of an infix at `at` in text_N[low:high], 0 if there is none; -1 where it is left to splitter.py."""
    point = text_N[at]
    if at == low or at + 1 >= high:
        return -1 if point == 46 and (at + 1 < high and text_N[at + 1] == 46) else 0
    before, behind = text_N[at - 1], text_N[at + 1]
    if point == 46:
        if behind == 46:
            return _dots(text_N, at, high)
        return int((kinds[before] & (_LOWER | _QUOTE)) != 0 and (kinds[behind] & (_UPPER | _QUOTE)) != 0)
    if point in (43, 45, 42, 94) and _digit(before) and (_digit(behind) or behind == 45):
        return 1
    alpha = (kinds[before] & _ALPHA) != 0
    if point == 44:
        return int(alpha and (kinds[behind] & _ALPHA) != 0)
    if point in (45, 0x2013, 0x2014, 126):
        if not (alpha or (digits_hyphen and _digit(before))):
            return 0
        run = at + 1
        most = 3 if point == 45 else 2 if point == 0x2014 else 1
        while run < high and text_N[run] == point and run - at < most:
            run += 1
        return run - at if run < high and kinds[text_N[run]] & _ALPHA else 0
    if point in (58, 60, 62, 61, 47):
        return int((alpha or _digit(before)) and (kinds[behind] & _ALPHA) != 0)
    return 0


@njit(cache=True, inline="always")
def _is_special(text_N: NDArray[np.uint32], low: int, high: int, longest: int, special: NDArray[np.uint64]) -> bool:
    return low < high <= low + longest and _known(special, hash_of(text_N, low, high))


@leaf
def split(  # noqa: PLR0912, PLR0915  the rules in spaCy's order
    text_N: NDArray[np.uint32], low: int, high: int, key: Hash, longest: int, kinds: NDArray[np.uint16],
    special: NDArray[np.uint64], parts: NDArray[np.uint64], units: NDArray[np.uint64], pairs: NDArray[np.uint64],
    merges: NDArray[np.uint64], digits_hyphen: bool, found: NDArray[np.int64],
) -> int:  # fmt: skip
    """Put start and end of each word of a stretch into `found` [words, 2]; how many, or -1 for what is left to
    splitter.py. `key` is the stretch's hash.

    `special`: hashes of spaCy's exceptions, of `longest` characters at most, and `parts` at their places how long each
    word of theirs is, a byte a word, 0 where that does not go; `units`: hashes of what is a suffix behind a digit,
    `merges`: of two words that together are an exception of one, `pairs`: of two that other exceptions may begin with.
    """
    some, every, dot = 0, 0xFFFF, False
    for at in range(low, high):
        kind = kinds[text_N[at]]
        some |= kind
        every &= kind
        dot |= text_N[at] == 46
    if some & _STRANGE:
        return -1
    exception = _known(special, key)
    if every & _LETTER and not exception:
        found[0, 0], found[0, 1] = low, high
        return 1
    count, behind = 0, 0
    last = -1
    end_found = len(found)
    while low < high and high - low != last and not exception:
        last = high - low
        point = text_N[low]
        begin = 0
        if kinds[point] & _PREFIX:
            begin = 1
        elif point == 43:
            begin = int(low + 1 >= high or not _digit(text_N[low + 1]))
        elif point == 46 and low + 1 < high and text_N[low + 1] == 46:
            begin = _dots(text_N, low, high)
        end = 0
        exception = begin > 0 and _is_special(text_N, low + begin, high, longest, special)
        if not exception:
            end = _suffix(text_N, low + begin, high, kinds, units)
            if end < 0:
                return -1
            if end and _is_special(text_N, low, high - end, longest, special):
                exception, begin = True, 0
        if count + behind + 3 > end_found:
            return -1
        if begin:
            found[count, 0], found[count, 1] = low, low + begin
            count += 1
        if end and (not begin or begin + end <= high - low):
            behind += 1
            found[end_found - behind, 0], found[end_found - behind, 1] = high - end, high
            high -= end
        low += begin
        exception = exception or (begin > 0 and end > 0 and _is_special(text_N, low, high, longest, special))
    if exception:
        lengths = parts[slot_of(special, hash_of(text_N, low, high))]
        if lengths == uint64(0) or count + behind + 8 > end_found:
            return -1
        while lengths:
            size = int(lengths & uint64(255))
            found[count, 0], found[count, 1] = low, low + size
            count += 1
            low += size
            lengths >>= uint64(8)
    elif low < high:
        address = _is_address(text_N, low, high, kinds) if dot else 0
        if address < 0:
            return -1
        start = low
        if not address:
            at = low
            while at < high:
                point = text_N[at]
                if kinds[point] & _ALNUM:
                    at += 1
                    continue
                size = _inside(text_N, low, at, high, kinds, digits_hyphen)
                if size < 0 or count + behind + 3 > end_found:
                    return -1
                if size == 0:
                    at += 1
                    continue
                if at > start:
                    found[count, 0], found[count, 1] = start, at
                    count += 1
                found[count, 0], found[count, 1] = at, at + size
                count += 1
                at += size
                start = at
        if start < high:
            found[count, 0], found[count, 1] = start, high
            count += 1
    for number in range(behind):
        found[count, 0], found[count, 1] = found[end_found - behind + number, 0], found[end_found - behind + number, 1]
        count += 1
    return _merged(text_N, longest, pairs, merges, found, count)


@leaf
def _merged(
    text_N: NDArray[np.uint32], longest: int, pairs: NDArray[np.uint64], merges: NDArray[np.uint64],
    found: NDArray[np.int64], count: int,
) -> int:  # fmt: skip
    """Put two words together that are an exception of one; how many are left, or -1 where it is more than that.

    Of pairs that overlap the first is taken, and none that touches one which was looked at before, as in spaCy.
    """
    kept, at, seen = 0, 0, -1  # the last word of a pair that was looked at
    while at < count:
        if found[at, 1] - found[at, 0] > longest:
            found[kept, 0], found[kept, 1] = found[at, 0], found[at, 1]
            kept += 1
            at += 1
            continue
        one = hash_of(text_N, found[at, 0], found[at, 1])
        if _known(pairs, one):  # an exception of one word
            return -1
        low, high = found[at, 0], found[at, 1]
        if at + 1 < count:
            other = hash_of(text_N, found[at + 1, 0], found[at + 1, 1])
            key = (one * uint64(3) + other) | uint64(1)
            if _known(pairs, key):
                return -1
            if _known(merges, key):
                if at > seen:
                    if _known(pairs, other):
                        return -1
                    high = found[at + 1, 1]
                    after = at + 2
                    if after < count:  # which would be looked at as a pair, and taken by none
                        third = hash_of(text_N, found[after, 0], found[after, 1])
                        follows = (other * uint64(3) + third) | uint64(1)
                        if _known(pairs, follows):
                            return -1
                        seen = after if _known(merges, follows) else at + 1
                    at += 1
                else:
                    seen = at + 1
        found[kept, 0], found[kept, 1] = low, high
        kept += 1
        at += 1
    return kept


@leaf
def _flags(
    text_N: NDArray[np.uint32], low: int, high: int, key: Hash, kinds: NDArray[np.uint16], stops: NDArray[np.uint64]
) -> int:
    letter, listed, category = False, True, True
    for at in range(low, high):
        kind = kinds[text_N[at]]
        letter = letter or (kind & _LETTER) != 0
        listed = listed and (kind & _LIST) != 0
        category = category and (kind & _CATEGORY_P) != 0
    flags: int = ALPHABETIC * letter + SOLID * (not listed) + PUNCTUATION * category
    if high - low == 1 and kinds[text_N[low]] & _ENDER:
        flags += ENDER
    return flags + STOP if _known(stops, key) else flags


@leaf
def add_words(
    text_N: NDArray[np.uint32], bounds: NDArray[np.int64], count: int, keys: NDArray[np.uint64],
    values: NDArray[np.int32], words: int, length_W: NDArray[np.int32], hash_W: NDArray[np.uint64],
    flags_W: NDArray[np.uint8], kinds: NDArray[np.uint16], stops: NDArray[np.uint64], base: Hash,
    numbers: NDArray[np.int32],
) -> int:  # fmt: skip
    """Put the number of each word, text_N[bounds[i, 0]:bounds[i, 1]], into `numbers`; new ones are numbered from
    `words` on. How many words are known then; the arrays have to have room for all."""
    for word in range(count):
        low, high = bounds[word, 0], bounds[word, 1]
        key = hash_of(text_N, low, high)
        at = slot_of(keys, key)
        if keys[at] == uint64(0):
            keys[at], values[at] = key, words
            value = uint64(0)
            for point in range(low, high):
                value = joined(value, uint64(text_N[point]) + uint64(1), base)
            length_W[words], hash_W[words] = high - low, value
            flags_W[words] = uint8(_flags(text_N, low, high, key, kinds, stops))
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
        space = (kinds[point] & _SPACE) != 0
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
    first: NDArray[np.int64], count_C: NDArray[np.int32], of_chunk: NDArray[np.int32], used: int,
    word_keys: NDArray[np.uint64], word_values: NDArray[np.int32], words: int, length_W: NDArray[np.int32],
    hash_W: NDArray[np.uint64], flags_W: NDArray[np.uint8], kinds: NDArray[np.uint16], special: NDArray[np.uint64],
    parts: NDArray[np.uint64], units: NDArray[np.uint64], pairs: NDArray[np.uint64], merges: NDArray[np.uint64],
    stops: NDArray[np.uint64], base: Hash, digits_hyphen: bool, longest: int, numbered: bool,
) -> Any:  # fmt: skip
    """Put the number that the table knows each stretch under into `found`, from stretch `begin` on; new ones are split
    and kept.

    (The new ones, known stretches, words of stretches and words afterwards, the stretch before which the pass stopped.)
    The count of a stretch left to splitter.py is -1. It stops when a table is half full or an array has no room, to be
    called again for the rest. With `numbered` it splits none: their numbers alone are of use.
    """
    new = np.empty(len(bounds) - begin, np.int64)
    pieces, numbers = np.empty((_MOST, 2), np.int64), np.empty(_MOST, np.int32)
    fresh, at = 0, begin
    while at < len(bounds):
        slot = slot_of(keys, hashes[at])
        if keys[slot] == uint64(0):
            if (
                known + 1 > len(keys) // 2 or known + 1 > len(first) or used + _MOST > len(of_chunk)
                or words + _MOST > len(length_W) or words + _MOST > len(word_keys) // 2
            ):  # fmt: skip
                break
            keys[slot], values[slot] = hashes[at], known
            count = 0
            if not numbered:
                count = split(
                    text_N, bounds[at, 0], bounds[at, 1], hashes[at], longest, kinds, special, parts, units, pairs,
                    merges, digits_hyphen, pieces,
                )  # fmt: skip
            first[known], count_C[known] = used, count
            new[fresh] = at
            fresh += 1
            if count >= 0:
                words = add_words(
                    text_N, pieces, count, word_keys, word_values, words, length_W, hash_W, flags_W, kinds, stops,
                    base, numbers,
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
    bounds = np.empty((_MOST, 2), np.int64)
    scratch = np.empty(64, np.uint32)
    for number in range(len(stretches)):
        start, end = stretches[number]
        if end - start + 1 > len(scratch):
            scratch = np.empty(2 * (end - start + 1), np.uint32)
        length, at, strange = 0, start, False
        while at < end:
            point = text_N[at]
            if kinds[point] & _DECOMPOSES or (kinds[point] & _STRANGE and plain[point] != 32):
                strange = True
                break
            if _digit(point):
                while at < end and _digit(text_N[at]):
                    at += 1
                if at + 1 < end and text_N[at] in (46, 44) and _digit(text_N[at + 1]):
                    at += 1
                    while at < end and _digit(text_N[at]):
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
