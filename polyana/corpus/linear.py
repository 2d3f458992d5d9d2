"""Classes of documents by a linear model over hashed words, pairs of words and four letters in a row.

Softmax regression with an L2 penalty. A document is the set of its features over the square root of how many they are:
of five tasks of real text, of 600 to 2,000 examples, four had a lower loss so than by mean counts with or without idf
(0.09 for 0.11, 0.25 for 0.26, 0.03 for 0.06, 0.17 for 0.27), one a higher (0.011 for 0.005). Of more than
`COUNT * LENGTH` characters stretches from all over a document are looked at, in learning as in scoring.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numba import njit, uint64
from numpy.typing import NDArray

from polyana.corpus.letters import LINE, SPACE, folded
from polyana.corpus.stretches import stretches

__all__ = ["Features", "Learned", "LinearModel", "features_of", "fit", "learn_classes", "logits_of", "spell"]

_BITS = 18
BUCKETS = 1 << _BITS  # weights of a class, 1 MB: fits into a core's cache; guess
COUNT, LENGTH = 10, 2_000  # stretches of a long document, and their characters; guess
_LETTERS = 4
_BASE = np.uint64(0x9FB21C651E98DF25)  # of the polynomial hash; any large odd number
_STRENGTHS = (10.0, 100.0, 1000.0)  # 1 / penalty that are tried; 1e4 was no better than 1e3 on those tasks
_FOLDS = 5
_HISTORY, _STEPS = 8, 300  # of L-BFGS: pairs kept, iterations
_STILL, _NEARLY_STILL = 1e-7, 1e-5  # slope of an example's loss at which it ends; in folds, which are compared only


@dataclass(frozen=True, slots=True)
class Features:
    """The distinct buckets of document i are buckets[begins[i]:begins[i + 1]]."""

    begins: NDArray[np.int64]
    buckets: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.begins) - 1

    def of(self, documents: NDArray[np.int64]) -> Features:
        """Of some of the documents."""
        parts = [self.buckets[self.begins[each] : self.begins[each + 1]] for each in documents]
        begins = np.concatenate([[0], np.cumsum([len(part) for part in parts])]).astype(np.int64)
        return Features(begins, np.concatenate(parts) if parts else self.buckets[:0])


@dataclass(frozen=True, slots=True)
class LinearModel:
    """`weights` [BUCKETS, classes - 1], `bias` [classes - 1]: against the first class, whose logit is 0."""

    classes: tuple[str, ...]
    weights: NDArray[np.float32]
    bias: NDArray[np.float32]

    def probabilities(self, texts: Sequence[str]) -> NDArray[np.float64]:
        """Of each text and class, [texts, classes]."""
        logits = logits_of(features_of(texts), self.weights, self.bias)
        return _probabilities(np.concatenate([np.zeros((len(texts), 1)), logits], axis=1))

    def save(self, path: Path) -> None:
        used = np.flatnonzero(self.weights.any(axis=1))
        np.savez(path, classes=np.array(self.classes), used=used, weights=self.weights[used], bias=self.bias)

    @classmethod
    def load(cls, path: Path) -> LinearModel:
        with np.load(path) as stored:
            weights = np.zeros((BUCKETS, len(stored["bias"])), np.float32)
            weights[stored["used"]] = stored["weights"]
            return cls(tuple(map(str, stored["classes"])), weights, stored["bias"])


def features_of(texts: Sequence[str]) -> Features:
    """What stands in each text."""
    points_N, begins = folded([stretches(text, COUNT, LENGTH) for text in texts], lines=True)
    none = np.zeros((0, 2), np.int64)
    return Features(*_features(points_N, begins, _word_signs(), none))


def spell(texts: Sequence[str]) -> dict[int, str]:
    """The bucket of each word, pair of words and letters in some texts, and what was first seen of it."""
    points_N, begins = folded([stretches(text, COUNT, LENGTH) for text in texts], lines=True)
    spans = np.zeros((3 * len(points_N) + 1, 2), np.int64)
    _, buckets = _features(points_N, begins, _word_signs(), spans)
    spelt: dict[int, str] = {}
    for bucket, (start, end) in zip(buckets.tolist(), spans.tolist(), strict=False):
        if bucket not in spelt:
            spelt[bucket] = "".join(map(chr, points_N[start:end].tolist()))
    return spelt


@cache
def _word_signs() -> NDArray[np.bool_]:
    """Of each code point whether it is part of a word; any other sign is a word of its own."""
    return np.array([chr(point).isalnum() or chr(point) == "_" for point in range(0x110000)])


@njit(cache=True, inline="always")
def _bucket(value: Any, kind: int) -> Any:
    value = uint64(value) + uint64(kind)
    value ^= value >> uint64(32)
    value *= uint64(0xD6E8FEB86659FD93)
    value ^= value >> uint64(32)
    value *= uint64(0xD6E8FEB86659FD93)
    return value >> uint64(64 - _BITS)


@njit(cache=True, inline="always")
def _noted(
    bucket: Any,
    text: int,
    start: int,
    end: int,
    last_seen: NDArray[np.int32],
    buckets: NDArray[np.int32],
    spans: NDArray[np.int64],
    size: int,
) -> int:
    """The number of buckets after this one, which counts once in a text."""
    if last_seen[bucket] == text:
        return size
    last_seen[bucket] = text
    buckets[size] = bucket
    if len(spans):
        spans[size, 0], spans[size, 1] = start, end
    return size + 1


@njit(cache=True, nogil=True)
def _features(
    points_N: NDArray[np.uint32], begins: NDArray[np.int64], word_signs: NDArray[np.bool_], spans: NDArray[np.int64]
) -> Any:
    """(begins, buckets); into `spans`, unless it is empty, goes where each bucket's feature stands."""
    ends = np.zeros(len(begins), np.int64)
    buckets = np.empty(3 * len(points_N) + 1, np.int32)
    last_seen = np.full(BUCKETS, -1, np.int32)
    power = uint64(1)
    for _ in range(_LETTERS):
        power *= _BASE
    size = 0
    for text in range(len(begins) - 1):
        start, end = begins[text], begins[text + 1]
        letters = uint64(0)
        word, before = uint64(0), uint64(0)
        word_start, before_start = start, start
        for at in range(start, end):
            point = points_N[at]
            letters = letters * _BASE + uint64(point) + uint64(1)
            if at - start >= _LETTERS:
                letters -= (uint64(points_N[at - _LETTERS]) + uint64(1)) * power
            if at - start >= _LETTERS - 1:
                size = _noted(_bucket(letters, 1), text, at + 1 - _LETTERS, at + 1, last_seen, buckets, spans, size)
            if point in (SPACE, LINE):
                continue
            if word == uint64(0):
                word_start = at
            word = word * _BASE + uint64(point) + uint64(1)
            if word_signs[point] and at + 1 < end and word_signs[points_N[at + 1]]:
                continue
            size = _noted(_bucket(word, 2), text, word_start, at + 1, last_seen, buckets, spans, size)
            if before != uint64(0):
                pair = _bucket(word + before * power, 3)
                size = _noted(pair, text, before_start, at + 1, last_seen, buckets, spans, size)
            before, before_start, word = word, word_start, uint64(0)
        ends[text + 1] = size
    return ends, buckets[:size].copy()


