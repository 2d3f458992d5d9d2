"""A pretrained model as training needs it: fp32, our attention where it computes what the model's own does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from polyana.errors import UserError
from polyana.models.build import head_weight, hidden_states, longest_text, packs_texts
from polyana.models.fused import fuse
from polyana.models.packed_attention import ATTENTION, register_with_transformers

__all__ = ["load_base"]

_TEXT = 24  # tokens of each of the two texts that both ways are tried on, as in check_packing; guess
_TOLERANCE = 1e-4  # of the largest logit; rounding in fp32 gives 2e-7 to 1e-6 in small models (measured)


def load_base(directory: Path) -> Any:
    """The causal language model that `convert_base` or a save wrote, with fp32 weights, ready to be trained.

    Its logits are compared with those that transformers computes text by text. A model that our attention is not right
    for (sliding windows, ALiBi, no attention at all) keeps its own, and `hidden_states` gives it one text at a time:
    slower, and the same. Raises UserError for one whose logits are not its states times the output layer, which is what
    training computes.
    """
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()
    register_with_transformers()
    model = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32, local_files_only=True)
    own = model.config._attn_implementation
    size = min(_TEXT, longest_text(model))
    tokens_N = torch.arange(2 * size) * 31 % model.config.vocab_size  # any texts that differ
    with torch.no_grad():
        logits = torch.cat([_theirs(model, text) for text in tokens_N.split(size)])
        fuse(model)
        model.eval()  # what fuse has put in, too
        if _may_pack(model.config):
            model.set_attn_implementation(ATTENTION)
        if packs_texts(model) and not _close(logits, _ours(model, tokens_N, size)):
            model.set_attn_implementation(own)
        if not packs_texts(model) and not _close(logits, _ours(model, tokens_N, size)):
            raise UserError(
                f"{type(model).__name__} does more to its logits than multiply states and output layer (a bias, a "
                "scale, a cap); training it would learn something else, so it cannot be a base"
            )
    return model.train()


def _may_pack(config: Any) -> bool:
    """Whether a short trial can tell: windows and stretched positions begin to matter only in long texts."""
    slides = getattr(config, "sliding_window", None) or "sliding_attention" in (
        getattr(config, "layer_types", None) or ()
    )
    positions = getattr(config, "rope_parameters", None) or {}
    return not slides and positions.get("rope_type") not in ("dynamic", "longrope")


def _theirs(model: Any, text_N: torch.Tensor) -> torch.Tensor:
    """The logits as transformers computes them, [N, V]; with a mask, for without one it would warn of padding."""
    output = model(input_ids=text_N[None], attention_mask=torch.ones_like(text_N)[None], use_cache=False)
    return output.logits[0]  # type: ignore[no-any-return]  # transformers has no types


def _ours(model: Any, tokens_N: torch.Tensor, size: int) -> torch.Tensor | None:
    """The logits as training computes them, [N, V]; None if the model does not take texts so."""
    position_N = torch.arange(size).repeat(2)
    try:
        return hidden_states(model, tokens_N, position_N, (size, size)) @ head_weight(model).T
    except (TypeError, ValueError, RuntimeError):  # what foreign code makes of packed texts
        return None


def _close(expected: torch.Tensor, found: torch.Tensor | None) -> bool:
    return found is not None and bool((found - expected).abs().max() < _TOLERANCE * expected.abs().max())
