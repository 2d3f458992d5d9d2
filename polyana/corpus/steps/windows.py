"""The compiled passes of `repeated_substrings`: words, and words in a row, by 64-bit hashes.

Words are the runs between blanks (bytes up to 32: space, tab, newline). n words in a row are hashed by a polynomial
modulo 2^64 over their words' hashes, so that a row follows from the one before it; two rows of the same words in
another order meet with a probability of 2^-56 or less, any others with about 2^-64.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit, uint64
from numpy.typing import NDArray

from polyana.corpus.native import mixed

__all__ = ["closely", "hash_words", "sampled", "word_borders"]

_BASE = 0x9FB21C651E98DF25  # any odd number that is 5 modulo 8, so that few low bits of its powers agree


@njit(cache=True, nogil=True)
def hash_words(bytes_B: NDArray[np.uint8], begin_D: NDArray[np.int64]) -> Any:
    """FNV-1a of each word, mixed; and where the words of each document begin, [documents + 1]. Document i is
    bytes_B[begin_D[i]:begin_D[i + 1]] and ends in a blank."""
    hash_W, first_D = np.empty(len(bytes_B) // 2 + 1, np.uint64), np.zeros(len(begin_D), np.int64)
    count = 0
    for document in range(len(begin_D) - 1):
        value, inside = uint64(0xCBF29CE484222325), False
        for at in range(begin_D[document], begin_D[document + 1]):
            if bytes_B[at] > 32:
                value = (value ^ uint64(bytes_B[at])) * uint64(0x100000001B3)
                inside = True
            elif inside:
                hash_W[count] = mixed(value)
                count += 1
                value, inside = uint64(0xCBF29CE484222325), False
        first_D[document + 1] = count
    return hash_W[:count], first_D


@njit(cache=True, nogil=True)
def word_borders(bytes_B: NDArray[np.uint8]) -> NDArray[np.int64]:
    """[words, 2]: where each word of a text begins and ends. The text ends in a blank."""
    found = np.empty((len(bytes_B) // 2 + 1, 2), np.int64)
    count, inside = 0, False
    for at in range(len(bytes_B)):
        if bytes_B[at] > 32 and not inside:
            found[count, 0], inside = at, True
        elif bytes_B[at] <= 32 and inside:
            found[count, 1], inside = at, False
            count += 1
    return found[:count]


@njit(cache=True, nogil=True)
def _in_a_row(hash_W: NDArray[np.uint64], n: int, found: NDArray[np.uint64]) -> int:
    """Hashes of the n words that begin at each place, into `found`; how many there are."""
    count = len(hash_W) - n + 1
    if count <= 0:
        return 0
    value, power = uint64(0), uint64(1)
    for at in range(n):
        value = value * uint64(_BASE) + hash_W[at]
        power *= uint64(_BASE)
    found[0] = mixed(value)
    for at in range(1, count):
        value = value * uint64(_BASE) + hash_W[at + n - 1] - hash_W[at - 1] * power
        found[at] = mixed(value)
    return count


@njit(cache=True, nogil=True)
def _lowest(hash_S: NDArray[np.uint64], span: int, found: NDArray[np.int64]) -> int:
    """The place of the lowest of each `span` hashes in a row, the last where they tie; how many spans there are.

    Where in a span it stands depends on what is in the span alone, so equal spans at two places have two of them, even
    where the spans overlap.
    """
    best = -1
    for end in range(len(hash_S)):
        start = end - span + 1
        if best >= 0 and best < start:
            best = start
            for at in range(start + 1, end + 1):
                if hash_S[at] <= hash_S[best]:
                    best = at
        elif best < 0 or hash_S[end] <= hash_S[best]:
            best = end
        if start >= 0:
            found[start] = best
    return max(len(hash_S) - span + 1, 0)


@njit(cache=True, nogil=True)
def sampled(hash_W: NDArray[np.uint64], first_D: NDArray[np.int64], words: int, seed: int) -> NDArray[np.uint64]:
    """Hashes of some rows of `seed` words: in any `words` words at least one, which they alone decide on (winnowing,
    Schleimer et al. 2003, section 4). Of running text 2 in `words - seed + 2` are taken."""
    found, count = np.empty(len(hash_W), np.uint64), 0
    seeds, lowest = np.empty(len(hash_W), np.uint64), np.empty(len(hash_W), np.int64)
    for document in range(len(first_D) - 1):
        mine = hash_W[first_D[document] : first_D[document + 1]]
        rows = _in_a_row(mine, seed, seeds)
        last = -1
        for at in range(_lowest(seeds[:rows], words - seed + 1, lowest)):
            if lowest[at] != last:
                last = lowest[at]
                found[count] = seeds[last]
                count += 1
    return found[:count]


@njit(cache=True, nogil=True)
def closely(
    hash_W: NDArray[np.uint64], first_D: NDArray[np.int64], words: int, seed: int, repeated: NDArray[np.uint64]
) -> Any:
    """(document, place of the first word, hash) of those `words` words whose sampled row stands in `repeated`, which is
    sorted."""
    document_R, place_R = np.empty(len(hash_W), np.int64), np.empty(len(hash_W), np.int64)
    hash_R, count = np.empty(len(hash_W), np.uint64), 0
    seeds, lowest = np.empty(len(hash_W), np.uint64), np.empty(len(hash_W), np.int64)
    long = np.empty(len(hash_W), np.uint64)
    for document in range(len(first_D) - 1):
        mine = hash_W[first_D[document] : first_D[document + 1]]
        rows = _in_a_row(mine, seed, seeds)
        last, known, hashed = -1, False, False
        for at in range(_lowest(seeds[:rows], words - seed + 1, lowest)):
            if lowest[at] != last:
                last = lowest[at]
                place = np.searchsorted(repeated, seeds[last])
                known = place < len(repeated) and repeated[place] == seeds[last]
            if known:
                if not hashed:
                    _in_a_row(mine, words, long)
                    hashed = True
                document_R[count], place_R[count], hash_R[count] = document, at, long[at]
                count += 1
    return document_R[:count], place_R[:count], hash_R[:count]
