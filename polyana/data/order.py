"""A shuffled order of any length in no memory.

A balanced Feistel network over the smallest even number of bits that holds n is a permutation of 0..2^(2b)-1; walking
along its cycle until the number is below n makes it one of 0..n-1 (Black and Rogaway 2002, "Ciphers with arbitrary
finite domains", section 4: cycle-walking). So the block at any position of any epoch is computed, not stored, and the
state of the shuffle is one number.
"""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

__all__ = ["ShuffledOrder"]

_ROUNDS = 6  # four give a pseudorandom permutation (Luby and Rackoff 1988); two more for a weak round function


class ShuffledOrder:
    """The permutation of 0..`size`-1 that belongs to (`seed`, `epoch`)."""

    def __init__(self, size: int, seed: int, epoch: int) -> None:
        self.size = size
        self._half = max(1, (max(size - 1, 1).bit_length() + 1) // 2)
        self._mask = np.uint64((1 << self._half) - 1)
        digest = hashlib.sha256(f"polyana order {seed} {epoch}".encode()).digest()
        more = hashlib.sha256(digest).digest()
        self._keys = np.frombuffer(digest + more, dtype="<u8")[:_ROUNDS]

    def __getitem__(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """What stands at `positions`."""
        numbers = self._permute(positions.astype(np.uint64))
        outside = numbers >= self.size
        while outside.any():
            numbers[outside] = self._permute(numbers[outside])
            outside = numbers >= self.size
        return numbers.astype(np.int64)

    def _permute(self, numbers: NDArray[np.uint64]) -> NDArray[np.uint64]:
        half, mask = np.uint64(self._half), self._mask
        left, right = numbers >> half, numbers & mask
        for key in self._keys:
            left, right = right, left ^ (_mix(right ^ key) & mask)
        return (left << half) | right


def _mix(numbers: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finaliser of splitmix64 (Steele, Lea and Flood 2014); wraps around at 2^64."""
    with np.errstate(over="ignore"):
        numbers = (numbers ^ (numbers >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        numbers = (numbers ^ (numbers >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return numbers ^ (numbers >> np.uint64(31))
