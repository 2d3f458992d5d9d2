"""How well a language model predicts held-out text."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from polyana.data import Batch, EvalSequences

__all__ = ["evaluate_language_model"]

_BATCH_TOKENS = 8192  # tokens scored at once: bounds memory; guess


def evaluate_language_model(
    loss: Callable[[Batch], tuple[float, float]],
    sequences: EvalSequences,
    text_bytes: float | None,
    sum_over: Callable[[Sequence[range], Callable[[range], Sequence[float]]], Sequence[float]],
) -> dict[str, float]:
    """eval/loss in nats per token, eval/perplexity = exp of it, eval/bits_per_byte.

    `loss(batch)` gives the sum of -log p and what it sums over. `text_bytes`: length in UTF-8 of the text that the
    sequences hold; None for no bits per byte. `sum_over(items, compute)` adds up, over all devices, what `compute`
    gives for each item. Bits per byte = nats / ln 2 / bytes; end-of-text tokens count as tokens and add no bytes, so
    the figure is, if anything, a little too high. It is what tokenizers with different vocabularies can be compared by.
    """
    nats, tokens = sum_over(sequences.batches(_BATCH_TOKENS), lambda numbers: loss(sequences.batch(numbers)))
    mean = nats / tokens
    metrics = {"eval/loss": mean, "eval/perplexity": math.exp(min(mean, 700.0))}  # beyond it a float overflows
    return metrics if text_bytes is None else metrics | {"eval/bits_per_byte": nats / math.log(2) / text_bytes}