@njit(cache=True, nogil=True)
def _logits(
    begins: NDArray[np.int64], buckets: NDArray[np.int32], weights: NDArray[Any], bias: NDArray[Any]
) -> NDArray[np.float64]:
    found = np.empty((len(begins) - 1, len(bias)))
    for text in range(len(found)):
        start, end = begins[text], begins[text + 1]
        for each in range(len(bias)):
            total = 0.0
            for at in range(start, end):
                total += weights[buckets[at], each]
            found[text, each] = bias[each] + total / np.sqrt(max(end - start, 1))
    return found


def logits_of(features: Features, weights: NDArray[Any], bias: NDArray[Any]) -> NDArray[np.float64]:
    """[texts, columns of `weights`]."""
    return _logits(features.begins, features.buckets, weights, bias)


def _probabilities(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Softmax over the last axis."""
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=-1, keepdims=True))


@dataclass(frozen=True, slots=True)
class Learned:
    """A model, what was chosen for it by folds of the examples, and how many examples it has learnt from."""

    model: LinearModel
    strength: float
    temperature: float
    examples: int


def learn_classes(texts: Sequence[str], labels: NDArray[np.int64], classes: tuple[str, ...]) -> Learned:
    """From examples and the number of each one's class, of which each has five examples at least.

    The penalty is the one with the lowest loss on folds left out; so is the temperature by which logits are divided, so
    that probabilities are true ones (Guo et al. 2017), with Platt's targets (1999, section 2.2), for some hundred
    examples can be told apart without an error.
    """
    features = features_of(texts)
    folds = np.empty(len(labels), np.int64)
    for each in range(len(classes)):
        mine = np.flatnonzero(labels == each)
        folds[mine] = np.arange(len(mine)) % _FOLDS
    targets = _softened(labels, len(classes))
    best: tuple[float, float, float] | None = None
    for strength in _STRENGTHS:
        logits = np.empty((len(labels), len(classes)))
        for fold in range(_FOLDS):
            left, out = np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)
            fitted = fit(features.of(left), labels[left], len(classes), strength, _NEARLY_STILL)
            logits[out] = logits_of(features.of(out), *fitted)
        temperature = _temperature(logits, targets)
        loss = _cross_entropy(logits / temperature, targets)
        if best is None or loss < best[0]:
            best = loss, strength, temperature
    assert best is not None
    _, strength, temperature = best
    weights, bias = fit(features, labels, len(classes), strength)
    against_first = (weights[:, 1:] - weights[:, :1]) / temperature, (bias[1:] - bias[0]) / temperature
    model = LinearModel(classes, against_first[0].astype(np.float32), against_first[1].astype(np.float32))
    return Learned(model, strength, temperature, len(labels))


def _softened(labels: NDArray[np.int64], classes: int) -> NDArray[np.float64]:
    counts = np.bincount(labels, minlength=classes)
    sure = ((counts + 1) / (counts + 2))[labels]
    targets = np.repeat(((1 - sure) / (classes - 1))[:, None], classes, axis=1)
    targets[np.arange(len(labels)), labels] = sure
    return targets


def _cross_entropy(logits: NDArray[np.float64], targets: NDArray[np.float64]) -> float:
    highest = logits.max(axis=1, keepdims=True)
    logs = logits - highest - np.log(np.exp(logits - highest).sum(axis=1, keepdims=True))
    return float(-(targets * logs).sum() / len(logits))


def _temperature(logits: NDArray[np.float64], targets: NDArray[np.float64]) -> float:
    """The one with the lowest loss, which has one minimum: by golden sections."""
    low, high = np.log(0.02), np.log(50.0)
    shrink = (5**0.5 - 1) / 2
    for _ in range(40):
        a, b = high - shrink * (high - low), low + shrink * (high - low)
        if _cross_entropy(logits / np.exp(a), targets) < _cross_entropy(logits / np.exp(b), targets):
            high = b
        else:
            low = a
    return float(np.exp((low + high) / 2))


def fit(
    features: Features, labels: NDArray[np.int64], classes: int, strength: float, still: float = _STILL
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(weights [BUCKETS, classes], bias) with the least sum of losses + weights^2 / (2 * strength), by L-BFGS.

    The bias is not held small. Sums are taken in one order, so that the same examples give the same bits.
    """
    used, places = np.unique(features.buckets, return_inverse=True)
    local: NDArray[np.int32] = places.astype(np.int32)
    at = np.zeros((len(used) + 1) * classes)  # the bias is the last row
    loss, slope = _loss(at, features.begins, local, labels, classes, strength)
    past: list[tuple[NDArray[np.float64], NDArray[np.float64], float]] = []
    for _ in range(_STEPS):
        if np.abs(slope).max() < still * len(labels):
            break
        step = _direction(slope, past)
        fall, length = _dot(slope, step), 1.0 if past else 1.0 / np.sqrt(_dot(slope, slope))
        while True:
            there = at + length * step
            new_loss, new_slope = _loss(there, features.begins, local, labels, classes, strength)
            if new_loss <= loss + 1e-4 * length * fall or length < 1e-12:  # Armijo's rule
                break
            length /= 2
        moved, bent = there - at, new_slope - slope
        if (curve := _dot(moved, bent)) > 0:
            past = [*past[1 - _HISTORY :], (moved, bent, curve)]
        at, loss, slope = there, new_loss, new_slope
    found = at.reshape(-1, classes)
    weights = np.zeros((BUCKETS, classes))
    weights[used] = found[:-1]
    return weights, found[-1].copy()


def _direction(
    slope: NDArray[np.float64], past: list[tuple[NDArray[np.float64], NDArray[np.float64], float]]
) -> NDArray[np.float64]:
    """Where the loss falls, by L-BFGS's two loops (Nocedal and Wright 2006, algorithm 7.4)."""
    step = -slope
    shares = []
    for moved, bent, curve in reversed(past):
        share = _dot(moved, step) / curve
        shares.append(share)
        step -= share * bent
    if past:
        _, bent, curve = past[-1]
        step *= curve / _dot(bent, bent)
    for (moved, bent, curve), share in zip(past, reversed(shares), strict=True):
        step += (share - _dot(bent, step) / curve) * moved
    return step


@njit(cache=True, nogil=True)
def _dot(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """In one order, which a BLAS with threads does not keep."""
    total = 0.0
    for at in range(len(a)):
        total += a[at] * b[at]
    return total


@njit(cache=True, nogil=True)
def _loss(
    at: NDArray[np.float64],
    begins: NDArray[np.int64],
    buckets: NDArray[np.int32],
    labels: NDArray[np.int64],
    classes: int,
    strength: float,
) -> Any:
    """(loss, its gradient) at weights and bias."""
    slope = at / strength
    bias = len(at) - classes
    slope[bias:] = 0.0
    total = 0.0
    for place in range(bias):
        total += at[place] * at[place]
    total /= 2 * strength
    logits = np.empty(classes)
    for text in range(len(labels)):
        start, end = begins[text], begins[text + 1]
        scale = 1 / np.sqrt(max(end - start, 1))
        logits[:] = 0.0
        for place in range(start, end):
            row = buckets[place] * classes
            for each in range(classes):
                logits[each] += at[row + each]
        for each in range(classes):
            logits[each] = at[bias + each] + logits[each] * scale
        highest = logits.max()
        powers = 0.0
        for each in range(classes):
            powers += np.exp(logits[each] - highest)
        total += highest + np.log(powers) - logits[labels[text]]
        for each in range(classes):  # what is left: probability less truth
            logits[each] = np.exp(logits[each] - highest) / powers - (1.0 if each == labels[text] else 0.0)
            slope[bias + each] += logits[each]
            logits[each] *= scale
        for place in range(start, end):
            row = buckets[place] * classes
            for each in range(classes):
                slope[row + each] += logits[each]
    return total, slope
