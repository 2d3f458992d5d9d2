"""How a stretch between spaces is split into words: spaCy's rules, compiled.

What the rules of splitter.py come to for signs below U+3000 without surprises is done here, which is nearly all; for
the rest `split` gives up and splitter.py is asked. Both give spaCy's words, which tests hold them to.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit, uint64
from numpy.typing import NDArray

from polyana.corpus.native import Hash, digit, hash_of, leaf, slot_of

__all__ = [
    "CATEGORY_P", "DECOMPOSES", "ENDS_SENTENCE", "KINDS", "LETTER", "LIST", "MOST_WORDS", "SPACE", "STRANGE",
    "is_known", "split",
]  # fmt: skip

KINDS = (
    "letter", "alnum", "list", "punctuation", "ender", "alpha", "lower", "upper", "quote", "prefix", "suffix",
    "before_dot", "host", "strange", "decomposes", "space",
)  # fmt: skip
"""Bits of a character in `kinds`. letter, alnum: as Python's isalpha, isalnum; list: what a word may consist of and be
none; punctuation: Unicode categories P; ender: ends a sentence; alpha, lower, upper, quote: spaCy's classes; prefix,
suffix: one by itself; before_dot: behind which a dot is a suffix; host: of a host's name; strange: left to splitter.py;
decomposes: more than one character when it is plain; space: as Python's isspace."""

(
    LETTER, _ALNUM, LIST, CATEGORY_P, ENDS_SENTENCE, _ALPHA, _LOWER, _UPPER, _QUOTE, _PREFIX, _SUFFIX, _BEFORE_DOT,
    _HOST, STRANGE, DECOMPOSES, SPACE,
) = (1 << bit for bit in range(len(KINDS)))  # fmt: skip
MOST_WORDS = 200  # words of a stretch that are found here; longer ones are left to splitter.py: guess


@njit(cache=True, inline="always")
def is_known(keys: NDArray[np.uint64], key: Hash) -> Any:
    return keys[slot_of(keys, key)] != uint64(0)


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
        while rest < high and digit(text_N[rest]):
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
            number = number and digit(text_N[inner])
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
    if digit(point):
        return 0
    if kind & LETTER:
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
        if digit(text_N[at]):
            return high - 1 - at if is_known(units, hash_of(text_N, at + 1, high)) else 0
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
    if point in (43, 45, 42, 94) and digit(before) and (digit(behind) or behind == 45):
        return 1
    alpha = (kinds[before] & _ALPHA) != 0
    if point == 44:
        return int(alpha and (kinds[behind] & _ALPHA) != 0)
    if point in (45, 0x2013, 0x2014, 126):
        if not (alpha or (digits_hyphen and digit(before))):
            return 0
        run = at + 1
        most = 3 if point == 45 else 2 if point == 0x2014 else 1
        while run < high and text_N[run] == point and run - at < most:
            run += 1
        return run - at if run < high and kinds[text_N[run]] & _ALPHA else 0
    if point in (58, 60, 62, 61, 47):
        return int((alpha or digit(before)) and (kinds[behind] & _ALPHA) != 0)
    return 0


@njit(cache=True, inline="always")
def _is_special(text_N: NDArray[np.uint32], low: int, high: int, longest: int, special: NDArray[np.uint64]) -> bool:
    return low < high <= low + longest and is_known(special, hash_of(text_N, low, high))


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
    if some & STRANGE:
        return -1
    exception = is_known(special, key)
    if every & LETTER and not exception:
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
            begin = int(low + 1 >= high or not digit(text_N[low + 1]))
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
        if is_known(pairs, one):  # an exception of one word
            return -1
        low, high = found[at, 0], found[at, 1]
        if at + 1 < count:
            other = hash_of(text_N, found[at + 1, 0], found[at + 1, 1])
            key = (one * uint64(3) + other) | uint64(1)
            if is_known(pairs, key):
                return -1
            if is_known(merges, key):
                if at > seen:
                    if is_known(pairs, other):
                        return -1
                    high = found[at + 1, 1]
                    after = at + 2
                    if after < count:  # which would be looked at as a pair, and taken by none
                        third = hash_of(text_N, found[after, 0], found[after, 1])
                        follows = (other * uint64(3) + third) | uint64(1)
                        if is_known(pairs, follows):
                            return -1
                        seen = after if is_known(merges, follows) else at + 1
                    at += 1
                else:
                    seen = at + 1
        found[kept, 0], found[kept, 1] = low, high
        kept += 1
        at += 1
    return kept
