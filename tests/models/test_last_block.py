import pytest
import torch

from polyana.models import (
    ModelConfig,
    build_model,
    checkpoint_blocks,
    hidden_states,
    training_flops,
    transformer_blocks,
)


@pytest.mark.parametrize("recomputed", [False, True])
@pytest.mark.parametrize("architecture", ["gpt2", "llama"])
def test_states_and_gradients_of_the_tokens_that_are_read_are_those_of_a_whole_block(architecture, recomputed):
    model = build_model(ModelConfig(architecture=architecture, layers=2, width=32, heads=2, context=40), 97, 0, seed=3)
    model.double().train()
    blocks = transformer_blocks(model)
    if recomputed:
        checkpoint_blocks(blocks)
    if architecture == "gpt2":
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        for block in blocks:
            block.attn.attn_dropout.p = 0.0
    lengths, after = (12, 7, 5, 9), (None, 0, 0, None)  # a prompt with two answers, and another text
    tokens_N = torch.randint(0, 97, (sum(lengths),), generator=torch.Generator().manual_seed(0))
    position_N = torch.cat([torch.arange(first, first + n) for n, first in zip(lengths, (0, 12, 12, 0), strict=True)])
    read_N = torch.zeros(sum(lengths), dtype=torch.bool)
    read_N[[12, 15, 18, 23, 32]] = True
    seen = []
    blocks[-1].mlp.register_forward_pre_hook(lambda _, given: seen.append(given[0].shape[1]))
    results = []
    for read in (None, read_N):
        model.zero_grad()
        states = hidden_states(model, tokens_N, position_N, lengths, after, read)
        states = states if read is not None else states[read_N]
        states.square().sum().backward()
        results.append([states, *(p.grad for p in model.parameters() if p.grad is not None)])
    assert set(seen) == {sum(lengths), 5}
    for whole, part in zip(*results, strict=True):
        torch.testing.assert_close(part, whole, rtol=1e-9, atol=1e-10)


def test_nothing_is_read_of_a_part_without_labels():
    model = build_model(ModelConfig(architecture="llama", layers=2, width=32, heads=2, context=40), 97, 0, seed=3)
    states = hidden_states(model, torch.arange(8), torch.arange(8), (8,), read_N=torch.zeros(8, dtype=torch.bool))
    assert states.shape == (0, 32)
    (states.sum() * 0.0).backward()
    assert not any(parameter.grad.any() for parameter in model.parameters() if parameter.grad is not None)


def test_operations_that_are_spared_are_not_counted():
    model = build_model(ModelConfig(architecture="gpt2", layers=2, width=32, heads=2, context=40), 97, 0, seed=3)
    whole, part = (training_flops(model, (20,), labelled) for labelled in (20, 5))
    assert whole - part == 15 * 6 * (2 * 4 * 32 * 32 + 97 * 32)
