"""How many operations a model needs, to compare a training's speed with what the hardware can do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from polyana.models.build import head_weight, hidden_matrices, packs_texts
from polyana.models.last_block import last_feed_forward

__all__ = ["training_flops"]


def training_flops(model: Any, lengths: Sequence[int], labelled: int, after: Sequence[int | None] = ()) -> float:
    """Floating point operations of a training step on texts of `lengths` tokens, `labelled` of which reach the head;
    `after` as in `packed_causal_attention`.

    A multiply-add counts two; the backward pass twice the forward (Kaplan et al. 2020, section 2.1): 6 for each token
    and weight of a matrix product, 4 where the weight is frozen and has no gradient of its own, and 12 for each layer,
    width of its attention, and pair of tokens of which one sees the other. The last feed-forward layer is that of the
    labelled tokens (last_block.py); its attention is counted whole. Norms, activations, softmax and the optimizer are
    left out, as is customary.
    """
    settings = model.config
    matrices = sum(_operations(weight) for weight in hidden_matrices(model))
    size = getattr(settings, "head_dim", None) or settings.hidden_size // settings.num_attention_heads
    pairs = sum(length * (length + 1) / 2 for length in lengths)
    pairs += sum(length * lengths[trunk] for length, trunk in zip(lengths, after, strict=False) if trunk is not None)
    attention = 12 * settings.num_hidden_layers * settings.num_attention_heads * size * pairs
    last = sum(_operations(weight) for weight in last_feed_forward(model)) if packs_texts(model) else 0
    of_labelled = _operations(head_weight(model)) + last
    return float(sum(lengths) * (matrices - last) + labelled * of_labelled + attention)


def _operations(weight: torch.Tensor) -> int:
    """For each token. A matrix in 4 bits holds two of its numbers in one."""
    packed = weight.dtype == torch.uint8
    return (6 if weight.requires_grad else 4) * weight.numel() * (2 if packed else 1)
