"""Activation checkpointing: layers that keep their input alone and are computed again in the backward pass (Chen et al.
2016, "Training Deep Nets with Sublinear Memory Cost")."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakSet

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.checkpoint import checkpoint

from polyana.models.build import hidden_matrices, hidden_states

__all__ = ["Activations", "activation_bytes", "checkpoint_blocks"]


@dataclass(frozen=True)
class Activations:
    """Bytes that a forward pass keeps for its backward pass. `block`: of each of the `blocks`; `inputs`: what is left
    of them where a block is computed again; `rest`: of everything else."""

    blocks: int
    block: int
    inputs: int
    rest: int

    def kept(self, recomputed: int) -> int:
        """The most that is held at once when so many blocks are computed again, one at a time."""
        again = self.block if recomputed else 0
        return self.rest + (self.blocks - recomputed) * self.block + recomputed * self.inputs + again


def activation_bytes(
    model: Any, blocks: Sequence[nn.Module], lengths: Sequence[int], dtype: torch.dtype
) -> Activations:
    """What `hidden_states` on texts of `lengths` keeps of a model in training; products are computed in `dtype`.

    Counted on torch's fake tensors, which have shapes but no numbers: it takes neither the time nor the memory. The
    copies of weights in `dtype` stay for a whole step and are part of the rest.
    """
    kept: WeakSet[_Kept] = WeakSet()  # alive for as long as the backward pass may ask for it
    inputs, inside = 0, False

    def enter(_: nn.Module, arguments: tuple[torch.Tensor, ...]) -> None:
        nonlocal inputs, inside
        inputs, inside = arguments[0].nbytes, True

    def leave(*_: Any) -> None:
        nonlocal inside
        inside = False

    def keep(tensor: torch.Tensor) -> _Kept:
        found = _Kept(tensor, inside)
        kept.add(found)
        return found

    hooks = [block.register_forward_pre_hook(enter) for block in blocks]
    hooks += [block.register_forward_hook(leave) for block in blocks]
    device, training = model.device, model.training
    model.train()
    try:
        with (
            FakeTensorMode(allow_non_fake_inputs=True) as fake,
            torch.random.fork_rng(devices=[]),
            torch.autograd.graph.saved_tensors_hooks(keep, lambda found: found.tensor),
            torch.autocast(device.type, dtype, enabled=dtype != torch.float32),
        ):
            weights = [each for real in model.parameters() for each in (real, fake.from_tensor(real))]
            tokens_N = torch.zeros(sum(lengths), dtype=torch.long, device=device)
            position_N = torch.cat([torch.arange(length, device=device) for length in lengths])
            states_ND = hidden_states(model, tokens_N, position_N, lengths)
    finally:
        model.train(training)
        for hook in hooks:
            hook.remove()
    own = {_storage(weight) for weight in weights}
    within, without = (
        {_storage(each.tensor): each.tensor.untyped_storage().nbytes() for each in kept if each.inside == part}
        for part in (True, False)
    )
    del states_ND  # and with it all that was kept
    sizes = [sum(size for storage, size in part.items() if storage not in own) for part in (within, without)]
    both = sum(size for storage, size in within.items() if storage in without and storage not in own)
    copies = 0 if dtype == torch.float32 else sum(each.numel() for each in hidden_matrices(model)) * dtype.itemsize
    block = max(sizes[0] - both - copies, 0) // max(len(blocks), 1)
    return Activations(len(blocks), block, inputs, sizes[1] + copies)


@dataclass(eq=False)
class _Kept:
    tensor: torch.Tensor
    inside: bool  # of a block


def _storage(tensor: torch.Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)


def checkpoint_blocks(blocks: Sequence[nn.Module]) -> None:
    """Let these layers be computed again in the backward pass, in place; with the same dropout, so the same bits."""
    for block in blocks:
        _checkpoint(block)


def _checkpoint(block: nn.Module) -> None:
    plain = block.forward

    def forward(*arguments: Any, **settings: Any) -> Any:
        if not (block.training and torch.is_grad_enabled()):
            return plain(*arguments, **settings)
        return checkpoint(plain, *arguments, use_reentrant=False, **settings)

    block.forward = forward
