"""Models as transformers models; they know of no machine and no training."""

from polyana.models.adapter import (
    AdapterConfig,
    Merged,
    adapter_problems,
    attach_adapter,
    bytes_of,
    has_adapter,
    import_peft,
    load_adapted,
    merge_adapter,
    numbers_in,
    put_adapter,
    save_adapter,
    save_adapter_settings,
    stored_weights,
    using_adapter,
    weights_file,
    without_adapter,
)
from polyana.models.base import (
    BASE_VERSION,
    BaseReference,
    base_inputs,
    check_saved_tokenizer,
    convert_base,
    copy_model,
    parse_base,
)
from polyana.models.build import (
    build_model,
    count_parameters,
    head_weight,
    hidden_matrices,
    hidden_states,
    is_reward_model,
    longest_text,
    packs_texts,
    save_model,
    transformer_blocks,
    writing,
)
from polyana.models.checkpointing import Activations, activation_bytes, checkpoint_blocks
from polyana.models.compiled import CompilerMissing, compile_blocks, try_compiler
from polyana.models.config import ModelConfig
from polyana.models.flops import training_flops
from polyana.models.hub import fetch_model, model_commit
from polyana.models.licence import licence_of_directory, licence_of_package
from polyana.models.load import load_base
from polyana.models.packed_attention import attention_on, packed_causal_attention
from polyana.models.reward import load_reward_model, outline_reward_model, padding_token
from polyana.models.self_test import check_packing
from polyana.models.stored import copy_bytes, save_settings, weights_to_store, write_tensors
from polyana.models.vocabulary import add_rows, extend_vocabulary

__all__ = [
    "BASE_VERSION",
    "Activations",
    "AdapterConfig",
    "BaseReference",
    "CompilerMissing",
    "Merged",
    "ModelConfig",
    "activation_bytes",
    "adapter_problems",
    "add_rows",
    "attach_adapter",
    "attention_on",
    "base_inputs",
    "build_model",
    "bytes_of",
    "check_packing",
    "check_saved_tokenizer",
    "checkpoint_blocks",
    "compile_blocks",
    "convert_base",
    "copy_bytes",
    "copy_model",
    "count_parameters",
    "extend_vocabulary",
    "fetch_model",
    "has_adapter",
    "head_weight",
    "hidden_matrices",
    "hidden_states",
    "import_peft",
    "is_reward_model",
    "licence_of_directory",
    "licence_of_package",
    "load_adapted",
    "load_base",
    "load_reward_model",
    "longest_text",
    "merge_adapter",
    "model_commit",
    "numbers_in",
    "outline_reward_model",
    "packed_causal_attention",
    "packs_texts",
    "padding_token",
    "parse_base",
    "put_adapter",
    "save_adapter",
    "save_adapter_settings",
    "save_model",
    "save_settings",
    "stored_weights",
    "training_flops",
    "transformer_blocks",
    "try_compiler",
    "using_adapter",
    "weights_file",
    "weights_to_store",
    "without_adapter",
    "write_tensors",
    "writing",
]
