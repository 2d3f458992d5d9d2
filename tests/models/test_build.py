"""Oracle: transformers' own forward and loss on the same model and batch."""

import pytest
import torch
from pydantic import ValidationError

from polyana.losses import linear_cross_entropy_sum
from polyana.models import (
    ModelConfig,
    build_model,
    count_parameters,
    head_weight,
    hidden_states,
    rounded,
    save_model,
    writing,
)


@pytest.mark.parametrize(
    "settings",
    [
        {"architecture": "gpt2"},
        {"architecture": "gpt2", "tie_embeddings": False, "feed_forward": 48},
        {"architecture": "llama"},
        {"architecture": "llama", "key_value_heads": 1, "tie_embeddings": False},
    ],
)
def test_loss_and_gradients_equal_transformers_own(settings):
    config = ModelConfig(layers=2, width=32, heads=2, context=16, **settings)
    model = build_model(config, vocab_size=97, end_of_text=0, seed=3)
    tokens = torch.randint(0, 97, (3, 16))
    labels = torch.cat([torch.full((3, 1), -100), tokens[:, 1:]], dim=1)
    with writing(model):  # transformers' own attention
        theirs = model(input_ids=tokens, labels=labels, use_cache=False).loss * 3 * 15
    theirs.backward()
    expected = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}
    model.zero_grad()
    states = hidden_states(model, tokens.flatten(), torch.arange(16).repeat(3), (16, 16, 16))
    states = states.view(3, 16, 32)[:, :-1].reshape(-1, 32)
    ours = linear_cross_entropy_sum(states, head_weight(model), tokens[:, 1:].reshape(-1), torch.float32)
    ours.backward()
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, expected[name], rtol=1e-4, atol=1e-5, msg=name)


def test_gpt2_small_has_the_size_of_gpt2_small():
    config = ModelConfig(layers=12, width=768, heads=12, context=1024)
    with torch.device("meta"):
        model = build_model(config, vocab_size=50257, end_of_text=50256, seed=0)
    assert count_parameters(model) == 124_439_808  # Radford et al. 2019; transformers' "gpt2" has just as many


def test_the_seed_decides_the_weights_and_leaves_torchs_random_numbers_alone():
    config = ModelConfig(layers=1, width=16, heads=2, context=8)
    before = torch.get_rng_state()
    one, same, other = (build_model(config, 50, 0, seed) for seed in (1, 1, 2))
    assert torch.equal(before, torch.get_rng_state())
    assert torch.equal(head_weight(one), head_weight(same))
    assert not torch.equal(head_weight(one), head_weight(other))


def test_what_is_saved_loads_in_transformers_and_is_the_same(tmp_path):
    from transformers import AutoModelForCausalLM

    model = build_model(ModelConfig(architecture="llama", layers=1, width=16, heads=2, context=8), 50, 0, seed=1)
    save_model(model, tmp_path, model.state_dict())
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert loaded.dtype == torch.float32
    assert all(torch.equal(value, loaded.state_dict()[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"width": 100, "heads": 3}, "try 99 or 102"),
        ({"width": 6, "heads": 2, "architecture": "llama"}, "even size per head"),
        ({"key_value_heads": 2}, "gpt2 has no grouped-query attention"),
        ({"architecture": "llama", "heads": 4, "key_value_heads": 3}, "not a multiple"),
        ({"architecture": "llama", "dropout": 0.1}, "llama has no dropout"),
    ],
)
def test_impossible_combinations_are_explained(settings, says):
    ((_, what),) = ModelConfig(**settings).problems()
    assert says in what


def test_dropout_of_one_is_refused():
    with pytest.raises(ValidationError):
        ModelConfig(dropout=1.0)


def test_rounded_weights_are_a_loan():
    config = ModelConfig(architecture="gpt2", layers=2, width=32, heads=2, context=16)
    model, other = (build_model(config, vocab_size=97, end_of_text=0, seed=3).eval() for _ in range(2))
    tokens, parameters = torch.randint(0, 97, (2, 9)), list(model.parameters())
    with torch.no_grad(), writing(model), writing(other):
        with rounded(model, torch.bfloat16) as whole:
            assert whole
            assert {parameter.dtype for parameter in parameters} == {torch.bfloat16}
            found = model(input_ids=tokens, use_cache=False).logits
        theirs = other.to(torch.bfloat16)(input_ids=tokens, use_cache=False).logits
    torch.testing.assert_close(found, theirs, rtol=0, atol=0)
    untouched = build_model(config, vocab_size=97, end_of_text=0, seed=3).state_dict()
    assert all(torch.equal(weight, untouched[name]) for name, weight in model.state_dict().items())
    assert all(one is other for one, other in zip(parameters, model.parameters(), strict=True))


def test_a_frozen_head_is_not_copied_for_each_text():
    """torch's matmul would: a matrix of V x D for each of B texts, of which only the last token is looked at."""
    config = ModelConfig(architecture="llama", layers=1, width=32, heads=2, context=16)
    model = build_model(config, vocab_size=97, end_of_text=0, seed=3).requires_grad_(False)
    tokens = torch.randint(0, 97, (5, 9))
    calls = []

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            calls.append((func, [each.shape for each in args if isinstance(each, torch.Tensor)]))
            return func(*args, **(kwargs or {}))

    with torch.no_grad(), writing(model), Watch():
        model(input_ids=tokens, use_cache=False, logits_to_keep=1)
    assert not [shapes for _, shapes in calls if any(shape[-2:] in ((32, 97), (97, 32)) and len(shape) > 2
                                                     for shape in shapes)]  # fmt: skip
