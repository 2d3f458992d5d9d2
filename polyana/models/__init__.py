"""Models as transformers models; they know of no machine and no training."""

from polyana.models.base import BASE_VERSION, BaseReference, base_inputs, convert_base, parse_base
from polyana.models.build import (
    build_model,
    count_parameters,
    head_weight,
    hidden_matrices,
    hidden_states,
    packs_texts,
    save_model,
    transformer_blocks,
    writing,
)
from polyana.models.compiled import compile_blocks, has_compiler
from polyana.models.config import ModelConfig
from polyana.models.flops import training_flops
from polyana.models.load import load_base
from polyana.models.packed_attention import attention_on, packed_causal_attention
from polyana.models.self_test import check_packing
from polyana.models.vocabulary import extend_vocabulary

__all__ = [
    "BASE_VERSION",
    "BaseReference",
    "ModelConfig",
    "attention_on",
    "base_inputs",
    "build_model",
    "check_packing",
    "compile_blocks",
    "convert_base",
    "count_parameters",
    "extend_vocabulary",
    "has_compiler",
    "head_weight",
    "hidden_matrices",
    "hidden_states",
    "load_base",
    "packed_causal_attention",
    "packs_texts",
    "parse_base",
    "save_model",
    "training_flops",
    "transformer_blocks",
    "writing",
]
