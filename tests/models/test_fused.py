"""Oracles: transformers' own modules; finite differences in double precision."""

import copy

import pytest
import torch

from polyana.models import ModelConfig, build_model, hidden_states, writing
from polyana.models.fused import _RMSNormFunction, _Rotation, fuse


@pytest.mark.parametrize("architecture", ["gpt2", "llama"])
def test_a_model_with_the_modules_exchanged_is_the_same_function(architecture):
    from transformers import AutoModelForCausalLM

    ours = build_model(ModelConfig(architecture=architecture, layers=2, width=32, heads=2, context=40), 97, 0, seed=3)
    theirs = AutoModelForCausalLM.from_config(ours.config, attn_implementation="eager")
    theirs.load_state_dict(ours.state_dict())
    tokens = torch.randint(0, 97, (3, 40))
    with writing(ours):
        states = [model.base_model(input_ids=tokens, use_cache=False).last_hidden_state for model in (ours, theirs)]
    torch.testing.assert_close(*states, rtol=1e-4, atol=1e-5)
    for result in states:
        result.square().sum().backward()
    for (name, mine), (_, their) in zip(ours.named_parameters(), theirs.named_parameters(), strict=True):
        if their.grad is not None:
            torch.testing.assert_close(mine.grad, their.grad, rtol=1e-3, atol=1e-4, msg=name)


def test_the_gradient_of_rms_norm_is_right():
    torch.manual_seed(0)
    x = torch.randn(5, 3, 8, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(8, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda *inputs: _RMSNormFunction.apply(*inputs, 1e-6, torch.float64), (x, weight))
    expected = torch.nn.functional.rms_norm(x, (8,), weight, 1e-6)
    torch.testing.assert_close(_RMSNormFunction.apply(x, weight, 1e-6, torch.float64), expected)


def test_the_gradient_of_rotary_positions_is_right():
    torch.manual_seed(0)
    x = torch.randn(5, 3, 8, dtype=torch.float64, requires_grad=True)
    angle = torch.randn(5, 1, 4, dtype=torch.float64).repeat(1, 1, 2)
    assert torch.autograd.gradcheck(lambda x: _Rotation.apply(x, angle.cos(), angle.sin()), x)


def test_packed_texts_are_the_same_function_as_transformers_llama_with_grouped_keys_in_both_precisions():
    from transformers import AutoModelForCausalLM

    config = ModelConfig(architecture="llama", layers=2, width=64, heads=4, key_value_heads=2, context=40)
    ours = build_model(config, 97, 0, seed=3)
    theirs = AutoModelForCausalLM.from_config(ours.config, attn_implementation="eager")
    theirs.load_state_dict(ours.state_dict())
    texts = [torch.randint(0, 97, (length,)) for length in (30, 17)]
    for autocast, tolerance in ((False, 1e-5), (True, 2e-2)):
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            position_N = torch.cat([torch.arange(len(text)) for text in texts])
            mine = hidden_states(ours, torch.cat(texts), position_N, [len(text) for text in texts])
            expected = torch.cat([theirs.model(text[None], use_cache=False).last_hidden_state[0] for text in texts])
        assert mine.dtype == torch.float32
        for model, states in ((ours, mine), (theirs, expected)):
            model.zero_grad()
            states.square().mean().backward()
        found, right = (
            torch.cat([p.grad.flatten() for p in m.parameters() if p.grad is not None]) for m in (ours, theirs)
        )
        assert (mine - expected).norm() < tolerance * expected.norm()
        assert (found - right).norm() < tolerance * right.norm()


def test_dropout_keeps_the_mean_and_is_off_in_evaluation():
    layer = torch.nn.Sequential(torch.nn.Dropout(0.3))
    fuse(layer)
    x = torch.ones(400, 500, requires_grad=True)
    dropped = layer(x)
    assert dropped.mean().item() == pytest.approx(1, abs=0.01)
    assert dropped.unique().tolist() == pytest.approx([0, 1 / 0.7])
    dropped.sum().backward()
    assert torch.equal(x.grad, dropped)
    layer.eval()
    assert layer(x) is x


@pytest.mark.parametrize("adapted", [False, True])
def test_a_llama_feed_forward_layer_gives_transformers_own_bits_and_keeps_two_layers_outputs(adapted):
    from transformers import LlamaConfig
    from transformers.models.llama.modeling_llama import LlamaMLP

    torch.manual_seed(0)
    theirs = LlamaMLP(LlamaConfig(hidden_size=64, intermediate_size=160))
    ours = copy.deepcopy(theirs)
    if adapted:  # whatever is no plain layer is called
        ours.down_proj = torch.nn.Sequential(ours.down_proj)
    fuse(ours)
    x, kept = torch.randn(1, 50, 64), []
    results = []
    for layer in (theirs, ours):
        states, bytes_kept = x.clone().requires_grad_(), {}

        own = {parameter.data_ptr() for parameter in layer.parameters()}

        def keep(tensor, bytes_kept=bytes_kept, own=own):
            if tensor.data_ptr() not in own:
                bytes_kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with (
            torch.autocast("cpu", torch.bfloat16),
            torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
        ):
            output = layer(states)
        output.float().square().sum().backward()
        kept.append(sum(bytes_kept.values()))
        results.append([output, states.grad, *(parameter.grad for parameter in layer.parameters())])
    for expected, found in zip(*results, strict=True):
        assert expected.dtype == found.dtype
        assert torch.equal(expected, found)
    assert kept[0] - kept[1] >= (1 if adapted else 2) * 2 * 50 * 160
