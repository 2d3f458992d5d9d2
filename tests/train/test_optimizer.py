"""Each optimizer against its reference; what it remembers survives a save; what its memory costs."""

import io
import math

import pytest
import torch
from conftest import metrics_of, newest_run

from polyana.errors import Interrupted
from polyana.models import ModelConfig, build_model, head_weight, hidden_matrices, hidden_states
from polyana.run import run_recipe
from polyana.tracking import Console
from polyana.train import TrainConfig, build_optimizer, optimizer_bytes
from polyana.train.trainer import Trainer

KINDS = ["adamw", "muon", "adafactor", "adamw_8bit"]


@pytest.fixture(params=KINDS)
def kind(request) -> str:
    if request.param == "adamw_8bit":
        pytest.importorskip("bitsandbytes")
    return request.param


def config(optimizer, **settings) -> TrainConfig:
    return TrainConfig.model_validate({"optimizer": optimizer} | settings)


def model(architecture="gpt2", width=32, **more):
    settings = {"architecture": architecture, "layers": 2, "width": width, "heads": 2, "context": 16} | more
    return build_model(ModelConfig.model_validate(settings), 300, 0, seed=1)


def train(model, optimizer, steps=3) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(2)
    for _ in range(steps):
        tokens = torch.randint(0, 300, (4, 16), generator=generator)
        states_ND = hidden_states(model, tokens[:, :-1].flatten(), torch.arange(15).repeat(4), (15,) * 4)
        loss = torch.nn.functional.cross_entropy(states_ND @ head_weight(model).T, tokens[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return {name: value.detach().clone() for name, value in model.named_parameters()}


@pytest.mark.parametrize(("architecture", "tied"), [("gpt2", True), ("llama", False)])
def test_the_matrices_of_the_blocks_are_what_has_a_block_in_its_name(architecture, tied):
    net = model(architecture, tie_embeddings=tied)
    hidden = {id(each) for each in hidden_matrices(net)}
    found = {name for name, value in net.named_parameters() if id(value) in hidden}
    assert found == {
        name
        for name, value in net.named_parameters()
        if (".h." in name or ".layers." in name) and "norm" not in name and "ln_" not in name and value.dim() > 1
    }
    assert len(found) == 2 * (4 if architecture == "gpt2" else 7)


def reference(kind, net) -> list[torch.optim.Optimizer]:
    """As somebody would write it down for just this model, with torch's slow, plain implementations."""
    blocks = [value for name, value in net.named_parameters() if ".h." in name and value.dim() == 2]
    embeddings = [net.transformer.wte.weight, net.transformer.wpe.weight]
    vectors = [value for value in net.parameters() if value.dim() == 1]
    adam = {"lr": 0.01, "betas": (0.8, 0.9), "eps": 1e-6}
    if kind == "adamw":
        both = [{"params": blocks + embeddings, "weight_decay": 0.2}, {"params": vectors, "weight_decay": 0}]
        return [torch.optim.AdamW(both, foreach=False, fused=False, **adam)]
    if kind == "adafactor":
        both = [{"params": blocks + embeddings, "weight_decay": 0.2}, {"params": vectors, "weight_decay": 0}]
        return [torch.optim.Adafactor(both, lr=0.01, beta2_decay=-0.7, d=2.0, foreach=False)]
    outside = [{"params": embeddings, "weight_decay": 0.2}, {"params": vectors, "weight_decay": 0}]
    if kind == "muon":
        inside = torch.optim.Muon(blocks, lr=0.01, weight_decay=0.2, momentum=0.9, adjust_lr_fn="match_rms_adamw")
    else:
        from bitsandbytes.optim import AdamW8bit

        inside = AdamW8bit(blocks, weight_decay=0.2, **adam)
    return [inside, torch.optim.AdamW(outside, fused=True, **adam)]


SETTINGS = {
    "adamw": {"beta1": 0.8, "beta2": 0.9, "epsilon": 1e-6},
    "muon": {"beta1": 0.8, "beta2": 0.9, "epsilon": 1e-6, "momentum": 0.9},
    "adafactor": {"beta2_decay": -0.7, "update_clip": 2.0},
    "adamw_8bit": {"beta1": 0.8, "beta2": 0.9, "epsilon": 1e-6},
}


class Together:
    def __init__(self, parts):
        self.parts = parts

    def zero_grad(self):
        for part in self.parts:
            part.zero_grad()

    def step(self):
        for part in self.parts:
            part.step()


def distances(kind, reference_kind) -> list[float]:
    """After three steps, of each parameter to the reference's, as a share of the way it has gone."""
    ours, theirs = model(width=64), model(width=64)
    begin = {name: value.detach().clone() for name, value in ours.named_parameters()}
    settings = config({"kind": kind, **SETTINGS[kind]}, lr=0.01, weight_decay=0.2)
    found = train(ours, build_optimizer(ours, settings))
    wanted = train(theirs, Together(reference(reference_kind, theirs)))
    return [float((found[name] - wanted[name]).norm() / (wanted[name] - begin[name]).norm()) for name in begin]


def test_three_steps_are_the_references(kind):
    assert max(distances(kind, kind)) < 1e-4


def test_eight_bits_come_near_to_all_of_them():
    pytest.importorskip("bitsandbytes")
    assert 1e-3 < max(distances("adamw_8bit", "adamw")) < 0.15


def test_a_muon_step_is_orthogonal_and_as_large_as_adams():
    """Independent of torch's own iteration: by singular values. Newton-Schulz leaves them between 0.5 and 1.5 or so."""
    net = model("llama")
    before = {id(each): each.detach().clone() for each in hidden_matrices(net)}
    train(net, build_optimizer(net, config("muon", lr=0.01, weight_decay=0)), steps=1)
    for each in hidden_matrices(net):
        step = (each.detach() - before[id(each)]) / 0.01
        size = 0.2 * math.sqrt(max(step.shape))  # Liu et al. 2025, eq. 4
        values = torch.linalg.svdvals(step / size)
        assert values.median() == pytest.approx(1, abs=0.4)
        assert values.max() < 1.6
        assert step.square().mean().sqrt() == pytest.approx(0.2, abs=0.1)  # what AdamW's updates usually have


def test_its_memory_is_what_was_foretold(kind):
    net = model(width=128, tie_embeddings=False)
    settings = config(kind)
    optimizer = build_optimizer(net, settings)
    train(net, optimizer, steps=1)
    held = 0
    for part in optimizer.parts:
        for state in part.state.values():
            tensors = {name: value for name, value in state.items() if isinstance(value, torch.Tensor)}
            held += sum(
                value.numel() * value.element_size()
                for name, value in tensors.items()
                if name != "step" and not name.startswith("qmap")  # of a tensor; of all tensors together
            )
    assert optimizer_bytes(net, settings.optimizer) == held
    with torch.device("meta"):
        assert optimizer_bytes(model(width=128, tie_embeddings=False).to("meta"), settings.optimizer) == held


def resume_after_a_kill(recipe, home, monkeypatch, at: int) -> dict:
    """Training that dies after `at` steps and is run again; its metrics."""
    original = Trainer._step

    def dying(self, gauge):
        if self.position.step == at:
            raise Interrupted(9, "killed")
        original(self, gauge)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_step", dying)
        with pytest.raises(Interrupted):
            run_recipe(recipe, console=Console(io.StringIO()))
    run_recipe(recipe, console=Console(io.StringIO()))
    return metrics_of(newest_run(home))


def test_resumed_is_uninterrupted(kind, tiny, home, load, monkeypatch):
    """Bit for bit, dropout and z-loss included; dying at step 10 it goes on from step 8."""
    recipe = load(tiny, f"stages.pretrain.train.optimizer={kind}", "stages.pretrain.model.width=64",
                  "stages.pretrain.train.z_loss=1e-3", "stages.pretrain.train.schedule=warm_restarts")  # fmt: skip
    run_recipe(recipe, console=Console(io.StringIO()))
    whole = metrics_of(newest_run(home))
    home.rename(home.with_name("whole"))
    resumed = resume_after_a_kill(recipe, home, monkeypatch, at=10)
    for name in ("train/loss", "train/z_loss", "train/grad_norm", "train/lr", "eval/loss"):
        assert resumed[name] == whole[name]


def test_a_range_test_changes_nothing_of_what_is_learned(kind, tiny, home, load):
    curves = []
    for overrides in ([], ["stages.pretrain.train.find_lr=true"]):
        said = io.StringIO()
        recipe = load(tiny, f"stages.pretrain.train.optimizer={kind}", *overrides)
        run_recipe(recipe, fresh=True, console=Console(said))
        curves.append(metrics_of(newest_run(home)))
    for name in ("train/loss", "train/grad_norm", "train/lr", "eval/loss"):
        assert curves[0][name] == curves[1][name]
    assert "suggests lr" in said.getvalue()
    assert {"find_lr.csv", "find_lr.svg"} <= {path.name for path in newest_run(home).iterdir()}
