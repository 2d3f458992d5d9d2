"""What is checked on the device in use before a training begins."""

from __future__ import annotations

from typing import Any

import torch

from polyana.errors import PolyanaError
from polyana.models.build import hidden_states, longest_text

__all__ = ["check_packing"]

_TEXT = 24  # tokens of each of the two texts; guess
_TOLERANCE = 1e-4
"""Of the largest state. Rounding in fp32 gives 1e-6; a text that sees the one before it 0.8 and 1.4, in an untrained
gpt2 and llama of 4 x 256 (measured)."""


def check_packing(model: Any) -> None:
    """Two texts in one batch have the states they have alone, in this model and on its device; in fp32, where only
    rounding may differ. Changes nothing. Raises PolyanaError."""
    device = model.device
    size = min(_TEXT, longest_text(model))
    tokens_N = torch.arange(2 * size, device=device) * 31 % model.config.vocab_size  # any texts that differ
    position_N = torch.arange(size, device=device).repeat(2)
    training = model.training
    model.eval()
    with torch.no_grad(), torch.autocast(device.type, enabled=False):
        packed = hidden_states(model, tokens_N, position_N, (size, size))
        alone = [hidden_states(model, text, position_N[:size], (size,)) for text in tokens_N.split(size)]
    model.train(training)
    expected = torch.cat(alone)
    off = float((packed - expected).abs().max() / expected.abs().max())
    if not off < _TOLERANCE:
        raise PolyanaError(
            f"texts packed into one batch see each other on this {device.type}: their states are off by {off:.1e} of "
            "the largest. This is a fault of the attention with this version of torch or transformers; please report "
            "it with what `polyana doctor` prints"
        )
