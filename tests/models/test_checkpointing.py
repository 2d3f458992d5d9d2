"""Layers computed again in the backward pass: the same numbers to the last bit in less memory, and how much less is
known beforehand."""

import copy
import weakref
from contextlib import nullcontext

import pytest
import torch

from polyana.models import (
    ModelConfig,
    activation_bytes,
    build_model,
    checkpoint_blocks,
    hidden_matrices,
    hidden_states,
    transformer_blocks,
)

LENGTHS = [40, 40, 23]


@pytest.fixture(params=["gpt2", "gpt2 with dropout", "llama"])
def model(request):
    architecture, _, dropout = request.param.partition(" ")
    config = ModelConfig(
        architecture=architecture, layers=3, width=32, heads=2, context=40, dropout=0.1 if dropout else 0
    )
    return build_model(config, 97, 0, seed=3).train()


def states_and_kept_bytes(model, dtype) -> tuple[torch.Tensor, int]:
    """Of a real forward pass: distinct storages that autograd holds, other than the model's own."""
    own = {each.untyped_storage().data_ptr() for each in model.parameters()}
    kept = weakref.WeakSet()

    class Kept:
        def __init__(self, tensor):
            self.tensor = tensor
            kept.add(self)

    torch.manual_seed(5)
    tokens = torch.randint(0, 97, (sum(LENGTHS),))
    positions = torch.cat([torch.arange(length) for length in LENGTHS])
    cast = torch.autocast("cpu", dtype) if dtype != torch.float32 else nullcontext()
    with cast, torch.autograd.graph.saved_tensors_hooks(Kept, lambda kept: kept.tensor):
        states = hidden_states(model, tokens, positions, LENGTHS)
    storages = {each.tensor.untyped_storage().data_ptr(): each.tensor.untyped_storage().nbytes() for each in kept}
    return states, sum(size for storage, size in storages.items() if storage not in own)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_is_kept_is_known_without_computing(model, dtype):
    before = torch.get_rng_state()
    blocks = transformer_blocks(model)
    known = activation_bytes(model, blocks, LENGTHS, dtype)
    assert torch.equal(torch.get_rng_state(), before)
    _, real = states_and_kept_bytes(model, dtype)
    assert known.kept(0) == pytest.approx(real, rel=1e-3)  # the layers' rounded mean
    assert known.inputs == 4 * sum(LENGTHS) * 32
    copies = 0 if dtype == torch.float32 else 2 * sum(each.numel() for each in hidden_matrices(model))
    assert 0 < known.rest - copies < known.block
    assert known.kept(3) == known.rest + 3 * known.inputs + known.block


def test_checkpointed_layers_give_the_same_bits_and_keep_less(model):
    plain, again = model, copy.deepcopy(model)
    checkpoint_blocks(transformer_blocks(again)[:2])
    (expected, much), (states, little) = (states_and_kept_bytes(each, torch.bfloat16) for each in (plain, again))
    assert torch.equal(states, expected)
    assert little < 0.5 * much
    for result in (expected, states):
        result.square().sum().backward()
    for (name, mine), (_, theirs) in zip(again.named_parameters(), plain.named_parameters(), strict=True):
        assert (mine.grad is None) == (theirs.grad is None), name
        if mine.grad is not None:
            assert torch.equal(mine.grad, theirs.grad), name
