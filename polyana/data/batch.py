"""What the model is given at once."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Any, Self

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

    @property
    def after(self) -> tuple[int | None, ...]:
        """For each text the number of the one that it goes on from; None where it stands alone. () when all do."""
        return ()

    def micro_batches(self, size: int) -> list[Self]:
        """The batch in parts of at most `size` sequences."""
        parts = [slice(first, first + size) for first in range(0, len(self.texts), size)]
        sizes = [sum(map(sum, self.texts[part])) for part in parts]
        columns = [torch.split(column, sizes) for column in self._columns().values()]
        return [
            replace(self, **(dict(zip(self._columns(), tensors, strict=True)) | self._of_sequences(part)))
            for tensors, part in zip(zip(*columns, strict=True), parts, strict=True)
        ]

    def window(self, first: int, tokens: int) -> Batch:
        """The `tokens` tokens from place `first` on as one sequence; fewer at the end."""
        last = min(first + tokens, self.tokens)
        ends = list(accumulate(self.lengths))
        inside = [min(end, last) - max(end - length, first) for end, length in zip(ends, self.lengths, strict=True)]
        columns = {name: column[first:last] for name, column in self._columns().items()}
        return Batch(**columns, texts=(tuple(length for length in inside if length > 0),))

    def to(self, device: torch.device) -> Self:
        return replace(self, **{name: each.to(device, non_blocking=True) for name, each in self._columns().items()})

    def _columns(self) -> dict[str, Any]:
        names = ("tokens_N", "targets_N", "weight_N", "position_N", "document_N")
        return {name: getattr(self, name) for name in names}

    def _of_sequences(self, part: slice) -> dict[str, Any]:
        """What the batch says of each sequence, for some of them."""
        return {"texts": self.texts[part]}
