"""What the model is given at once."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate

import torch

__all__ = ["Batch"]


@dataclass(frozen=True, slots=True)
class Batch:
    """Sequences laid one behind the other: N tokens in all, none of them padding.

    tokens_N: int64, the input.
    targets_N: int64, the token that should follow.
    weight_N: float32, what a target counts in the loss; 0 for not at all.
    position_N: int64, the place of a token in its text, from 0 on.
    document_N: int64, the number of the document each token comes from.
    texts: the lengths of the texts that each sequence is made of. A token attends to those before it in its own text.
    """

    tokens_N: torch.Tensor
    targets_N: torch.Tensor
    weight_N: torch.Tensor
    position_N: torch.Tensor
    document_N: torch.Tensor
    texts: tuple[tuple[int, ...], ...]

    @property
    def sequences(self) -> int:
        return len(self.texts)

    @property
    def tokens(self) -> int:
        return self.tokens_N.shape[0]

    @property
    def labelled(self) -> int:
        """Tokens whose target counts."""
        return int(self.weight_N.count_nonzero())

    @property
    def lengths(self) -> tuple[int, ...]:
        """The lengths of all texts, in order."""
        return tuple(length for sequence in self.texts for length in sequence)

    def micro_batches(self, size: int) -> list[Batch]:
        """The batch in parts of at most `size` sequences."""
        parts = [self.texts[first : first + size] for first in range(0, len(self.texts), size)]
        sizes = [sum(map(sum, part)) for part in parts]
        columns = zip(*(torch.split(column, sizes) for column in self._columns()), strict=True)
        return [Batch(*tensors, texts=part) for tensors, part in zip(columns, parts, strict=True)]  # type: ignore[misc]  # five columns, which mypy cannot count

    def window(self, first: int, tokens: int) -> Batch:
        """The `tokens` tokens from place `first` on as one sequence; fewer at the end."""
        last = min(first + tokens, self.tokens)
        ends = list(accumulate(self.lengths))
        inside = [min(end, last) - max(end - length, first) for end, length in zip(ends, self.lengths, strict=True)]
        tokens_N, targets, weight, position, document = (column[first:last] for column in self._columns())
        return Batch(tokens_N, targets, weight, position, document, (tuple(length for length in inside if length > 0),))

    def to(self, device: torch.device) -> Batch:
        tokens, targets, weight, position, document = (
            column.to(device, non_blocking=True) for column in self._columns()
        )
        return Batch(tokens, targets, weight, position, document, self.texts)

    def _columns(self) -> tuple[torch.Tensor, ...]:
        return self.tokens_N, self.targets_N, self.weight_N, self.position_N, self.document_N
