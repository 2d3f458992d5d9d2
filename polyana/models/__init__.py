"""Models as transformers models; they know of no machine and no training."""

from polyana.models.build import (
    build_model,
    count_parameters,
    head_weight,
    hidden_matrices,
    hidden_states,
    save_model,
    transformer_blocks,
    writing,
)
from polyana.models.config import ModelConfig
from polyana.models.flops import training_flops
from polyana.models.packed_attention import attention_on, packed_causal_attention

__all__ = [
    "ModelConfig",
    "attention_on",
    "build_model",
    "count_parameters",
    "head_weight",
    "hidden_matrices",
    "hidden_states",
    "packed_causal_attention",
    "save_model",
    "training_flops",
    "transformer_blocks",
    "writing",
]
