"""Recipe to transformers model, and the two parts of a language model that training needs."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from polyana.models.config import ModelConfig
from polyana.models.fused import fuse
from polyana.models.packed_attention import ATTENTION, register_with_transformers

__all__ = [
    "build_model",
    "count_parameters",
    "head_weight",
    "hidden_matrices",
    "hidden_states",
    "is_reward_model",
    "longest_text",
    "packs_texts",
    "quiet_transformers",
    "save_model",
    "share",
    "transformer_blocks",
    "writing",
]


def build_model(config: ModelConfig, vocab_size: int, end_of_text: int, seed: int) -> Any:
    """A new causal language model in fp32, initialised from `seed` as transformers does for its architecture."""
    from transformers import AutoModelForCausalLM, GPT2Config, LlamaConfig

    register_with_transformers()
    shared = {
        "vocab_size": vocab_size, "bos_token_id": end_of_text, "eos_token_id": end_of_text,
        "tie_word_embeddings": config.tie_embeddings,
    }  # fmt: skip
    settings: Any
    if config.architecture == "gpt2":
        settings = GPT2Config(
            n_layer=config.layers, n_embd=config.width, n_head=config.heads, n_positions=config.context,
            n_inner=config.feed_forward, resid_pdrop=config.dropout, embd_pdrop=config.dropout,
            attn_pdrop=config.dropout, **shared,
        )  # fmt: skip
    else:
        two_thirds = (config.width * 8 // 3 + 63) // 64 * 64  # 2/3 of 4 x width (Shazeer 2020), rounded up for GEMMs
        settings = LlamaConfig(
            num_hidden_layers=config.layers, hidden_size=config.width, num_attention_heads=config.heads,
            num_key_value_heads=config.key_value_heads, max_position_embeddings=config.context,
            intermediate_size=config.feed_forward or two_thirds, **shared,
        )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(settings, dtype=torch.float32, attn_implementation=ATTENTION)
    fuse(model)
    return model


def hidden_states(
    model: Any,
    tokens_N: torch.Tensor,
    position_N: torch.Tensor,
    lengths: Sequence[int],
    after: Sequence[int | None] = (),
    read_N: torch.Tensor | None = None,
) -> torch.Tensor:
    """The states that the output layer reads, [N, D]; texts of `lengths` lie one behind the other, each seen alone, or
    with the earlier one that it goes on from (`after`, as in `packed_causal_attention`). `read_N`: whether a token's
    state is wanted; those of no others are given then.

    Neither mask nor cache is passed, so transformers has nothing to guess packed texts from. A pretrained model that
    keeps an attention of its own is given one text at a time.
    """
    if not packs_texts(model):
        texts = torch.split(tokens_N, list(lengths))
        trunks = [texts[trunk] if trunk is not None else texts[0][:0] for trunk in after or [None] * len(texts)]
        whole = [torch.cat(parts)[None] for parts in zip(trunks, texts, strict=True)]
        states = [model.base_model(input_ids=text, use_cache=False).last_hidden_state[0] for text in whole]
        found_ND = torch.cat([each[len(trunk) :] for each, trunk in zip(states, trunks, strict=True)])
        return found_ND if read_N is None else found_ND[read_N]
    more: dict[str, Any] = {"after": tuple(after)} if after else {}
    if read_N is not None:
        more["read"] = read_N.nonzero()[:, 0]
    output = model.base_model(
        input_ids=tokens_N[None], position_ids=position_N[None], use_cache=False, lengths=tuple(lengths), **more
    )
    states_ND: torch.Tensor = output.last_hidden_state[0]
    return states_ND if read_N is None else states_ND[read_N]


def packs_texts(model: Any) -> bool:
    """Whether many texts can be given to the model at once, as every model that is built here can."""
    return bool(model.config._attn_implementation == ATTENTION)


def longest_text(model: Any) -> int:
    """Tokens that the model reads at most; sys.maxsize where its architecture sets no limit (Bloom, Mamba)."""
    return getattr(model.config, "max_position_embeddings", None) or sys.maxsize


def head_weight(model: Any) -> torch.Tensor:
    """The output layer's matrix, [V, D]; of a reward model, which has one row, [1, D]."""
    layer = model.score if is_reward_model(model) else model.get_output_embeddings()
    return layer.weight  # type: ignore[no-any-return]


def is_reward_model(model: Any) -> bool:
    """Whether the model gives a text a score, as transformers' models for sequence classification do."""
    return type(model).__name__.endswith("ForSequenceClassification")


def transformer_blocks(model: Any) -> list[nn.Module]:
    """The model's layers, in order: what transformers itself says must not be split between devices."""
    names = set(model._no_split_modules)  # of a class, or of what FSDP2 has made a subclass of
    return [module for module in model.modules() if names & {kind.__name__ for kind in type(module).__mro__}]


def hidden_matrices(model: Any) -> list[nn.Parameter]:
    """The matrices of the blocks: all but embeddings and the output layer. GPT-2 keeps its own transposed."""
    outer = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    outer.add(id(head_weight(model)))
    return [each for each in model.parameters() if each.dim() == 2 and id(each) not in outer]


def count_parameters(model: nn.Module) -> int:
    """Numbers that are trained; shared ones count once, frozen ones not."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def save_model(model: Any, directory: Path, weights: Mapping[str, torch.Tensor]) -> None:
    """config.json, generation_config.json and model.safetensors, as any Hugging Face tool reads them."""
    with quiet_transformers():
        model.save_pretrained(directory, state_dict=dict(weights))
    for file in directory.glob("*.safetensors"):
        share(file)


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """transformers saves without a progress bar, which would tear our own line apart, and without remarks on defaults:
    what is saved is tested by loading it."""
    from transformers.utils import logging

    logging.disable_progress_bar()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def share(file: Path) -> None:
    """Let those read a file who may read its directory: safetensors writes for its owner alone, and a server can be
    another user."""
    file.chmod(file.parent.stat().st_mode & 0o666)


@contextmanager
def writing(model: Any) -> Iterator[None]:
    """While it lasts, a model in training can write: with transformers' own attention, which reads a cache.

    The last tokens' states are no contiguous tensor; with a frozen head torch would copy its whole matrix for each text
    (matmul folds only what needs a gradient or lies in one piece): 2.7 GB for 48 texts and SmolLM2's vocabulary.
    """
    before, packs = model.config._attn_implementation, packs_texts(model)
    if packs:
        model.set_attn_implementation("sdpa")
    hook = model.get_output_embeddings().register_forward_pre_hook(lambda _, given: (given[0].contiguous(),))
    try:
        yield
    finally:
        hook.remove()
        if packs:
            model.set_attn_implementation(before)


@contextmanager
def rounded(model: Any, dtype: torch.dtype) -> Iterator[bool]:
    """While it lasts, weights are kept in `dtype`: for writing, where autocast would round all of them at every token.

    Weights that are spread over processes stay as they are, and so do those in 4 bits; it tells whether no others were
    left, so that nothing needs autocast.
    """
    from torch.distributed.tensor import DTensor

    others = [parameter for parameter in model.parameters() if parameter.dtype != dtype]
    kept = [
        (parameter, parameter.data)
        for parameter in others
        if parameter.is_floating_point() and not isinstance(parameter, DTensor)
    ]
    try:
        for parameter, data in kept:
            parameter.data = data.to(dtype)
        yield len(kept) == len(others)
    finally:
        for parameter, data in kept:
            parameter.data = data
