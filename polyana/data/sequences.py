"""Sequences of at most `context` tokens out of the shards, in an order that any position resumes exactly.

A training sequence has a number, counted from the start of training through all epochs. Which tokens it holds follows
from that number and the seed alone, so the loader has no state: the trainer's count of sequences is the position.

What a sequence is, `packing` says:

    concat      a block of the text as it goes on from document to document; attention reaches over their borders
    documents   whole documents, or pieces of longer ones, that fill a sequence best; each attends to itself alone
    none        one document, or one piece of a longer one

A document's first token is predicted from the end-of-text token before it, so that every token is learned, and
end-of-text is what a text begins with. An example (TokenShards.weighted) stands for itself: its first token is given,
its targets count what their weights say, and it is never cut or run on.
"""

from __future__ import annotations

import hashlib
from typing import Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from polyana.data.batch import Batch
from polyana.data.order import ShuffledOrder
from polyana.data.packing import best_fit
from polyana.data.shards import TokenShards
from polyana.errors import PolyanaError

__all__ = ["EvalSequences", "Packing", "TrainSequences"]

Packing = Literal["none", "concat", "documents"]


class _Epoch(Protocol):
    """The sequences of an epoch, before they are shuffled."""

    sequences: int
    tokens: int

    def spans(self, index: int, epoch: int) -> list[tuple[int, int]]:
        """The texts of sequence `index`: (first, last) position of what is predicted, `last` not included."""


class TrainSequences:
    """Shuffled sequences without end: an epoch shows each once, in a new order."""

    def __init__(self, shards: TokenShards, context: int, packing: Packing, seed: int) -> None:
        """Raises PolyanaError when the text is shorter than one block of `context`."""
        self.shards, self.context, self.seed = shards, context, seed
        self._epoch: _Epoch = (
            _Blocks(shards, context, seed) if packing == "concat" else _Documents(shards, context, packing)
        )
        self._whole_documents = packing != "concat"
        self._order: tuple[int, ShuffledOrder] | None = None

    @property
    def per_epoch(self) -> int:
        return self._epoch.sequences

    @property
    def tokens_per_epoch(self) -> int:
        return self._epoch.tokens

    def batch(self, first: int, count: int) -> Batch:
        """The sequences numbered `first` to `first + count - 1`; they may reach over the end of an epoch."""
        spans = [self._spans(number) for number in range(first, first + count)]
        return _lay_out(self.shards, spans, self._whole_documents)

    def _spans(self, number: int) -> list[tuple[int, int]]:
        epoch, place = divmod(number, self.per_epoch)
        if self._order is None or self._order[0] != epoch:
            self._order = epoch, ShuffledOrder(self.per_epoch, self.seed, epoch)
        return self._epoch.spans(int(self._order[1][np.array([place])][0]), epoch)


class _Blocks:
    """The text cut into blocks, from a start that differs between epochs (so that the borders, and the few tokens
    behind the last block, do)."""

    def __init__(self, shards: TokenShards, context: int, seed: int) -> None:
        self._context, self._seed = context, seed
        self.sequences = (len(shards) - 1) // context
        self.tokens = self.sequences * context
        if self.sequences < 1:
            raise PolyanaError(
                f"the training text has {len(shards):,} tokens, too few for one block of `context: {context}` and the "
                f"token after it; make `context` at most {max(len(shards) - 1, 1):,}, or add text"
            )
        self._spare = len(shards) - 1 - self.tokens

    def spans(self, index: int, epoch: int) -> list[tuple[int, int]]:
        digest = hashlib.sha256(f"polyana shift {self._seed} {epoch}".encode()).digest()
        shift = int.from_bytes(digest[:8], "little") % (self._spare + 1)
        first = index * self._context + shift + 1
        return [(first, first + self._context)]


class _Documents:
    """Documents, cut where they are longer than `context`; with `documents`, packed best-fit into sequences."""

    def __init__(self, shards: TokenShards, context: int, packing: Packing) -> None:
        self._first, self._last = _pieces(shards, context)
        lengths = self._last - self._first
        self.tokens = int(lengths.sum())
        if not self.tokens:
            raise PolyanaError("the training text has no tokens; add text")
        bins = best_fit(lengths, context) if packing == "documents" else np.arange(len(lengths))
        self._members = np.argsort(bins, kind="stable")
        self._begins = np.searchsorted(bins[self._members], np.arange(bins.max() + 2))
        self.sequences = len(self._begins) - 1

    def spans(self, index: int, epoch: int) -> list[tuple[int, int]]:  # noqa: ARG002  the same in every epoch
        members = self._members[self._begins[index] : self._begins[index + 1]]
        return list(zip(self._first[members].tolist(), self._last[members].tolist(), strict=True))


class EvalSequences:
    """A held-out text in its order, each token a target once (but the very first of `concat`, which follows nothing).

    `limit` keeps the first so many tokens.
    """

    def __init__(self, shards: TokenShards, context: int, packing: Packing, limit: int | None) -> None:
        self.shards = shards
        self.tokens = min(len(shards), limit) if limit is not None else len(shards)
        self._whole_documents = packing != "concat"
        if self._whole_documents:
            first, last = _pieces(shards, context)
            first, last = first[first < self.tokens], np.minimum(last, self.tokens)[first < self.tokens]
        else:
            first = np.arange(1, self.tokens, context)
            last = np.minimum(first + context, self.tokens)
        self._spans = list(zip(first.tolist(), last.tolist(), strict=True))

    def batches(self, tokens: int) -> list[range]:
        """The sequences by number, in batches of at most `tokens` tokens (and at least one sequence)."""
        ranges: list[range] = []
        begin = size = 0
        for index, (first, last) in enumerate(self._spans):
            if index > begin and size + last - first > tokens:
                ranges.append(range(begin, index))
                begin, size = index, 0
            size += last - first
        return [*ranges, range(begin, len(self._spans))] if self._spans else []

    def batch(self, numbers: range) -> Batch:
        return _lay_out(self.shards, [[self._spans[number]] for number in numbers], self._whole_documents)


def _pieces(shards: TokenShards, context: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """First and last position of what is predicted of every document, in pieces of at most `context` tokens."""
    starts = shards.document_starts()
    lengths = np.diff(starts, append=len(shards))
    if shards.weighted:
        starts, lengths = starts + 1, lengths - 1
    counts = -(-lengths // context)
    within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    first = np.repeat(starts, counts) + within * context
    return first, np.minimum(first + context, np.repeat(starts + lengths, counts))


def _lay_out(shards: TokenShards, sequences: list[list[tuple[int, int]]], whole_documents: bool) -> Batch:
    """A batch of the sequences, each given by the spans of its texts."""
    tokens, targets, weights, documents, positions = [], [], [], [], []
    for first, last in (span for spans in sequences for span in spans):
        before, stretch = max(first - 1, 0), last - first
        text, document = shards.read(before, last)
        if first == 0:  # the very first document: what stands before every other one is the text's last token
            text = np.concatenate([shards.read(len(shards) - 1, len(shards))[0], text])
            document = np.concatenate([document[:1], document])
        tokens.append(text[:-1])
        targets.append(text[1:])
        weights.append(shards.weights(first, last))
        documents.append(document[1:] if whole_documents else document[:-1])
        positions.append(np.arange(stretch))
    columns = [torch.from_numpy(np.concatenate(column)) for column in (tokens, targets, weights, positions, documents)]
    texts = tuple(tuple(last - first for first, last in spans) for spans in sequences)
    return Batch(columns[0], columns[1], columns[2], columns[3], columns[4], texts)
