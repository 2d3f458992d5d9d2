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
from polyana.models.checkpointing import Activations, activation_bytes, checkpoint_blocks
from polyana.models.compiled import CompilerMissing, compile_blocks, try_compiler
from polyana.models.config import ModelConfig
from polyana.models.flops import training_flops
from polyana.models.packed_attention import attention_on, packed_causal_attention
from polyana.models.self_test import check_packing

__all__ = [
    "Activations",
    "CompilerMissing",
    "ModelConfig",
    "activation_bytes",
    "attention_on",
    "build_model",
    "check_packing",
    "checkpoint_blocks",
    "compile_blocks",
    "count_parameters",
    "head_weight",
    "hidden_matrices",
    "hidden_states",
    "packed_causal_attention",
    "save_model",
    "training_flops",
    "transformer_blocks",
    "try_compiler",
    "writing",
]
