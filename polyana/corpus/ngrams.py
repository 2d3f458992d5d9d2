"""A model of letters: how probable each one is after those before it, learnt from clean text.

Interpolated Witten-Bell smoothing (Witten and Bell 1991, method C; Chen and Goodman 1998, eq. 17), which has nothing to
tune: p(c|h) = (n(hc) + t(h) p(c|h')) / (n(h) + t(h)), with n(h) how often anything stands after h, t(h) how many
different characters do, h' one character less, and below single characters a uniform distribution over Unicode.

It is kept as back-off models are (Katz 1987): of each n-gram seen log2 p of its last character, and log2 t/(n+t), by
which a character that was never seen after it is less probable than after one character less. So what was seen costs
one look-up. N-grams are known by 64 bits of a hash; among ten million, one that was never seen is taken for one of them
with a probability of 1e-12.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numba import njit, uint64
from numpy.typing import NDArray

from polyana.corpus.letters import folded

__all__ = ["MOST_ORDER", "NgramModel", "bits_of", "learn"]

MOST_ORDER = 8
_CODE_POINTS = 0x110000 - 2048  # Unicode's characters, what an unseen one is drawn from
_UNIFORM = -np.log2(_CODE_POINTS)
_BASE = np.uint64(0x9FB21C651E98DF25)  # of the polynomial hash; any large odd number
_PART = 4_000_000  # characters counted at once, which takes 0.2 GB; guess
_SLOT = np.dtype([("key", "u8"), ("log_p", "f4"), ("back", "f4")])  # of a table of open addressing; key 0 is free


@dataclass(frozen=True, slots=True)
class NgramModel:
    """`slots`: every n-gram of up to `order` characters that was seen; `unseen`: log2 p of a new character."""

    order: int
    slots: NDArray[Any]
    unseen: float

    def save(self, path: Path) -> None:
        np.savez(path, order=self.order, slots=self.slots, unseen=self.unseen)

    @classmethod
    def load(cls, path: Path) -> NgramModel:
        with np.load(path) as stored:
            return cls(int(stored["order"]), stored["slots"], float(stored["unseen"]))


def bits_of(model: NgramModel, texts: list[str]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """(bits, characters) of each text, folded as letters.py does: what the model needs to write it down."""
    points_N, begins = folded(texts)
    bits = _bits(points_N, begins, model.order, model.slots, model.unseen)
    return bits, np.diff(begins) - 1  # the space in front is given


def learn(texts: Iterable[str], order: int) -> NgramModel:
    """From texts, whose n-grams do not reach from one into another.

    22 million characters of English and Russian took 15 s and 0.5 GB at order 6, for a model of 134 MB.
    """
    counted = [_Counted.nothing() for _ in range(order)]
    for part in _parts(texts):
        points_N, begins = folded(part)
        grams = _grams(points_N, begins, order)
        for n, each in enumerate(grams):
            counted[n] = counted[n].added(*each)
    return _smoothed(counted, order)


@dataclass(frozen=True, slots=True)
class _Counted:
    """N-grams of one length in the order of their hashes: how often each was seen, what it is without its last and
    without its first character."""

    keys: NDArray[np.uint64]
    counts: NDArray[np.int64]
    contexts: NDArray[np.uint64]
    tails: NDArray[np.uint64]

    @classmethod
    def nothing(cls) -> _Counted:
        none = np.zeros(0, np.uint64)
        return cls(none, np.zeros(0, np.int64), none, none)

    def added(self, keys: NDArray[np.uint64], contexts: NDArray[np.uint64], tails: NDArray[np.uint64]) -> _Counted:
        """With n-grams as they stand in a text."""
        new, first, counts = np.unique(keys, return_index=True, return_counts=True)
        both, first_of_both, place = np.unique(np.concatenate([self.keys, new]), return_index=True, return_inverse=True)
        total = np.zeros(len(both), np.int64)
        np.add.at(total, place, np.concatenate([self.counts, counts]))
        contexts = np.concatenate([self.contexts, contexts[first]])[first_of_both]
        return _Counted(both, total, contexts, np.concatenate([self.tails, tails[first]])[first_of_both])


def _parts(texts: Iterable[str]) -> Iterable[list[str]]:
    part: list[str] = []
    size = 0
    for text in texts:
        part.append(text)
        size += len(text)
        if size >= _PART:
            yield part
            part, size = [], 0
    yield part


def _smoothed(counted: list[_Counted], order: int) -> NgramModel:
    log_ps: list[NDArray[np.float64]] = []
    backs = [np.zeros(len(each.keys)) for each in counted]
    unseen = _UNIFORM
    shorter = np.zeros(0)
    for n, each in enumerate(counted):
        contexts, place = np.unique(each.contexts, return_inverse=True)
        total = np.bincount(place, weights=each.counts, minlength=len(contexts))
        kinds = np.bincount(place, minlength=len(contexts))
        if n == 0:
            below = np.full(len(each.keys), 1 / _CODE_POINTS)
        else:
            below = shorter[np.searchsorted(counted[n - 1].keys, each.tails)]
        shorter = (each.counts + kinds[place] * below) / (total + kinds)[place]
        log_ps.append(np.log2(shorter))
        back = np.log2(kinds / (total + kinds))
        if n == 0:
            unseen += float(back.sum())
        else:
            at = np.searchsorted(counted[n - 1].keys, contexts)
            known = counted[n - 1].keys[np.minimum(at, len(counted[n - 1].keys) - 1)] == contexts
            backs[n - 1][at[known]] = back[known]
    keys, log_p, back = np.concatenate([each.keys for each in counted]), np.concatenate(log_ps), np.concatenate(backs)
    slots = np.zeros(1 << max(4, int(2 * len(keys) - 1).bit_length()), _SLOT)
    _fill(slots, keys, log_p.astype(np.float32), back.astype(np.float32))
    return NgramModel(order, slots, unseen)


@njit(cache=True, inline="always")
def _key(before: Any, behind: Any, power: Any, n: int) -> Any:
    """The hash of the n characters between two sums; never 0."""
    value = uint64(behind) - uint64(before) * uint64(power) + uint64(n)
    value ^= value >> uint64(32)
    value *= uint64(0xD6E8FEB86659FD93)
    value ^= value >> uint64(32)
    return value | uint64(1)


@njit(cache=True, inline="always")
def _place(slots: NDArray[Any], key: Any) -> Any:
    """Where a key stands, or would."""
    mask = uint64(len(slots) - 1)
    at = (key >> uint64(1)) & mask
    while slots[at].key != uint64(0) and slots[at].key != key:
        at = (at + uint64(1)) & mask
    return at


@njit(cache=True, nogil=True)
def _fill(slots: NDArray[Any], keys: NDArray[np.uint64], log_p: NDArray[np.float32], back: NDArray[np.float32]) -> None:
    for number in range(len(keys)):
        at = _place(slots, keys[number])
        slots[at].key, slots[at].log_p, slots[at].back = keys[number], log_p[number], back[number]


@njit(cache=True, nogil=True)
def _sums(points_N: NDArray[np.uint32]) -> NDArray[np.uint64]:
    """Polynomial hashes of all beginnings of the array, modulo 2^64: of any stretch in two look-ups."""
    sums = np.zeros(len(points_N) + 1, np.uint64)
    for at in range(len(points_N)):
        sums[at + 1] = sums[at] * _BASE + uint64(points_N[at]) + uint64(1)
    return sums


@njit(cache=True, nogil=True)
def _powers(order: int) -> NDArray[np.uint64]:
    powers = np.ones(order + 1, np.uint64)
    for n in range(1, order + 1):
        powers[n] = powers[n - 1] * _BASE
    return powers


@njit(cache=True, nogil=True)
def _keys(
    sums: NDArray[np.uint64], begins: NDArray[np.int64], n: int, found: NDArray[np.uint64], powers: NDArray[np.uint64]
) -> int:
    """Into `found` (n-gram, without its last, without its first character) wherever one ends but at a text's first
    space; gives their number."""
    size = 0
    for text in range(len(begins) - 1):
        for end in range(begins[text] + max(n, 2), begins[text + 1] + 1):
            start = end - n
            found[0, size] = _key(sums[start], sums[end], powers[n], n)
            found[1, size] = _key(sums[start], sums[end - 1], powers[n - 1], n - 1)
            found[2, size] = _key(sums[start + 1], sums[end], powers[n - 1], n - 1)
            size += 1
    return size


def _grams(points_N: NDArray[np.uint32], begins: NDArray[np.int64], order: int) -> Iterable[NDArray[np.uint64]]:
    sums, powers = _sums(points_N), _powers(order)
    for n in range(1, order + 1):
        found = np.empty((3, len(points_N)), np.uint64)
        yield found[:, : _keys(sums, begins, n, found, powers)]


@njit(cache=True, nogil=True)
def _bits(
    points_N: NDArray[np.uint32], begins: NDArray[np.int64], order: int, slots: NDArray[Any], unseen: float
) -> NDArray[np.float64]:
    sums, powers = _sums(points_N), _powers(order)
    bits = np.zeros(len(begins) - 1)
    for text in range(len(begins) - 1):
        log_p = 0.0
        known = 1  # characters behind the last place that the model has seen together, itself included
        for end in range(begins[text] + 2, begins[text + 1] + 1):
            n = min(known + 1, order)  # no longer n-gram was seen, for what comes before it was not
            while n > 0:
                at = _place(slots, _key(sums[end - n], sums[end], powers[n], n))
                if slots[at].key != uint64(0):
                    log_p += slots[at].log_p
                    break
                n -= 1
                if n > 0:
                    log_p += slots[_place(slots, _key(sums[end - 1 - n], sums[end - 1], powers[n], n))].back
            if n == 0:
                log_p += unseen
            known = n
        bits[text] = -log_p
    return bits
