"""Compiled layers are the layers."""

import ctypes

import pytest
import torch

from polyana.errors import PolyanaError
from polyana.models import ModelConfig, build_model, compile_blocks, hidden_states, transformer_blocks
from polyana.train import TrainConfig


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # torch's own, while it compiles
@pytest.mark.parametrize("architecture", ["gpt2", "llama"])
def test_states_and_gradients_are_those_of_the_layers_themselves(architecture):
    config = ModelConfig(architecture=architecture, layers=2, width=32, heads=2, context=40)
    plain, compiled = (build_model(config, 97, 0, seed=3).train() for _ in range(2))
    names = set(compiled.state_dict())
    compile_blocks(transformer_blocks(compiled))
    assert set(compiled.state_dict()) == names
    tokens, positions = torch.randint(0, 97, (80,)), torch.arange(40).repeat(2)
    states = [hidden_states(model, tokens, positions, (40, 40)) for model in (plain, compiled)]
    torch.testing.assert_close(*states, rtol=1e-4, atol=1e-5)
    for result in states:
        result.square().sum().backward()
    for (name, mine), (_, theirs) in zip(compiled.named_parameters(), plain.named_parameters(), strict=True):
        if theirs.grad is not None:
            torch.testing.assert_close(mine.grad, theirs.grad, rtol=1e-3, atol=1e-4, msg=name)
    graphs = torch._dynamo.utils.counters["graph_break"]
    assert not graphs


def test_compiled_code_that_a_killed_run_left_is_deleted_and_named(monkeypatch, tmp_path):
    library = tmp_path / "abc.main.so"
    library.touch()  # as dlopen finds it when the linker was killed

    def compiled(*_, **__):
        ctypes.CDLL(str(library))

    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(torch, "compile", lambda *_, **__: compiled)
    model = build_model(ModelConfig(layers=1, width=32, heads=2, context=40), 97, 0, seed=3).train()
    compile_blocks(transformer_blocks(model))
    with pytest.raises(PolyanaError, match=r"abc.main.so, left by a run .* so run the same command again"):
        hidden_states(model, torch.arange(10), torch.arange(10), (10,))
    assert not library.exists()
    library.touch()
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "elsewhere"))
    with pytest.raises(OSError, match="file too short"):  # what is not torch's own is left alone
        hidden_states(model, torch.arange(10), torch.arange(10), (10,))
    assert library.exists()


def test_where_it_cannot_be_used_it_says_so(monkeypatch):
    (letter,) = TrainConfig.model_validate({"compile": True, "packing": "documents"}).problems()
    assert "texts of one length" in letter[1]
    monkeypatch.setenv("PATH", "")
    (letter,) = TrainConfig.model_validate({"compile": True}).problems()
    assert "needs a C++ compiler" in letter[1]
