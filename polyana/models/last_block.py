"""The last block, for the tokens alone whose states are read.

Of what it makes of a token no other sees anything but key and value. Where only some states are read, those of answers
or of the ends of texts, it attends with no text's tokens before the first that is read, and computes its feed-forward
layer for those that are: 8 of a GPT-2 block's 12 products, so of 6 layers a reward model's step spares a ninth.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import MethodType
from typing import Any

import torch
from torch import nn

__all__ = ["last_feed_forward", "shorten_last_block"]

_PARTS = {
    "GPT2Block": ("ln_1", "attn", "ln_2"),
    "LlamaDecoderLayer": ("input_layernorm", "self_attn", "post_attention_layernorm"),
}
"""Blocks that compute x + attention(norm(x)) and then x + mlp(norm(x)): names of their norm, attention and norm."""


def shorten_last_block(model: nn.Module) -> None:
    """Let the last block heed `read`, the places of the tokens whose states are read; those of others are unfinished
    then. In place; blocks of other architectures take no notice of it."""
    if blocks := _blocks(model):
        blocks[-1].forward = MethodType(_forward, blocks[-1])


def last_feed_forward(model: nn.Module) -> list[nn.Parameter]:
    """The matrices that are multiplied with the states of those tokens alone; none where all are computed."""
    return [each for each in _blocks(model)[-1].mlp.parameters() if each.dim() == 2] if _blocks(model) else []


def _blocks(model: nn.Module) -> list[Any]:
    return [module for module in model.modules() if _parts(module)]


def _parts(block: nn.Module) -> tuple[str, str, str] | None:
    """By the names of its classes, for FSDP2 makes a subclass."""
    return next((_PARTS[kind.__name__] for kind in type(block).__mro__ if kind.__name__ in _PARTS), None)


def _forward(
    self: Any,
    hidden_states: torch.Tensor,
    *rest: Any,
    read: torch.Tensor | None = None,
    lengths: Sequence[int] | None = None,
    **others: Any,
) -> torch.Tensor:
    """The block's own forward, [1, N, D]; with `read` over packed texts, where transformers' other arguments say
    nothing."""
    if lengths is not None:
        others["lengths"] = lengths
    if read is None or lengths is None:
        return type(self).forward(self, hidden_states, *rest, **others)  # type: ignore[no-any-return]
    before, attention, after = (getattr(self, name) for name in _parts(self) or ())
    unread = _unread(read, lengths)
    states: torch.Tensor = hidden_states + attention(hidden_states=before(hidden_states), unread=unread, **others)[0]
    change = torch.zeros_like(states)
    change[:, read] = self.mlp(after(states.index_select(1, read))).to(states.dtype)
    return states + change


def _unread(read: torch.Tensor, lengths: Sequence[int]) -> list[int]:
    """How many tokens of each text stand before the first that is read."""
    ends = torch.tensor([0, *lengths], device=read.device).cumsum(0)
    behind = torch.cat([read, ends[-1:]])[torch.searchsorted(read, ends[:-1])]  # the first one from there on
    return (behind.minimum(ends[1:]) - ends[:-1]).tolist()
