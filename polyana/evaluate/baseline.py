"""What knowing nothing but letter statistics gives: the number a language model has to beat."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

__all__ = ["trigram_bits_per_byte"]

_MOST_TRAIN, _MOST_HELD_OUT = 20_000_000, 5_000_000
"""Characters looked at: letter statistics do not change after (guess), and each takes about 77 bytes of memory."""
_CODE_POINTS = 0x110000 - 2048  # Unicode's characters, what an unseen one is drawn from


def trigram_bits_per_byte(train: Iterable[str], held_out: Iterable[str]) -> float:
    """Bits per UTF-8 byte of `held_out` under a character trigram model of `train`.

    Interpolated Witten-Bell smoothing (Witten and Bell 1991, method C; Chen and Goodman 1998, eq. 17), which has
    nothing to tune: p(c|h) = (n(hc) + t(h) p(c|h')) / (n(h) + t(h)), with t(h) the number of different characters seen
    after h, h' one character less, and below single characters a uniform distribution over Unicode.
    """
    text = _codes(train, _MOST_TRAIN)
    test = _codes(held_out, _MOST_HELD_OUT)
    alphabet = np.unique(text)
    size = len(alphabet) + 1  # the last number stands for every character not seen in training
    text_ids = np.searchsorted(alphabet, text).astype(np.int64)
    test_ids = _numbers(test, alphabet)
    probability = np.full(len(test), 1.0 / _CODE_POINTS)
    for order in range(1, min(3, len(text), len(test)) + 1):
        grams, counts = np.unique(_grams(text_ids, order, size), return_counts=True)
        contexts, first = np.unique(grams // size, return_index=True)
        context_counts = np.add.reduceat(counts, first)
        kinds = np.diff(np.append(first, len(grams)))
        wanted = _grams(test_ids, order, size)
        seen = _look_up(wanted, grams, counts)
        n, t = _look_up(wanted // size, contexts, context_counts), _look_up(wanted // size, contexts, kinds)
        tail = probability[order - 1 :]
        known = n > 0  # a context never seen leaves the shorter one's estimate
        tail[known] = (seen[known] + t[known] * tail[known]) / (n[known] + t[known])
    size_in_bytes = len(test.astype("<u4").tobytes().decode("utf-32-le").encode())
    return float(-np.log2(probability).sum() / size_in_bytes)


def _codes(texts: Iterable[str], limit: int) -> NDArray[np.uint32]:
    """The texts' code points, each text followed by U+0000 so that no trigram reaches over its end unnoticed."""
    parts: list[NDArray[np.uint32]] = []
    count = 0
    for text in texts:
        parts.append(np.frombuffer((text + "\0").encode("utf-32-le", "replace"), dtype="<u4"))
        count += len(parts[-1])
        if count >= limit:
            break
    return np.concatenate(parts)


def _numbers(codes: NDArray[np.uint32], alphabet: NDArray[np.uint32]) -> NDArray[np.int64]:
    places = np.minimum(np.searchsorted(alphabet, codes), len(alphabet) - 1)
    return np.where(alphabet[places] == codes, places, len(alphabet)).astype(np.int64)


def _grams(ids: NDArray[np.int64], order: int, size: int) -> NDArray[np.int64]:
    """Each run of `order` numbers as one number, the last character the least significant digit."""
    grams = np.zeros(len(ids) - order + 1, dtype=np.int64)
    for offset in range(order):
        grams = grams * size + ids[offset : len(ids) - order + 1 + offset]
    return grams


def _look_up(wanted: NDArray[np.int64], keys: NDArray[np.int64], values: NDArray[np.int64]) -> NDArray[np.int64]:
    """The value of each wanted key, 0 where there is none."""
    places = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[places] == wanted, values[places], 0)
