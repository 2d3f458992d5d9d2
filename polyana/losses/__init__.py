"""Losses: pure functions that return sums; who calls them knows the counts."""

from polyana.losses.cross_entropy import (
    head_bytes,
    linear_cross_entropy_and_z_sum,
    linear_cross_entropy_sum,
    logits_bytes,
)

__all__ = ["head_bytes", "linear_cross_entropy_and_z_sum", "linear_cross_entropy_sum", "logits_bytes"]
