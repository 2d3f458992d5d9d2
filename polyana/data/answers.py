"""Answers to prompts in batches: a sequence is an item, a pair of answers to one prompt or a single one.

The shards hold two texts for each item, side by side. The tokens that both begin with are laid out once, before them:
both go on from there (Batch.after), and neither sees the other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from polyana.data.batch import Batch
from polyana.data.order import ShuffledOrder
from polyana.data.shards import TokenShards

__all__ = ["AnswerBatch", "AnswerSequences", "Side"]

Side = Literal["both", "first", "second"]
"""Which of an item's two texts are laid out."""

_SIDES: dict[Side, tuple[int, ...]] = {"both": (0, 1), "first": (0,), "second": (1,)}

_SHARED = 16
"""Tokens that both begin with, from which on they are laid out once: fewer are not worth calls of their own; guess."""


@dataclass(frozen=True, slots=True)
class AnswerBatch(Batch):
    """Items laid one behind the other.

    items: the number of each in its split. shared: whether the first of its texts is what the others go on from.
    `weight_N` is 1 where a token of an answer is to be predicted, else 0. facts: what else is known of each item, by
    name, as [I] or [I, 2].
    """

    items: tuple[int, ...] = ()
    shared: tuple[bool, ...] = ()
    facts: Mapping[str, torch.Tensor] = field(default_factory=dict)

    @property
    def after(self) -> tuple[int | None, ...]:
        if not any(self.shared):
            return ()
        found: list[int | None] = []
        for texts, shared in zip(self.texts, self.shared, strict=True):
            trunk = len(found) if shared else None
            found += [None, *[trunk] * (len(texts) - 1)]
        return tuple(found)

    @property
    def rows(self) -> list[int]:
        """How many tokens each answer has, in order."""
        counted = torch.split(self.weight_N != 0, list(self.lengths))
        trunks = [shared and not place for texts, shared in zip(self.texts, self.shared, strict=True)
                  for place in range(len(texts))]  # fmt: skip
        return [int(text.sum()) for text, trunk in zip(counted, trunks, strict=True) if not trunk]

    def window(self, first: int, tokens: int) -> AnswerBatch:  # noqa: ARG002  it begins where answers do
        """The first item alone, its answers cut to `tokens` tokens together, each without a prompt."""
        texts = self.texts[0][self.shared[0] :]
        start = self.texts[0][0] if self.shared[0] else 0
        size, places = max(tokens // len(texts), 1), []
        for length in texts:
            counts = self.weight_N[start : start + length] != 0
            begin = start + int(counts.int().argmax())
            places.append(torch.arange(begin, min(begin + size, start + length)))
            start += length
        where = torch.cat(places)
        columns = {name: column[where] for name, column in self._columns().items()}
        columns["position_N"] = torch.cat([torch.arange(len(place)) for place in places])
        shape = (tuple(map(len, places)),)
        return AnswerBatch(**columns, **(self._of_sequences(slice(0, 1)) | {"texts": shape, "shared": (False,)}))

    def to(self, device: torch.device) -> AnswerBatch:
        moved = super(AnswerBatch, self).to(device)
        return replace(moved, facts={name: each.to(device) for name, each in self.facts.items()})

    def _of_sequences(self, part: slice) -> dict[str, Any]:
        return {
            "texts": self.texts[part], "items": self.items[part], "shared": self.shared[part],
            "facts": {name: each[part] for name, each in self.facts.items()},
        }  # fmt: skip


class AnswerSequences:
    """The items of a split, shuffled without end, or in their order.

    An epoch shows `items` (default: each once); one that stands there twice is shown twice. As in TrainSequences a
    sequence's number says all. `side`: what is laid out of an item. `padding`: for what scores whole texts; they are
    read to their end, and what counts is the last token that is not `padding`, where transformers' models for sequence
    classification look. `facts`: what is known of every item, by name, which batches carry along.
    """

    def __init__(
        self,
        shards: TokenShards,
        context: int,
        seed: int,
        side: Side = "both",
        items: NDArray[np.int64] | None = None,
        padding: int | None = None,
        facts: Mapping[str, NDArray[Any]] | None = None,
    ) -> None:
        self.shards, self.context, self.padding, self.facts = shards, context, padding, facts or {}
        self._seed, self._sides = seed, _SIDES[side]
        self._starts = np.append(shards.document_starts(), len(shards))
        self._items = np.arange(self.held) if items is None else items
        lengths = np.diff(self._starts) - (padding is None)
        self.tokens_per_epoch = int(sum(lengths[2 * self._items + each].sum() for each in self._sides))
        self._lengths = np.sum([lengths[each::2] for each in self._sides], axis=0)
        self._order: tuple[int, ShuffledOrder] | None = None

    @property
    def held(self) -> int:
        """Items that there are."""
        return len(self._starts) // 2

    @property
    def per_epoch(self) -> int:
        return len(self._items)

    def batch(self, first: int, count: int) -> AnswerBatch:
        """The sequences numbered `first` to `first + count - 1`; they may reach over the end of an epoch."""
        return self.of([self._item(number) for number in range(first, first + count)])

    def in_order(self, tokens: int, limit: int | None = None) -> list[range]:
        """Items by their number, in batches of about `tokens` tokens: all, or the first of about `limit` tokens."""
        ranges, begin, size = list[range](), 0, 0
        lengths = self._lengths
        held = self.held if limit is None else max(int((np.cumsum(lengths) <= limit).sum()), min(1, self.held))
        for item, more in enumerate(lengths[:held].tolist()):
            if item > begin and size + more > tokens:
                ranges.append(range(begin, item))
                begin, size = item, 0
            size += more
        return [*ranges, range(begin, held)] if held else []

    def of(self, items: Sequence[int], side: Side | None = None) -> AnswerBatch:
        """A batch of items by their number; `side`: instead of the sequences' own."""
        sides = self._sides if side is None else _SIDES[side]
        found = [self._lay_out([2 * item + each for each in sides]) for item in items]
        names = ("tokens_N", "targets_N", "weight_N", "position_N", "document_N")
        columns = {
            name: torch.from_numpy(np.concatenate([piece[place] for pieces, _ in found for piece in pieces]))
            for place, name in enumerate(names)
        }
        texts = tuple(tuple(len(piece[0]) for piece in pieces) for pieces, _ in found)
        facts = {name: torch.from_numpy(values[list(items)]) for name, values in self.facts.items()}
        return AnswerBatch(
            **columns, texts=texts, items=tuple(map(int, items)), shared=tuple(shared for _, shared in found),
            facts=facts,
        )  # fmt: skip

    def _lay_out(self, documents: list[int]) -> tuple[list[tuple[NDArray[Any], ...]], bool]:
        """The columns of each of an item's texts; whether the first of them is what both begin with."""
        spans = [(int(self._starts[each]), int(self._starts[each + 1])) for each in documents]
        tokens = [self.shards.read(*span)[0] for span in spans]
        weights = [self.shards.weights(*span) for span in spans]
        trunk = _shared(tokens, weights) - 1 if len(spans) == 2 else 0
        trunk = trunk if trunk >= _SHARED else 0
        pieces = list[tuple[NDArray[Any], ...]]()
        for document, text, weight in zip(documents, tokens, weights, strict=True):
            if self.padding is None:
                rows, targets, counts = text[:-1], text[1:], weight[1:] != 0
            else:
                rows = targets = text
                others = np.flatnonzero(text != self.padding)
                counts = np.arange(len(text)) == (others[-1] if len(others) else len(text) - 1)
            columns = (
                rows, targets, counts.astype(np.float32), np.arange(len(rows)), np.full(len(rows), document)
            )  # fmt: skip
            if trunk and not pieces:
                pieces.append(tuple(column[:trunk] for column in columns))
            pieces.append(tuple(column[trunk:] for column in columns))
        return pieces, bool(trunk)

    def _item(self, number: int) -> int:
        epoch, place = divmod(number, self.per_epoch)
        if self._order is None or self._order[0] != epoch:
            self._order = epoch, ShuffledOrder(self.per_epoch, self._seed, epoch)
        return int(self._items[self._order[1][np.array([place])][0]])


def _shared(tokens: list[NDArray[np.int64]], weights: list[NDArray[np.float32]]) -> int:
    """How many tokens both texts begin with, before the first that is an answer's."""
    first, second = tokens
    size = min(len(first), len(second))
    differ = np.flatnonzero(first[:size] != second[:size])
    answers = [int(np.flatnonzero(each)[0]) for each in weights]
    return min(int(differ[0]) if len(differ) else size, *answers)
