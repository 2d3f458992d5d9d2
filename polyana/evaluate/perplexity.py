"""How well a language model predicts held-out text."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from polyana.data import Batch, EvalBlocks

__all__ = ["evaluate_language_model"]

_BATCH_TOKENS = 8192  # tokens scored at once: bounds memory; guess


def evaluate_language_model(
    loss: Callable[[Batch], tuple[float, int]],
    blocks: EvalBlocks,
    text_bytes: float,
    sum_over: Callable[[Sequence[range], Callable[[range], Sequence[float]]], Sequence[float]],
) -> dict[str, float]:
    """eval/loss in nats per token, eval/perplexity = exp of it, eval/bits_per_byte.

    `loss(batch)` gives the sum of -log p and the number of tokens. `text_bytes`: length in UTF-8 of the text that the
    blocks hold. `sum_over(items, compute)` adds up, over all devices, what `compute` gives for each item. Bits per byte
    = nats / ln 2 / bytes; end-of-text tokens count as tokens and add no bytes, so the figure is, if anything, a little
    too high. It is what tokenizers with different vocabularies can be compared by.
    """
    batches = blocks.batches(max(1, _BATCH_TOKENS // blocks.context))
    nats, tokens = sum_over(batches, lambda starts: loss(blocks.batch(starts)))
    mean = nats / tokens
    return {
        "eval/loss": mean,
        "eval/perplexity": math.exp(min(mean, 700.0)),  # beyond it a float overflows
        "eval/bits_per_byte": nats / math.log(2) / text_bytes,
    }
