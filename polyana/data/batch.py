"""What the model is given at once. Shapes stand in names: B sequences of T tokens."""

from __future__ import annotations

from dataclasses import dataclass

import torch

__all__ = ["Batch"]


@dataclass(frozen=True, slots=True)
class Batch:
    """B blocks of T tokens, each with the token that should follow it.

    tokens_BT: int64, the input.
    targets_BT: int64, the next token at each place.
    loss_mask_BT: bool, where a target counts.
    document_BT: int64, the number of the document each input token comes from.
    """

    tokens_BT: torch.Tensor
    targets_BT: torch.Tensor
    loss_mask_BT: torch.Tensor
    document_BT: torch.Tensor

    @property
    def sequences(self) -> int:
        return self.tokens_BT.shape[0]

    @property
    def real_tokens(self) -> int:
        """Tokens that are text, not padding."""
        return int(self.loss_mask_BT.sum())

    def micro_batches(self, size: int) -> list[Batch]:
        """The batch in parts of at most `size` sequences."""
        columns = (self.tokens_BT, self.targets_BT, self.loss_mask_BT, self.document_BT)
        return [Batch(*parts) for parts in zip(*(torch.split(column, size) for column in columns), strict=True)]

    def window(self, first: int, tokens: int) -> Batch:
        """The `tokens` tokens from place `first` on, of each sequence; fewer at its end."""
        columns = (self.tokens_BT, self.targets_BT, self.loss_mask_BT, self.document_BT)
        return Batch(*(column[:, first : first + tokens] for column in columns))

    def to(self, device: torch.device) -> Batch:
        columns = (self.tokens_BT, self.targets_BT, self.loss_mask_BT, self.document_BT)
        return Batch(*(column.to(device, non_blocking=True) for column in columns))
