"""Oracles: unmodified transformers and peft on what was saved; autograd on W + s B A written out."""

import json
import math

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from polyana.errors import UserError
from polyana.losses import linear_cross_entropy_sum
from polyana.models import (
    AdapterConfig,
    ModelConfig,
    adapter_problems,
    attach_adapter,
    build_model,
    bytes_of,
    check_packing,
    count_parameters,
    head_weight,
    hidden_matrices,
    hidden_states,
    load_adapted,
    merge_adapter,
    numbers_in,
    put_adapter,
    save_adapter,
    save_model,
    training_flops,
    without_adapter,
    writing,
)

# peft 0.21 asks transformers 5.23 for what has a new name there.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")

LENGTHS = (9, 4, 11)
KINDS = ["lora", "dora", "rslora"]


@pytest.fixture(params=["llama", "gpt2"])
def base(request, tmp_path):
    """The directory of a small model, with biases and norms that are not what they begin with."""
    more = {"key_value_heads": 1} if request.param == "llama" else {}
    config = ModelConfig(architecture=request.param, layers=2, width=32, heads=2, context=16, **more)
    model = build_model(config, 97, 0, seed=3)
    generator = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for each in model.parameters():
            each.add_(torch.randn(each.shape, generator=generator), alpha=0.05)
    save_model(model, tmp_path / "base", model.state_dict())
    return tmp_path / "base"


@pytest.fixture
def stories(shared_data):
    """A real model of 260,000 parameters."""
    return shared_data / "stories260k" / "hf"


def packed(directory):
    """As the product loads a base."""
    from transformers import AutoModelForCausalLM

    from polyana.models.fused import fuse
    from polyana.models.packed_attention import ATTENTION, register_with_transformers

    register_with_transformers()
    model = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32, attn_implementation=ATTENTION)
    fuse(model)
    return model


def plain(directory, **settings):
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(directory, **settings)


def tokens_of(model):
    return torch.arange(sum(LENGTHS)) * 31 % model.config.vocab_size


def logits(model):
    """Of the packed texts, each seen alone."""
    positions = torch.cat([torch.arange(length) for length in LENGTHS])
    return hidden_states(model, tokens_of(model), positions, LENGTHS) @ head_weight(model).T


def logits_of_each(model):
    """The same through transformers' own attention, text by text."""
    return torch.cat([model(input_ids=text[None]).logits[0] for text in tokens_of(model).split(LENGTHS)])


def train(model, steps=3, lr=0.05):
    optimizer = torch.optim.AdamW([each for each in model.parameters() if each.requires_grad], lr=lr)
    model.train()
    for _ in range(steps):
        loss = torch.nn.functional.cross_entropy(logits(model), tokens_of(model).roll(7))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.eval()


def adapted(base, kind="lora", **settings):
    model = packed(base)
    attach_adapter(model, AdapterConfig.model_validate({"kind": kind, "rank": 4} | settings), seed=5)
    return model


def save(model, directory, base, revision=None):
    directory.mkdir()
    weights = {name: each.detach() for name, each in model.named_parameters() if each.requires_grad}
    save_adapter(model, directory, str(base), revision, weights)


@pytest.mark.parametrize("kind", KINDS)
def test_a_new_adapter_changes_nothing_and_a_trained_one_does(base, kind):
    before = logits(packed(base))
    model = adapted(base, kind)
    torch.testing.assert_close(logits(model), before, rtol=0, atol=1e-6)
    train(model)
    assert (logits(model) - before).abs().max() > 0.05
    check_packing(model)


def test_the_seed_decides_the_adapter_and_leaves_torchs_random_numbers_alone(base):
    before = torch.get_rng_state()
    one, same = adapted(base), adapted(base)
    assert torch.equal(before, torch.get_rng_state())
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), same.parameters(), strict=True))
    other = packed(base)
    attach_adapter(other, AdapterConfig(rank=4), seed=6)
    assert not all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


