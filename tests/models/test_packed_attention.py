"""Oracles: torch's attention in double precision, one text at a time; transformers' own forward, one text at a time."""

import pytest
import torch
from torch.nn import functional as F

from polyana.errors import PolyanaError
from polyana.models import (
    ModelConfig,
    build_model,
    check_packing,
    hidden_states,
    packed_attention,
    packed_causal_attention,
    writing,
)
from polyana.models.packed_attention import keep_mask

LENGTHS = (5, 300, 300, 1, 64, 520, 256)


def one_by_one(query, key, value, lengths, scale):
    parts = zip(*(tensor.split(list(lengths), dim=1) for tensor in (query, key, value)), strict=True)
    return torch.cat(
        [F.scaled_dot_product_attention(*part, is_causal=True, scale=scale, enable_gqa=True) for part in parts], dim=1
    ).transpose(0, 1)


@pytest.mark.parametrize("kv_heads", [6, 2, 1])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 2e-2)])
def test_output_and_gradients_are_those_of_each_text_alone(kv_heads, dtype, tolerance):
    torch.manual_seed(kv_heads)
    tensors = [torch.randn(heads, sum(LENGTHS), 16) for heads in (6, kv_heads, kv_heads)]
    slope = torch.randn(sum(LENGTHS), 6, 16)
    ours = [tensor.to(dtype).requires_grad_() for tensor in tensors]
    output = packed_causal_attention(*ours, LENGTHS, scale=0.3)
    output.backward(slope.to(dtype))
    true = [tensor.detach().double().requires_grad_() for tensor in ours]
    expected = one_by_one(*true, LENGTHS, 0.3)
    expected.backward(slope.to(dtype).double())
    for mine, theirs in ((output, expected), *((a.grad, b.grad) for a, b in zip(ours, true, strict=True))):
        assert (mine.double() - theirs).norm() / theirs.norm() < tolerance


def test_lengths_that_do_not_add_up_are_refused():
    with pytest.raises(ValueError, match="9 tokens in all, but 10"):
        packed_causal_attention(*(torch.randn(2, 10, 4) for _ in range(3)), (4, 5), scale=1.0)


def test_dropout_keeps_the_mean_and_its_gradient_is_that_of_the_same_mask():
    query, key, value = (torch.randn(2, 30, 8, dtype=torch.float64, requires_grad=True) for _ in range(3))

    def attend(*tensors):
        torch.manual_seed(5)  # the same places are dropped each time
        return packed_causal_attention(*tensors, (30,), scale=0.5, dropout=0.25)

    assert torch.autograd.gradcheck(attend, (query, key, value))
    torch.manual_seed(0)
    mean = sum(packed_causal_attention(query, key, value, (30,), scale=0.5, dropout=0.25) for _ in range(3000)) / 3000
    plain = packed_causal_attention(query, key, value, (30,), scale=0.5)
    assert (mean - plain).abs().max() < 0.15


@pytest.mark.parametrize("dropout", [0.1, 0.5, 0.9])
def test_a_mask_drops_the_share_it_is_asked_to(dropout):
    torch.manual_seed(1)
    kept = keep_mask(torch.Size((1000, 1001)), dropout, torch.device("cpu"))
    assert kept.float().mean().item() == pytest.approx(1 - dropout, abs=2e-3)
    assert not torch.equal(kept, keep_mask(kept.shape, dropout, kept.device))


@pytest.mark.parametrize("settings", [{"architecture": "gpt2"}, {"architecture": "llama", "key_value_heads": 1}])
def test_a_packed_model_is_the_model_on_each_text_alone(settings):
    """The trap: with its default cache, or a mask of ones, transformers lets packed texts see each other."""
    torch.manual_seed(0)
    model = build_model(ModelConfig(layers=2, width=32, heads=2, context=520, **settings), 97, 0, seed=3)
    for parameter in model.parameters():
        parameter.data.mul_(3.0)  # so that attention matters
    tokens = torch.randint(0, 97, (sum(LENGTHS),))
    positions = torch.cat([torch.arange(length) for length in LENGTHS])
    packed = hidden_states(model, tokens, positions, LENGTHS)
    with writing(model):
        alone = [model.base_model(input_ids=text[None], use_cache=False).last_hidden_state[0]
                 for text in tokens.split(list(LENGTHS))]  # fmt: skip
    torch.testing.assert_close(packed, torch.cat(alone), rtol=1e-4, atol=1e-5)
    leaking = hidden_states(model, tokens, positions, (sum(LENGTHS),))
    assert (leaking - packed).abs().max() > 0.1  # the check above can fail


