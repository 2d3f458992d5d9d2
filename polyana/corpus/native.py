"""What the compiled passes share: batches of documents, characters, hashes, tables of them.

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
    "ALPHABETIC", "BASE", "ENDER", "FLAGS", "PUNCTUATION", "SEED", "SOLID", "STOP", "Hash", "digit", "ends_row",
    "hash_end", "hash_of", "hashed_on", "is_space", "leaf", "mixed", "power", "powers", "slot_of", "taken",
]  # fmt: skip

Hash = Any
"""An unsigned number of 64 bits."""
F = TypeVar("F", bound=Callable[..., Any])

ALPHABETIC, SOLID, STOP, ENDER, PUNCTUATION = 1, 2, 4, 8, 16
"""Flags of a word: it has a letter; it is more than punctuation; it is one of the language's stop words; it ends a
sentence as spaCy's sentencizer has it; it is punctuation by its Unicode categories."""

FLAGS = np.uint64(32)
"""The bit from which on they stand beside a word's length."""

BASE = np.uint64(0x9FB21C651E98DF25)  # any odd number that is 5 modulo 8, so that few low bits of its powers agree
"""Of polynomials modulo 2^64, by which texts are hashed: that of two one behind the other follows from theirs."""


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
def digit(point: int) -> bool:
    return 48 <= point <= 57


@njit(cache=True, inline="always")
def ends_row(point: int) -> bool:
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
    return value * BASE + uint64(point)


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


@njit(cache=True, inline="always")
def slot_of(keys: NDArray[np.uint64], key: Hash) -> Hash:
    """Where a key stands in a table of open addressing, or would."""
    mask = uint64(len(keys) - 1)
    at = (key >> uint64(1)) & mask
    while keys[at] != uint64(0) and keys[at] != key:
        at = (at + uint64(1)) & mask
    return at


@njit(cache=True, nogil=True)
def powers(count: int) -> NDArray[np.uint64]:
    """BASE^0 to BASE^(count - 1) modulo 2^64."""
    found = np.empty(count, np.uint64)
    found[0] = uint64(1)
    for at in range(1, count):
        found[at] = found[at - 1] * BASE
    return found


@njit(cache=True, inline="always")
def power(powers: NDArray[np.uint64], exponent: int) -> Hash:
    """As the table has it, or by several of its entries where it is too short."""
    last = len(powers) - 1
    if exponent <= last:
        return powers[exponent]
    value = powers[exponent % last]
    for _ in range(exponent // last):
        value *= powers[last]
    return value


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