@pytest.mark.parametrize("kind", ["lora", "rslora"])
def test_gradients_are_those_of_the_sum_written_out(base, kind):
    """Of the small matrices, through unmodified transformers with W + s B A for each W."""
    model = adapted(base, kind, alpha=6)
    with torch.no_grad():  # B begins as zeros, which would leave A without a gradient
        for name, each in model.named_parameters():
            if "lora_B" in name:
                each.normal_(std=0.1, generator=torch.Generator().manual_seed(len(name)))
    ours = torch.nn.functional.cross_entropy(logits(model), tokens_of(model).roll(7))
    ours.backward()
    scale = 6 / 4 if kind == "lora" else 6 / math.sqrt(4)
    reference, small, whole = plain(base), {}, {}
    for name, weight in reference.named_parameters():
        if any(name.startswith(f"{place}.weight") for place in adapted_places(model)):
            place = model.get_submodule(name.removesuffix(".weight"))
            a, b = (each["default"].weight.detach().clone().requires_grad_() for each in (place.lora_A, place.lora_B))
            small[name] = a, b
            product = b @ a if isinstance(place.base_layer, torch.nn.Linear) else (b @ a).T
            whole[name] = weight.detach() + scale * product
    texts = tokens_of(model).split(LENGTHS)
    out = torch.cat([torch.func.functional_call(reference, whole, (), {"input_ids": each[None]}).logits[0]
                     for each in texts])  # fmt: skip
    loss = torch.nn.functional.cross_entropy(out, tokens_of(model).roll(7))
    loss.backward()
    torch.testing.assert_close(ours, loss)
    assert len(small) == (14 if "llama" in model.config.model_type else 8)
    for name, (a, b) in small.items():
        place = model.get_submodule(name.removesuffix(".weight"))
        torch.testing.assert_close(place.lora_A["default"].weight.grad, a.grad, rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(place.lora_B["default"].weight.grad, b.grad, rtol=1e-4, atol=1e-6)
    assert all(each.grad is None for name, each in model.named_parameters() if "lora_" not in name)


def adapted_places(model):
    return [name.removesuffix(".lora_A") for name, _ in model.named_modules() if name.endswith(".lora_A")]


@pytest.mark.parametrize("kind", KINDS)
def test_unmodified_peft_and_transformers_load_what_was_saved(base, kind, tmp_path):
    from peft import PeftModel

    model = adapted(base, kind, dropout=0.1)
    train(model)
    save(model, tmp_path / "adapter", base, revision="main")
    theirs = PeftModel.from_pretrained(plain(base), tmp_path / "adapter").eval()
    expected = logits(model)
    torch.testing.assert_close(logits_of_each(theirs), expected, rtol=1e-5, atol=1e-5)
    alone = plain(tmp_path / "adapter").eval()  # transformers finds the base by the name that was saved
    torch.testing.assert_close(logits_of_each(alone), expected, rtol=1e-5, atol=1e-5)
    settings = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert settings["base_model_name_or_path"] == str(base)
    assert settings["revision"] == "main"
    with writing(model):
        torch.testing.assert_close(logits_of_each(model), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_saved_is_put_in_again(base, kind, tmp_path):
    model = adapted(base, kind, targets=["c_fc"] if "gpt2" in packed(base).config.model_type else ["q_proj", "v_proj"])
    train(model)
    save(model, tmp_path / "adapter", base)
    again = packed(base)
    put_adapter(again, tmp_path / "adapter")
    torch.testing.assert_close(logits(again), logits(model), rtol=0, atol=1e-6)
    assert count_parameters(again) == 0


@pytest.mark.parametrize("kind", KINDS)
def test_several_adapters_cost_the_bases_memory_once(base, kind, tmp_path):
    """Each is a model of its own; what it computes does not depend on the others."""
    loaded, wanted, bases = [], [], {}
    for name, rank in (("one", 2), ("two", 3)):
        model = adapted(base, kind, rank=rank)
        train(model)
        save(model, tmp_path / name, base)
        loaded.append(load_adapted(base, tmp_path / name, torch.float32, bases))
        alone = load_adapted(base, tmp_path / name, torch.float32)
        wanted.append(logits_of_each(alone))
        own = {id(each) for each in bases[base].parameters()}
        assert own < {id(each) for each in loaded[-1].parameters()}
        size = sum(each.numel() for each in alone.parameters())
        assert sum(each.numel() for each in loaded[-1].parameters()) == size
    assert not torch.equal(*wanted)
    for model, expected in zip(loaded, wanted, strict=True):
        assert torch.equal(logits_of_each(model), expected)
    assert torch.equal(logits_of_each(bases[base]), logits_of_each(plain(base)))


def test_a_look_at_the_base_leaves_training_as_it_was(base):
    models = [adapted(base), adapted(base)]
    for look, model in enumerate(models):
        train(model)
        if look:
            with without_adapter(model), torch.no_grad():
                torch.testing.assert_close(logits(model), logits(packed(base)), rtol=0, atol=1e-6)
        train(model)
    assert torch.equal(logits(models[0]), logits(models[1]))


@pytest.mark.parametrize("kind", KINDS)
def test_merged_is_the_adapter(base, kind, tmp_path):
    """Within rounding in fp32; and what peft's own merge_and_unload makes."""
    from peft import PeftModel

    model = adapted(base, kind)
    train(model)
    save(model, tmp_path / "adapter", base)
    merged = merge_adapter(base, tmp_path / "adapter", tmp_path / "merged")
    assert merged.dtype == torch.float32
    assert merged.off < 1e-5
    found = plain(tmp_path / "merged")
    torch.testing.assert_close(logits_of_each(found), logits(model), rtol=1e-5, atol=1e-5)
    theirs = PeftModel.from_pretrained(plain(base), tmp_path / "adapter").merge_and_unload()
    for name, weight in theirs.state_dict().items():
        torch.testing.assert_close(found.state_dict()[name], weight, rtol=0, atol=1e-7, msg=name)


def test_a_base_in_half_precision_is_merged_in_its_own(base, tmp_path):
    half = tmp_path / "half"
    plain(base).to(torch.bfloat16).save_pretrained(half)
    model = adapted(half)
    train(model)
    save(model, tmp_path / "adapter", half)
    merged = merge_adapter(half, tmp_path / "adapter", tmp_path / "merged")
    found = plain(tmp_path / "merged", dtype="auto")
    assert found.dtype == merged.dtype == torch.bfloat16
    off = (logits_of_each(found.float()).log_softmax(-1) - logits(model).log_softmax(-1)).abs().max()
    assert 1e-4 < off < 5 * merged.off  # other texts
    assert merged.off < 0.02


@pytest.mark.parametrize("kind", ["lora", "dora"])
def test_an_adapter_with_numbers_that_are_not_is_not_merged(base, kind, tmp_path):
    model = adapted(base, kind)
    with torch.no_grad():
        model.get_submodule(adapted_places(model)[-1]).lora_B["default"].weight[0, 0] = torch.nan
    save(model, tmp_path / "adapter", base)
    with pytest.raises(UserError, match=r"adapter_model.safetensors: `.*1.mlp.*NaNs detected"):
        merge_adapter(base, tmp_path / "adapter", tmp_path / "merged")
    assert not (tmp_path / "merged").exists()


def test_a_real_model_learns_is_saved_and_merged(stories, tmp_path):
    from peft import PeftModel

    model = adapted(stories, rank=8)
    with torch.no_grad():
        before = torch.nn.functional.cross_entropy(logits(model), tokens_of(model).roll(-1))
    train(model, steps=5, lr=1e-2)
    save(model, tmp_path / "adapter", stories)
    merge_adapter(stories, tmp_path / "adapter", tmp_path / "merged")
    expected = logits(model)
    assert torch.nn.functional.cross_entropy(expected, tokens_of(model).roll(7)) < before
    theirs = PeftModel.from_pretrained(plain(stories), tmp_path / "adapter").eval()
    for each in (theirs, plain(tmp_path / "merged")):
        torch.testing.assert_close(logits_of_each(each), expected, rtol=1e-4, atol=1e-4)
    assert {"tokenizer.json", "tokenizer_config.json"} <= {path.name for path in (tmp_path / "merged").iterdir()}


def test_rank_32_on_the_attention_of_llama_8b_has_its_known_size():
    from transformers import AutoModelForCausalLM, LlamaConfig

    shape = LlamaConfig(vocab_size=128256, hidden_size=4096, intermediate_size=14336, num_hidden_layers=32,
                        num_attention_heads=32, num_key_value_heads=8, tie_word_embeddings=False)  # fmt: skip
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(shape)
        assert count_parameters(model) == 8_030_261_248  # Llama 3.1 8B
        config = AdapterConfig(rank=32, targets=["q_proj", "k_proj", "v_proj", "o_proj"])
        attach_adapter(model, config, seed=0)
    assert count_parameters(model) == 27_262_976
    assert round(4 * count_parameters(model) / 1e6) == 109


@pytest.mark.parametrize("kind", [*KINDS, "full"])
@pytest.mark.parametrize(
    ("architecture", "targets"),
    [("llama", "all-linear"), ("llama", ["q_proj", "down_proj"]), ("gpt2", "all-linear"), ("gpt2", ["mlp.c_proj"])],
)
def test_its_size_is_counted_before_it_is_there(kind, architecture, targets):
    shape = ModelConfig(architecture=architecture, layers=2, width=32, heads=2, context=16)
    config = AdapterConfig(kind=kind, **({} if kind == "full" else {"rank": 3, "targets": targets}))
    with torch.device("meta"):  # as plan does
        outline = build_model(shape, 50, 0, seed=0)
        attach_adapter(outline, config, seed=0)
    model = build_model(shape, 50, 0, seed=0)
    attach_adapter(model, config, seed=0)
    assert count_parameters(model) == count_parameters(outline)
    sizes = {name: each.shape for name, each in outline.named_parameters() if each.requires_grad}
    assert sizes == {name: each.shape for name, each in model.named_parameters() if each.requires_grad}


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"targets": ["q_proj", "qkv"]}, "named `qkv`; there are `down_proj`, `gate_proj`, `k_proj`"),
        ({"targets": ["lm_head"]}, "named `lm_head`"),
        ({"rank": 33}, "`model.layers.0.self_attn.k_proj` has 32 inputs and 16 outputs; write at most 16"),
    ],
)
def test_what_does_not_fit_the_base_is_explained(settings, says):
    shape = ModelConfig(architecture="llama", layers=1, width=32, heads=2, key_value_heads=1, context=16)
    model = build_model(shape, 50, 0, seed=0)
    config = AdapterConfig(**settings)
    ((path, what),) = adapter_problems(model, config)
    assert says in what
    assert path == (next(iter(settings)),)
    with pytest.raises(UserError, match=f"adapter.{path[0]}"):
        attach_adapter(model, config, seed=0)
    assert count_parameters(model) == sum(each.numel() for each in model.parameters())


