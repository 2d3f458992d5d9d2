"""Losses: pure functions that return sums; who calls them knows the counts."""

from polyana.losses.answers import answer_log_probs, linear_answer_loss
from polyana.losses.costs import class_preferences
from polyana.losses.cross_entropy import (
    head_bytes,
    linear_cross_entropy_and_z_sum,
    linear_cross_entropy_sum,
    logits_bytes,
)
from polyana.losses.preference import (
    Answers,
    bradley_terry,
    cpo,
    dpo,
    ipo,
    kto,
    kto_kl,
    kto_weights,
    orpo,
    robust_dpo,
    simpo,
)
from polyana.losses.preference_config import DpoConfig, KtoConfig, PairLossConfig, PreferenceLossConfig

__all__ = [
    "Answers",
    "DpoConfig",
    "KtoConfig",
    "PairLossConfig",
    "PreferenceLossConfig",
    "answer_log_probs",
    "bradley_terry",
    "class_preferences",
    "cpo",
    "dpo",
    "head_bytes",
    "ipo",
    "kto",
    "kto_kl",
    "kto_weights",
    "linear_answer_loss",
    "linear_cross_entropy_and_z_sum",
    "linear_cross_entropy_sum",
    "logits_bytes",
    "orpo",
    "robust_dpo",
    "simpo",
]