def test_without_the_lengths_nothing_is_computed():
    model = build_model(ModelConfig(layers=1, width=16, heads=2, context=8), 50, 0, seed=1)
    with pytest.raises(ValueError, match="the lengths of its texts"):
        model(input_ids=torch.zeros(1, 4, dtype=torch.long), use_cache=False)


@pytest.mark.parametrize("architecture", ["gpt2", "llama"])
def test_the_self_test_finds_texts_that_see_each_other(architecture, monkeypatch):
    """In a model at its start, where attention matters least."""
    model = build_model(ModelConfig(architecture=architecture, layers=2, width=32, heads=2, context=32), 300, 0, seed=1)
    check_packing(model)
    monkeypatch.setattr(packed_attention, "_runs", lambda lengths, *_: iter([((0, 1, sum(lengths)), None, 0)]))
    with pytest.raises(PolyanaError, match="see each other on this cpu"):
        check_packing(model)


# Texts that go on from others

BRANCHED = (40, 30, 7, 300, 12, 290, 290, 5, 64)
AFTER = (None, 0, 0, None, None, 3, 3, None, 7)


def written_out(tensor, lengths, after):
    """Each text with its trunk before it, by hand."""
    texts = tensor.split(list(lengths), dim=1)
    return [torch.cat([texts[trunk], text], 1) if trunk is not None else text
            for text, trunk in zip(texts, after, strict=True)]  # fmt: skip


@pytest.mark.parametrize("kv_heads", [6, 2])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 2e-2)])
def test_a_text_that_goes_on_from_another_sees_it_and_no_sibling(kv_heads, dtype, tolerance):
    torch.manual_seed(kv_heads)
    tensors = [torch.randn(heads, sum(BRANCHED), 16) for heads in (6, kv_heads, kv_heads)]
    slope = torch.randn(sum(BRANCHED), 6, 16).to(dtype)
    ours = [tensor.to(dtype).requires_grad_() for tensor in tensors]
    output = packed_causal_attention(*ours, BRANCHED, scale=0.3, after=AFTER)
    output.backward(slope)
    true = [tensor.detach().double().requires_grad_() for tensor in ours]
    each = [
        F.scaled_dot_product_attention(*part, is_causal=True, scale=0.3, enable_gqa=True)[:, -length:]
        for *part, length in zip(*(written_out(one, BRANCHED, AFTER) for one in true), BRANCHED, strict=True)
    ]
    expected = torch.cat(each, 1).transpose(0, 1)
    expected.backward(slope.double())
    for mine, theirs in ((output, expected), *((a.grad, b.grad) for a, b in zip(ours, true, strict=True))):
        assert (mine.double() - theirs).norm() / theirs.norm() < tolerance


def test_what_a_gpu_would_be_given_is_the_same():
    own, whole, sizes = packed_attention._written_out(BRANCHED, AFTER, torch.device("cpu"))
    tensors = [torch.randn(2, sum(BRANCHED), 8) for _ in range(3)]
    found = packed_attention._on_gpu(*(tensor[:, whole] for tensor in tensors), sizes, 0.3, 0.0)[own]
    assert torch.allclose(found, packed_causal_attention(*tensors, BRANCHED, scale=0.3, after=AFTER), atol=1e-5)


@pytest.mark.parametrize("architecture", ["gpt2", "llama"])
def test_a_model_computes_a_branch_as_if_its_trunk_stood_before_it(architecture):
    config = ModelConfig(architecture=architecture, layers=2, width=32, heads=4, context=64, dropout=0)
    model = build_model(config, 100, 0, 3)
    trunk, *answers = (torch.arange(length) * 7 % 100 for length in (20, 9, 30))
    tokens = torch.cat([trunk, *answers])
    positions = torch.cat([torch.arange(20), torch.arange(20, 29), torch.arange(20, 50)])
    found = hidden_states(model, tokens, positions, (20, 9, 30), (None, 0, 0))
    for answer, ours in zip(answers, found[20:].split([9, 30]), strict=True):
        whole = torch.cat([trunk, answer])
        alone = hidden_states(model, whole, torch.arange(len(whole)), (len(whole),))
        assert torch.allclose(ours, alone[20:], atol=1e-5)
    with writing(model):  # whose attention is not ours, so it is given one text at a time
        assert torch.allclose(hidden_states(model, tokens, positions, (20, 9, 30), (None, 0, 0)), found, atol=1e-5)