def test_an_adapter_of_another_base_is_refused(tmp_path):
    def small(**more):
        shape = {"architecture": "llama", "layers": 2, "width": 32, "heads": 2, "context": 16} | more
        return build_model(ModelConfig.model_validate(shape), 50, 0, seed=0)

    model = small()
    attach_adapter(model, AdapterConfig(rank=2), seed=0)
    save(model, tmp_path / "adapter", "hub/one")
    save_model(small(width=48), tmp_path / "wide", small(width=48).state_dict())
    with pytest.raises(UserError, match=r"trained on hub/one, and `model.layers.0.mlp.down_proj`.* 48 outputs"):
        put_adapter(small(width=48), tmp_path / "adapter")
    with pytest.raises(UserError, match="trained on hub/one"):
        merge_adapter(tmp_path / "wide", tmp_path / "adapter", tmp_path / "merged")
    with pytest.raises(UserError, match=r"`model.layers.1.*is not in this model"):
        put_adapter(small(layers=1), tmp_path / "adapter")
    with pytest.raises(UserError, match="is not in this model"):
        put_adapter(small(architecture="gpt2"), tmp_path / "adapter")


def test_a_frozen_weight_needs_no_gradient_of_its_own(base):
    """Counted by torch. Eager attention computes the half that causality throws away; and the first block's input,
    which is frozen embeddings, needs no gradient."""
    model = adapted(base)
    reference = plain(base, attn_implementation="eager")
    attach_adapter(reference, AdapterConfig(rank=4), seed=5)
    tokens = torch.zeros((2, 16), dtype=torch.int64)
    with FlopCounterMode(display=False) as counter:
        reference(input_ids=tokens, use_cache=False).logits.sum().backward()
    unseen = 12 * 2 * 32 * 2 * 16 * 15 / 2
    first = [each for each in adapted_places(model) if ".0." in each and each.split(".")[-1] in
             ("q_proj", "k_proj", "v_proj", "c_attn") and "cross" not in each]  # fmt: skip
    unneeded = 0
    for place in map(model.get_submodule, first):
        unneeded += 2 * 32 * (place.base_layer.weight.numel() + place.lora_A["default"].weight.numel())
    assert training_flops(model, (16, 16), 32) + unseen - unneeded == counter.get_total_flops()


