"""Weights files as safetensors and transformers write them, to the byte."""

import pytest
import torch
from blake3 import blake3
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, GPT2Config, LlamaConfig

from polyana.models import names_to_store, save_settings, weights_to_store, write_tensors

KINDS = [
    torch.bool, torch.uint8, torch.int8, torch.float8_e5m2, torch.float8_e4m3fn, torch.int16, torch.uint16,
    torch.float16, torch.bfloat16, torch.int32, torch.uint32, torch.float32, torch.complex64, torch.float64,
    torch.int64, torch.uint64,
]  # fmt: skip


def test_every_type_and_shape_is_written_as_safetensors_does(tmp_path):
    tensors = {f"t{index}": torch.arange(6).reshape(2, 3).to(kind) for index, kind in enumerate(KINDS)}
    tensors |= {"scalar": torch.tensor(3.0), "empty": torch.zeros(0, 4), 'odd "é\n': torch.ones(1)}
    tensors["large"] = torch.randn(3, 1 << 20)  # more than a buffer
    save_file(tensors, tmp_path / "theirs", metadata={"format": "pt"})
    checksum = write_tensors(tmp_path / "ours", tensors)
    content = (tmp_path / "ours").read_bytes()
    assert content == (tmp_path / "theirs").read_bytes()
    assert checksum == f"blake3-{blake3(content).hexdigest()}"


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("architecture", ["gpt2", "llama"])
def test_a_model_is_stored_as_save_pretrained_does(architecture, tied, tmp_path):
    if architecture == "gpt2":
        config = GPT2Config(n_layer=2, n_embd=32, n_head=2, vocab_size=99, tie_word_embeddings=tied)
    else:
        config = LlamaConfig(
            num_hidden_layers=2, hidden_size=32, intermediate_size=64, num_attention_heads=2, vocab_size=99,
            tie_word_embeddings=tied,
        )  # fmt: skip
    model = AutoModelForCausalLM.from_config(config)
    model.save_pretrained(tmp_path / "theirs")
    ours = tmp_path / "ours"
    save_settings(model, ours)
    weights = {name: each.detach() for name, each in model.state_dict(keep_vars=True).items()}
    stored = weights_to_store(model, weights)
    names = names_to_store(weights, stored)
    assert list(names) == list(stored)
    assert all(weights[names[name]] is tensor for name, tensor in stored.items())
    assert names_to_store(weights, stored | {"computed": torch.zeros(1)}) is None
    write_tensors(ours / "model.safetensors", stored)
    assert sorted(path.name for path in ours.iterdir()) == sorted(path.name for path in (tmp_path / "theirs").iterdir())
    for path in ours.iterdir():
        assert path.read_bytes() == (tmp_path / "theirs" / path.name).read_bytes(), path.name
