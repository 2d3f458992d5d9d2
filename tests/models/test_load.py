"""Oracle: transformers' own forward, one text at a time, on a model that it loaded itself."""

import pytest
import torch
from small_models import logits, save, small_model, small_tokenizer

from polyana.errors import UserError
from polyana.losses import linear_cross_entropy_sum
from polyana.models import check_packing, head_weight, hidden_states, load_base, packs_texts, writing

LENGTHS = (20, 30, 30, 7)

PACKED = {
    "llama": {}, "gpt2": {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0},
    "qwen2": {}, "qwen3": {"head_dim": 8}, "mistral": {"sliding_window": None},
    "olmo2": {}, "phi3": {"sliding_window": None}, "gemma": {"head_dim": 8}, "gpt_neox": {},
}  # fmt: skip
ALONE = {
    "mistral": {"sliding_window": 8},  # the trial's texts are longer
    "qwen2": {"use_sliding_window": True, "sliding_window": 28, "max_window_layers": 0},  # and here shorter
    "gemma3_text": {"head_dim": 8, "sliding_window": 16},
    "bloom": {"n_head": 4, "n_layer": 2},
    "falcon": {},
    "mamba": {},
}


@pytest.mark.parametrize(
    ("architecture", "settings", "packed"),
    [(name, settings, True) for name, settings in PACKED.items()]
    + [(name, settings, False) for name, settings in ALONE.items()],
)
def test_loss_and_gradients_are_transformers_own_whatever_the_attention(tmp_path, architecture, settings, packed):
    from transformers import AutoModelForCausalLM

    directory = save(tmp_path, small_model(architecture, **settings), small_tokenizer())
    model, theirs = load_base(directory), AutoModelForCausalLM.from_pretrained(directory).train()
    assert packs_texts(model) == packed
    check_packing(model)
    tokens = torch.arange(sum(LENGTHS)) * 31 % 320
    positions = torch.cat([torch.arange(length) for length in LENGTHS])
    states = hidden_states(model, tokens, positions, LENGTHS)
    ours = linear_cross_entropy_sum(states, head_weight(model), tokens.roll(-1), torch.float32)
    ours.backward()
    texts = zip(tokens.split(LENGTHS), tokens.roll(-1).split(LENGTHS), strict=True)
    expected = sum(
        torch.nn.functional.cross_entropy(
            theirs(input_ids=text[None], use_cache=False).logits[0].float(), targets, reduction="sum"
        )
        for text, targets in texts
    )
    expected.backward()
    torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-4)
    for (name, mine), (_, their) in zip(model.named_parameters(), theirs.named_parameters(), strict=True):
        torch.testing.assert_close(
            mine.grad, their.grad, rtol=2e-3, atol=1e-4 * float(their.grad.abs().max()), msg=name
        )
    with writing(model.eval()):
        torch.testing.assert_close(logits(model, tokens[:20]), logits(theirs.eval(), tokens[:20]), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("architecture", "settings"),
    [
        ("cohere", {"logit_scale": 0.25}),
        ("gemma2", {"head_dim": 8, "final_logit_softcapping": 1.0}),
        ("granite", {"logits_scaling": 3.0}),
    ],
)
def test_a_model_whose_logits_are_more_than_its_head_is_refused(tmp_path, architecture, settings):
    directory = save(tmp_path, small_model(architecture, **settings), small_tokenizer())
    with pytest.raises(UserError, match="does more to its logits"):
        load_base(directory)


def test_dropout_of_the_config_is_on_in_training_alone(tmp_path):
    model = load_base(save(tmp_path, small_model("gpt2", attn_pdrop=0.0), small_tokenizer()))
    tokens, positions = torch.arange(30), torch.arange(30)
    states = [hidden_states(model, tokens, positions, (30,)) for _ in range(2)]
    assert not torch.equal(*states)
    states = [hidden_states(model.eval(), tokens, positions, (30,)) for _ in range(2)]
    assert torch.equal(*states)


def test_stretched_positions_are_not_packed(tmp_path):
    """Texts up to the original length show nothing: a longer one beside them would change their positions."""
    stretched = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4, "original_max_position_embeddings": 64}
    directory = save(tmp_path, small_model(rope_parameters=stretched), small_tokenizer())
    assert not packs_texts(load_base(directory))


def test_a_real_small_model_is_what_transformers_reads(shared_data):
    from transformers import AutoModelForCausalLM

    directory = shared_data / "stories260k" / "hf"
    model, theirs = load_base(directory).eval(), AutoModelForCausalLM.from_pretrained(directory)
    assert packs_texts(model)
    tokens = torch.arange(sum(LENGTHS)) * 31 % 512
    positions = torch.cat([torch.arange(length) for length in LENGTHS])
    ours = hidden_states(model, tokens, positions, LENGTHS) @ head_weight(model).T
    expected = torch.cat([logits(theirs, text) for text in tokens.split(LENGTHS)])
    torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-4)