@pytest.mark.parametrize("z_loss", [0.0, 1e-2])
def test_a_frozen_head_gives_the_same_gradient_to_what_is_below_it(z_loss):
    from polyana.losses import linear_cross_entropy_and_z_sum

    torch.manual_seed(1)
    states, weight, targets = torch.randn(70, 24), torch.randn(97, 24), torch.randint(0, 97, (70,))
    found = []
    for trained in (True, False):
        h, w = states.clone().requires_grad_(), weight.clone().requires_grad_(trained)
        with FlopCounterMode(display=False) as counter:
            total, _ = linear_cross_entropy_and_z_sum(h, w, targets, torch.float32, z_loss)
            (2 * total).backward()
        found.append((total.detach(), h.grad))
        assert counter.get_total_flops() == (6 if trained else 4) * 70 * 97 * 24
        assert (w.grad is None) is not trained
    torch.testing.assert_close(found[0], found[1], rtol=0, atol=0)
    with torch.no_grad():
        assert linear_cross_entropy_sum(states, weight, targets, torch.float32) > 0


@pytest.fixture
def quantisable(tmp_path):
    """The directory of a llama whose matrices are whole blocks of 64 numbers."""
    pytest.importorskip("bitsandbytes")
    model = build_model(ModelConfig(architecture="llama", layers=2, width=64, heads=2, context=16), 97, 0, seed=3)
    save_model(model, tmp_path / "base", model.state_dict())
    return tmp_path / "base"


