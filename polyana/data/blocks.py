"""Blocks of `context` tokens out of the shards, in an order that any position resumes exactly.

A training sequence has a number, counted from the start of training through all epochs. Which tokens it holds follows
from that number and the seed alone, so the loader has no state: the trainer's count of sequences is the position.
"""

from __future__ import annotations

import hashlib

import numpy as np
import torch

from polyana.data.batch import Batch
from polyana.data.order import ShuffledOrder
from polyana.data.shards import TokenShards
from polyana.errors import PolyanaError

__all__ = ["EvalBlocks", "TrainBlocks"]


class TrainBlocks:
    """Shuffled blocks without end.

    An epoch cuts the text into blocks from a start that differs between epochs (so that the borders, and the few tokens
    behind the last block, do) and shows each block once, in a new order.
    """

    def __init__(self, shards: TokenShards, context: int, seed: int) -> None:
        self.shards, self.context, self.seed = shards, context, seed
        self.per_epoch = (len(shards) - 1) // context
        if self.per_epoch < 1:
            raise PolyanaError(
                f"the training text has {len(shards):,} tokens, too few for one block of `context: {context}` and the "
                f"token after it; make `context` at most {max(len(shards) - 1, 1):,}, or add text"
            )
        self._spare = len(shards) - 1 - self.per_epoch * context
        self._order: tuple[int, ShuffledOrder] | None = None

    def batch(self, first: int, count: int) -> Batch:
        """The sequences numbered `first` to `first + count - 1`; they may reach over the end of an epoch."""
        return _stack(self.shards, [self._start(number) for number in range(first, first + count)], self.context)

    def _start(self, number: int) -> int:
        """The position in the text of the first token of sequence `number`."""
        epoch, place = divmod(number, self.per_epoch)
        if self._order is None or self._order[0] != epoch:
            self._order = epoch, ShuffledOrder(self.per_epoch, self.seed, epoch)
        block = int(self._order[1][np.array([place])][0])
        return block * self.context + self._shift(epoch)

    def _shift(self, epoch: int) -> int:
        digest = hashlib.sha256(f"polyana shift {self.seed} {epoch}".encode()).digest()
        return int.from_bytes(digest[:8], "little") % (self._spare + 1)


class EvalBlocks:
    """The blocks of a held-out text in their order; every token but the very first is a target exactly once.

    `limit` keeps the first so many tokens.
    """

    def __init__(self, shards: TokenShards, context: int, limit: int | None) -> None:
        self.shards, self.context = shards, context
        self.tokens = min(len(shards), limit) if limit is not None else len(shards)

    def batches(self, size: int) -> list[range]:
        """The starts of the blocks, `size` blocks a batch."""
        starts = range(0, max(self.tokens - 1, 0), self.context)
        return [starts[index : index + size] for index in range(0, len(starts), size)]

    def batch(self, starts: range) -> Batch:
        return _stack(self.shards, list(starts), self.context, self.tokens)


def _stack(shards: TokenShards, starts: list[int], context: int, end: int | None = None) -> Batch:
    """A batch of the blocks that begin at `starts`; what lies behind `end` is padding."""
    shape = (len(starts), context)
    tokens, targets, documents = (np.zeros(shape, dtype=np.int64) for _ in range(3))
    mask = np.zeros(shape, dtype=np.bool_)
    for row, start in enumerate(starts):
        stop = start + context + 1 if end is None else min(start + context + 1, end)
        block, document = shards.read(start, stop)
        length = len(block) - 1
        tokens[row, :length], targets[row, :length] = block[:-1], block[1:]
        documents[row, :length], mask[row, :length] = document[:-1], True
    return Batch(*(torch.from_numpy(array) for array in (tokens, targets, mask, documents)))
