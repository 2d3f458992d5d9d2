"""The compiled pass from words to MinHash signatures (Broder 1997), the same as datatrove 0.10 makes of them."""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types, uint64
from numba.extending import intrinsic
from numpy.typing import NDArray

from polyana.corpus.native import Hash, leaf, mixed

__all__ = ["SLACK", "bands", "sign"]

SLACK = 16
"""Bytes that may be read behind the words of the last chunk."""
_PRIME = np.uint64((1 << 61) - 1)
_P1, _P2, _P3, _P4, _P5 = (
    0x9E3779B185EBCA87, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0x85EBCA77C2B2AE63, 0x27D4EB2F165667C5,
)  # fmt: skip
_I64 = ir.IntType(64)


def _loading(_: Any, bytes_B: Any, at: Any) -> Any:  # noqa: ARG001  numba looks at the names
    """Eight bytes from byte `at` on as a number, the lowest first; numba's own views begin at multiples of eight."""

    def load(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.load(_place(context, builder, signature, arguments), align=1)

    return types.uint64(bytes_B, types.int64), load


def _storing(_: Any, bytes_B: Any, at: Any, value: Any) -> Any:  # noqa: ARG001
    """Put a number of eight bytes to byte `at`."""

    def store(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        builder.store(arguments[2], _place(context, builder, signature, arguments), align=1)
        return context.get_dummy_value()

    return types.none(bytes_B, types.int64, types.uint64), store


def _place(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    array = context.make_array(signature.args[0])(context, builder, arguments[0])
    return builder.bitcast(builder.gep(array.data, [arguments[1]]), _I64.as_pointer())


_eight: Any = intrinsic(_loading)
_put_eight: Any = intrinsic(_storing)


@njit(cache=True, inline="always")
def _rotated(value: Hash, by: int) -> Hash:
    return (value << uint64(by)) | (value >> uint64(64 - by))


@njit(cache=True, inline="always")
def _round(state: Hash, value: Hash) -> Hash:
    return _rotated(state + value * uint64(_P2), 31) * uint64(_P1)


@leaf
def _xxh64(bytes_B: NDArray[np.uint8], start: int, end: int) -> Hash:
    """XXH64, seed 0, of bytes_B[start:end] (xxHash specification 0.1.1); seven bytes behind them may be read."""
    at, size = start, end - start
    if size >= 32:
        one, two = uint64(_P1) + uint64(_P2), uint64(_P2)
        three, four = uint64(0), uint64(0) - uint64(_P1)
        while at + 32 <= end:
            one = _round(one, _eight(bytes_B, at))
            two = _round(two, _eight(bytes_B, at + 8))
            three = _round(three, _eight(bytes_B, at + 16))
            four = _round(four, _eight(bytes_B, at + 24))
            at += 32
        value = _rotated(one, 1) + _rotated(two, 7) + _rotated(three, 12) + _rotated(four, 18)
        value = (value ^ _round(uint64(0), one)) * uint64(_P1) + uint64(_P4)
        value = (value ^ _round(uint64(0), two)) * uint64(_P1) + uint64(_P4)
        value = (value ^ _round(uint64(0), three)) * uint64(_P1) + uint64(_P4)
        value = (value ^ _round(uint64(0), four)) * uint64(_P1) + uint64(_P4)
    else:
        value = uint64(_P5)
    value += uint64(size)
    while at + 8 <= end:
        value = _rotated(value ^ _round(uint64(0), _eight(bytes_B, at)), 27) * uint64(_P1) + uint64(_P4)
        at += 8
    if at + 4 <= end:
        four = (_eight(bytes_B, at) & uint64(0xFFFFFFFF)) * uint64(_P1)
        value = _rotated(value ^ four, 23) * uint64(_P2) + uint64(_P3)
        at += 4
    while at < end:
        value = _rotated(value ^ (uint64(bytes_B[at]) * uint64(_P5)), 11) * uint64(_P1)
        at += 1
    value = (value ^ (value >> uint64(33))) * uint64(_P2)
    value = (value ^ (value >> uint64(29))) * uint64(_P3)
    return value ^ (value >> uint64(32))


@njit(cache=True, nogil=True)
def sign(
    begins: NDArray[np.int64], chunks: NDArray[np.int32], chunk_begins: NDArray[np.int64], places: NDArray[np.int32],
    words_B: NDArray[np.uint8], n: int, factors: NDArray[np.uint64], terms: NDArray[np.uint64],
) -> Any:  # fmt: skip
    """MinHash of each document's n words in a row: [documents, permutations]; and how many of them there are.

    The words of chunk c, places[c, 2] of them, are words_B[places[c, 0]:places[c, 1]] in UTF-8, a space behind each;
    behind the last there are SLACK bytes. A row of n words, a space between them, is hashed by XXH64 to h and permuted
    to ((factor h + term) mod 2^64) mod (2^61 - 1).
    """
    documents, permutations = len(begins) - 1, len(factors)
    found, shingles = np.empty((documents, permutations), np.uint64), np.zeros(documents, np.int64)
    text_B, borders, values = np.empty(0, np.uint8), np.zeros(0, np.int64), np.empty(0, np.uint64)
    at = 0
    for document in range(documents):
        size, count, last = 0, 0, at
        while last < len(chunks) and chunk_begins[last] < begins[document + 1]:
            size += places[chunks[last], 1] - places[chunks[last], 0]
            count += places[chunks[last], 2]
            last += 1
        if size + SLACK > len(text_B):
            text_B = np.empty(2 * size + SLACK, np.uint8)
        if count + 2 > len(borders):
            borders, values = np.zeros(2 * count + 2, np.int64), np.empty(2 * count + 2, np.uint64)
        _lay_out(chunks, at, last, places, words_B, text_B, borders)
        at = last
        rows = max(count - n + 1, 0)
        for start in range(rows):
            values[start] = _xxh64(text_B, borders[start], borders[start + n] - 1)
        for permutation in range(permutations):  # outside, so that a processor takes several rows at once
            factor, term, least = factors[permutation], terms[permutation], uint64(0xFFFFFFFFFFFFFFFF)
            for row in range(rows):  # by index: numba steps through `for value in values` so that nothing is vectorised
                # Turned by three bits the low 61 come first: the smallest of these is the smallest modulo the prime,
                # unless these bits of two differ by less than 8, or exceed the prime less 8: once among 10^17 hashes
                least = min(least, _rotated(values[row] * factor + term, 3))
            least = (least >> uint64(3)) + (least & uint64(7))
            found[document, permutation] = min(least, least - _PRIME)  # below it, it wraps round to a large number
        shingles[document] = rows
    return found, shingles


@leaf
def _lay_out(
    chunks: NDArray[np.int32], first: int, last: int, places: NDArray[np.int32], words_B: NDArray[np.uint8],
    text_B: NDArray[np.uint8], borders: NDArray[np.int64],
) -> None:  # fmt: skip
    """Put the words of chunks[first:last] one behind the other into `text_B`, and where each ends into `borders`, from
    place 1 on."""
    size, count = 0, 0
    for at in range(first, last):
        low, high, words = places[chunks[at]]
        length = high - low
        # what is copied beyond the end is written over
        _put_eight(text_B, size, _eight(words_B, low))
        _put_eight(text_B, size + 8, _eight(words_B, low + 8))
        for offset in range(16, length, 8):  # few are as long: how long, no processor can foresee
            _put_eight(text_B, size + offset, _eight(words_B, low + offset))
        if words == 1:
            count += 1
            borders[count] = size + length
        else:
            for place in range(length):  # without a branch, as above
                borders[count + 1] = size + place + 1
                count += words_B[low + place] == 32
        size += length


@njit(cache=True, nogil=True)
def bands(signatures: NDArray[np.uint64], rows: int) -> NDArray[np.uint64]:
    """A key for each band of `rows` hashes, [documents, bands]; equal bands of two documents have the same."""
    documents, count = len(signatures), signatures.shape[1] // rows
    found = np.zeros((documents, count), np.uint64)
    for document in range(documents):
        for band in range(count):
            value = uint64(band + 1)
            for row in range(rows):
                value = mixed(value ^ signatures[document, band * rows + row])
            found[document, band] = value
    return found