def test_a_base_in_4_bits_is_the_one_transformers_makes(quantisable, tmp_path):
    from peft import PeftModel
    from transformers import BitsAndBytesConfig

    model = adapted(quantisable, "qlora")
    train(model)
    save(model, tmp_path / "adapter", quantisable)
    settings = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True,
                                  bnb_4bit_compute_dtype=torch.float32)  # fmt: skip
    theirs = plain(quantisable, quantization_config=settings, dtype=torch.float32, device_map="cpu")
    for layer in theirs.modules():
        layer.support_avx512bf16_for_cpu = False  # which computes in bf16 in place of what was asked for
    theirs = PeftModel.from_pretrained(theirs, tmp_path / "adapter").eval()
    torch.testing.assert_close(logits_of_each(theirs), logits(model), rtol=1e-4, atol=1e-4)


def test_gradients_over_4_bits_are_those_over_the_numbers_they_stand_for(quantisable):
    from bitsandbytes.functional import dequantize_4bit

    model, whole = adapted(quantisable, "qlora"), adapted(quantisable)
    assert sum(map(numbers_in, model.parameters())) == sum(map(numbers_in, whole.parameters()))
    for name, weight in model.named_parameters():
        if hasattr(weight, "quant_state"):
            scales = weight.quant_state.state2.absmax.nbytes + weight.quant_state.absmax.nbytes
            assert bytes_of(weight) == pytest.approx(weight.nbytes + scales, rel=0.01), name
    stored = 0
    for name in adapted_places(model):
        packed_weight = model.get_submodule(name).base_layer.weight
        stored += packed_weight.numel()
        whole.get_submodule(name).base_layer.weight.data = dequantize_4bit(packed_weight, packed_weight.quant_state)
    found = []
    for each in (model, whole):
        with torch.no_grad():
            for name, weight in each.named_parameters():
                if "lora_B" in name:
                    weight.normal_(std=0.1, generator=torch.Generator().manual_seed(len(name)))
        each.eval()
        with torch.no_grad():
            logits(each)  # as evaluation does between steps
        each.train()
        torch.nn.functional.cross_entropy(logits(each), tokens_of(each).roll(7)).backward()
        found.append({name: weight.grad for name, weight in each.named_parameters() if weight.requires_grad})
    for name, gradient in found[0].items():
        torch.testing.assert_close(gradient, found[1][name], rtol=1e-4, atol=1e-6, msg=name)
    assert stored == sum(each.numel() for each in hidden_matrices(packed(quantisable))) / 2
    assert training_flops(model, LENGTHS, 7) == training_flops(whole, LENGTHS, 7)


def test_gpt2s_own_layers_cannot_be_kept_in_4_bits():
    model = build_model(ModelConfig(layers=1, width=32, heads=2, context=16), 50, 0, seed=0)
    ((path, what),) = adapter_problems(model, AdapterConfig(kind="qlora"))
    assert path == ("kind",)
    assert "write `lora`" in what


def test_settings_of_an_adapter_mean_nothing_without_one():
    assert [path for path, _ in AdapterConfig(kind="full", rank=4, dropout=0.1).problems()] == [("rank",), ("dropout",)]
    assert not list(AdapterConfig(kind="full").problems())
    assert not list(AdapterConfig(rank=8, targets=["q_proj"]).problems())
    assert [path for path, _ in AdapterConfig(targets=[]).problems()] == [("targets",)]
