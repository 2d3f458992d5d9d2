"""Training with frozen weights: resumed is uninterrupted, and nothing is kept of what is not trained."""

import io

import pytest
import torch
from adapted import train_an_adapter
from conftest import metrics_of, newest_run
from safetensors.torch import load_file

from polyana.errors import Interrupted
from polyana.models import AdapterConfig, ModelConfig, attach_adapter, build_model, count_parameters
from polyana.registry import Repository
from polyana.run import run_recipe
from polyana.tracking import Console
from polyana.train import TrainConfig, build_optimizer, optimizer_bytes
from polyana.train.trainer import Trainer

LLAMA = "stages.pretrain.model={architecture: llama, layers: 2, width: 64, heads: 2, context: 32}"
BF16 = "stages.pretrain.train.precision=bf16"
NAMES = ("train/loss", "train/grad_norm", "train/lr", "eval/loss")


@pytest.fixture(params=["lora", "dora", "qlora"])
def kind(request, monkeypatch) -> str:
    if request.param == "qlora":
        pytest.importorskip("bitsandbytes")
    train_an_adapter(monkeypatch.setattr, {"kind": request.param, "rank": 4, "dropout": 0.1})
    return request.param


def run(recipe, **settings) -> str:
    said = io.StringIO()
    run_recipe(recipe, console=Console(said), **settings)
    return said.getvalue()


def test_resumed_is_uninterrupted(kind, tiny, home, load, monkeypatch):
    """Bit for bit, dropout included; evaluating, sampling and a range test leave no trace."""
    recipe = load(tiny, LLAMA, BF16)
    run(recipe)
    whole = metrics_of(newest_run(home))
    assert whole["train/loss"][12] < whole["train/loss"][1] - 0.05
    home.rename(home.with_name("whole"))
    original = Trainer._step

    def dying(self, gauge):
        if self.position.step == 10:
            raise Interrupted(9, "killed")
        original(self, gauge)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_step", dying)
        with pytest.raises(Interrupted):
            run(recipe)
    said = run(recipe)
    assert "going on after step 8" in said, said
    resumed = metrics_of(newest_run(home))
    for name in NAMES:
        assert resumed[name] == whole[name], name
    home.rename(home.with_name("resumed"))
    run(load(tiny, LLAMA, BF16, "stages.pretrain.sample.every=5 steps",
             "stages.pretrain.eval.every=3 steps", f"stages.pretrain.train.find_lr={kind == 'qlora'}"))  # fmt: skip
    other = metrics_of(newest_run(home))
    for name in NAMES[:3]:
        assert other[name] == whole[name], name


def test_a_save_holds_the_adapter_alone(tiny, home, load, monkeypatch):
    train_an_adapter(monkeypatch.setattr, {"kind": "lora", "rank": 4})
    run(load(tiny, LLAMA))
    directory = newest_run(home)
    repository = Repository(home / "hub", directory.name)
    snapshot = repository.snapshot(repository.resolve("main"))
    names = {path.name for path in snapshot.iterdir()}
    assert {"adapter_config.json", "adapter_model.safetensors"} <= names
    assert "model.safetensors" not in names
    with torch.device("meta"):
        model = build_model(ModelConfig(architecture="llama", layers=2, width=64, heads=2, context=32), 400, 0, 0)
        attach_adapter(model, AdapterConfig(rank=4), seed=0)
    count = count_parameters(model)
    saved = load_file(snapshot / "adapter_model.safetensors")
    assert sum(each.numel() for each in saved.values()) == count
    state = max((directory / "state").iterdir())
    kept = load_file(state / "model.safetensors")
    assert set(kept) == set(saved)
    assert all(torch.equal(kept[name], saved[name]) for name in kept)
    assert (state / "optimizer.pt").stat().st_size < 8 * count + 30_000


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_every_optimizer_has_the_trained_weights_and_no_others(optimizer):
    model = build_model(ModelConfig(layers=2, width=32, heads=2, context=16), 50, 0, seed=0)
    config = TrainConfig.model_validate({"optimizer": optimizer})
    whole = optimizer_bytes(model, config.optimizer)
    attach_adapter(model, AdapterConfig(kind="dora", rank=2), seed=0)
    made = build_optimizer(model, config)
    held = {id(each) for group in made.param_groups for each in group["params"]}
    assert held == {id(each) for name, each in model.named_parameters() if "lora_" in name}
    assert optimizer_bytes(model, config.optimizer) < whole / 3
