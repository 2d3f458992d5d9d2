"""A model's layers through torch.compile: fewer passes over memory, for half a minute or more at the start."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

__all__ = ["compile_blocks", "has_compiler"]


def has_compiler() -> bool:
    """Whether torch.compile finds the C++ compiler that it needs on a CPU."""
    return any(shutil.which(name) for name in (os.environ.get("CXX", ""), "c++", "g++", "clang++") if name)


def compile_blocks(blocks: Sequence[nn.Module]) -> None:
    """Let each layer compute in training by compiled code, in place; its parameters stay as they are.

    The layers share one compiled form. Evaluation and writing stay as they were: they would each be compiled anew.
    `fullgraph`: a part that cannot be compiled is an error and never a slow detour.
    """
    for block in blocks:
        _compile(block)


def _compile(block: nn.Module) -> None:
    plain = block.forward
    compiled = torch.compile(plain, fullgraph=True, dynamic=False)

    def forward(*arguments: Any, **settings: Any) -> Any:
        return (compiled if block.training else plain)(*arguments, **settings)

    block.forward = forward
