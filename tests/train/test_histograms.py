"""Histograms of weights, gradients and updates: numpy's numbers, and training takes no notice of them."""

import io
import json
import math

import numpy as np
import pytest
import torch
from adapted import train_an_adapter
from conftest import CLOCKED, metrics_of, newest_run
from safetensors.torch import load_file

from polyana.errors import Interrupted
from polyana.models import ModelConfig, build_model, transformer_blocks
from polyana.registry import Repository
from polyana.run import run_recipe
from polyana.tracking import Console, read_attempts
from polyana.train import Trainer
from polyana.train.histograms import group_parameters, spread

EACH = "stages.pretrain.track.histograms=1 steps"
NONE = "stages.pretrain.track.histograms=null"
SAVED = ["stages.pretrain.save.every=1 steps", "stages.pretrain.save.keep.last=20"]
PARTS = "stages.pretrain.train.micro_batch=1 sequences"
UNTIED = (
    "stages.pretrain.model={architecture: llama, layers: 2, width: 32, heads: 2, context: 32, tie_embeddings: false}"
)
GROUPS = ["block 0 attention", "block 0 mlp", "block 1 attention", "block 1 mlp", "embeddings", "norms"]


def histograms_of(run) -> dict[int, dict[str, dict]]:
    """By step; of a step that was done again the newer ones."""
    rows = [row for attempt in read_attempts(run / "metrics") for row in attempt.rows if "histograms" in row]
    return {row["step"]: row["histograms"] for row in rows}


def saved_weights(home, step: int) -> dict[str, torch.Tensor]:
    repository = Repository(home / "hub", newest_run(home).name)
    snapshot = repository.snapshot(repository.resolve(f"step-{step}"))
    return load_file(next(snapshot.glob("*model.safetensors")))


def run(recipe) -> None:
    run_recipe(recipe, console=Console(io.StringIO()))


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_training_is_the_same_bit_for_bit_with_them_and_without(precision, tiny, home, load):
    curves, weights = [], []
    for wish in (NONE, EACH):
        run(load(tiny, wish, PARTS, f"stages.pretrain.train.precision={precision}"))
        curves.append({name: points for name, points in metrics_of(newest_run(home)).items() if name not in CLOCKED})
        weights.append(saved_weights(home, 12))
        assert sorted(histograms_of(newest_run(home))) == ([] if wish == NONE else list(range(1, 13)))
        home.rename(home.with_name(wish.rpartition("=")[2]))
    assert curves[0] == curves[1]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_they_are_what_numpy_finds_in_the_saves(tiny, home, load):
    run(load(tiny, EACH, PARTS, UNTIED, *SAVED))
    found, norms = histograms_of(newest_run(home)), metrics_of(newest_run(home))["train/grad_norm"]
    for step in (5, 12):
        now, before = saved_weights(home, step), saved_weights(home, step - 1)
        groups = {
            "embeddings": ["model.embed_tokens.weight"],
            "head": ["lm_head.weight"],
            "norms": [name for name in now if "norm" in name],
            **{f"block {block} {kind}": [name for name in now if f"layers.{block}.{part}." in name]
               for block in (0, 1) for kind, part in (("attention", "self_attn"), ("mlp", "mlp"))},
        }  # fmt: skip
        assert sorted(name for group in groups.values() for name in group) == sorted(now)
        told = {kind: {n.partition("/")[2] for n in found[step] if n.startswith(kind)}
                for kind in ("weights", "gradients", "updates")}  # fmt: skip
        assert all(names == set(groups) for names in told.values())
        for group, names in groups.items():
            whole = np.concatenate([now[name].numpy().ravel() for name in names])
            check(found[step][f"weights/{group}"], whole)
            moved = np.concatenate([(now[name] - before[name]).numpy().ravel() for name in names])
            check(found[step][f"updates/{group}"], moved)
        # before clipping, and of all parts of the batch: together they are the norm that is logged
        gradients = [found[step][f"gradients/{group}"]["norm"] for group in groups]
        assert math.hypot(*gradients) == pytest.approx(norms[step], rel=1e-5)
    assert max(norms.values()) > 1  # or nothing was clipped


def check(histogram: dict, numbers: np.ndarray) -> None:
    counts, _ = np.histogram(numbers, 64, (numbers.min(), numbers.max()))
    assert (histogram["low"], histogram["high"]) == (numbers.min(), numbers.max())
    assert sum(histogram["counts"]) == len(numbers)
    # where a number lies at the border of two bins, fp32 may put it into the other
    assert np.abs(np.array(histogram["counts"]) - counts).sum() <= max(4, 0.001 * len(numbers))
    assert histogram["zeros"] == np.mean(numbers == 0)
    assert histogram["norm"] == pytest.approx(np.linalg.norm(numbers.astype(np.float64)), rel=1e-5)


def test_of_a_model_with_an_adapter_only_what_is_trained(tiny, home, load, monkeypatch):
    train_an_adapter(monkeypatch.setattr, {"kind": "lora", "rank": 4})
    run(load(tiny, EACH))
    found = histograms_of(newest_run(home))[1]
    assert {name.partition("/")[2] for name in found} == {name for name in GROUPS if name.startswith("block")}
    count = sum(each.numel() for each in saved_weights(home, 12).values())
    assert sum(sum(found[name]["counts"]) for name in found if name.startswith("weights/")) == count
    assert all(0.3 < found[f"gradients/{name}"]["zeros"] < 1 for name in GROUPS[:4])  # of A, while B is zero


def test_a_resumed_run_goes_on_as_if_it_had_not_stopped(tiny, home, load, monkeypatch):
    recipe = load(tiny, "stages.pretrain.track.histograms=3 steps")
    run(recipe)
    whole, found = metrics_of(newest_run(home)), histograms_of(newest_run(home))
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
    run(recipe)
    resumed = metrics_of(newest_run(home))
    assert {name: resumed[name] for name in resumed if name not in CLOCKED} == {
        name: whole[name] for name in whole if name not in CLOCKED
    }
    assert histograms_of(newest_run(home)) == found
    assert sorted(found) == [3, 6, 9, 12]


def test_several_processes_find_what_one_does(tiny, home, load, torchrun, tmp_path):
    """DDP's rank 0 alone has everything; FSDP2's ranks add their parts up."""
    text = tiny.read_text().replace("dropout: 0.1", "dropout: 0").replace("duration: 12", "duration: 4")
    tiny.write_text(text)
    run(load(tiny, EACH))
    alone = histograms_of(newest_run(home))
    cases = [
        {"home": str(tmp_path / strategy), "recipe": str(tiny),
         "overrides": [EACH, f"stages.pretrain.train.strategy={strategy}"]}
        for strategy in ("ddp", "fsdp2")
    ]  # fmt: skip
    process = torchrun(2, cases)
    assert process.returncode == 0, process.stderr
    for strategy in ("ddp", "fsdp2"):
        found = histograms_of(newest_run(tmp_path / strategy))
        assert sorted(found) == sorted(alone)
        assert sorted(found[4]) == sorted(alone[4]), strategy
        for name in (f"{kind}/{group}" for kind in ("weights", "gradients", "updates") for group in GROUPS):
            ours, theirs = found[4][name], alone[4][name]
            assert sum(ours["counts"]) == sum(theirs["counts"]), name
            assert ours["norm"] == pytest.approx(theirs["norm"], rel=1e-3), name
            assert ours["low"] == pytest.approx(theirs["low"], rel=1e-2, abs=1e-6), name
            # a gradient that rounding alone makes, as of keys' biases, has no zeros where it has some
            assert ours["zeros"] == pytest.approx(theirs["zeros"], abs=0.05), name


def test_by_the_clock_too(tiny, home, load):
    run(load(tiny, "stages.pretrain.track.histograms=1 hours"))
    assert histograms_of(newest_run(home)) == {}
    run_recipe(load(tiny, "stages.pretrain.track.histograms=0.001 seconds"), console=Console(io.StringIO()), fresh=True)
    assert sorted(histograms_of(newest_run(home))) == list(range(2, 13))  # from the first look on


@pytest.mark.slow  # fp16 on a CPU
def test_an_overflow_has_none(tiny, home, load, monkeypatch):
    monkeypatch.setattr("polyana.train.loss_scale._FIRST", 2.0**22)
    run(load(tiny, EACH, "stages.pretrain.train.precision=fp16"))
    attempt = read_attempts(newest_run(home) / "metrics")[0]
    skipped = {row["step"] for row in attempt.rows if row.get("event") == "overflow"}
    assert 0 < len(skipped) < 12
    assert set(histograms_of(newest_run(home))) == set(range(1, 13)) - skipped


def test_what_is_not_finite_or_all_the_same_stops_nothing():
    found = spread({
        "one": [torch.full((7,), 0.25)],
        "none": [torch.zeros(3, 4), torch.zeros(4)],
        "broken": [torch.tensor([1.0, math.nan])],
        "endless": [torch.tensor([1.0, -math.inf])],
    })  # fmt: skip
    assert list(found) == ["one", "none"]
    assert (found["one"].low, found["one"].high, sum(found["one"].counts)) == (0.25, 0.25, 7)
    assert (found["none"].zeros, found["none"].norm, sum(found["none"].counts)) == (1.0, 0.0, 16)
    assert spread({}) == {}
    json.dumps(found["one"].counts)


def test_large_tensors_are_counted_in_pieces_and_parts_are_added_up(monkeypatch):
    torch.manual_seed(0)
    numbers = torch.randn(100, 30)
    (whole,) = spread({"all": [numbers]}).values()
    monkeypatch.setattr("polyana.train.histograms._PIECE", 1000)
    (pieces,) = spread({"all": [numbers]}).values()
    assert pieces == whole

    sent: list[list] = []  # what each of three ranks says, in the order it is asked; the last one has nothing
    for part in (numbers[:60], numbers[60:], numbers[:0]):
        said: list = []
        spread({"all": [part]}, lambda value, said=said: said.append(value) or [value], 1.0) if len(part) else None
        sent.append(said)
    ranges = [sent[0][0], sent[1][0], [[math.inf, -math.inf]]]
    answers = iter([ranges, None, None])

    def gather(value):
        known = next(answers)
        if known is not None:
            return known
        rest = spread_parts(numbers[60:], whole.low, whole.high)
        return [value, rest[0] if isinstance(value[0], list) else rest[1]]

    (joined,) = spread({"all": [numbers[:60]]}, gather, 2.0).values()
    assert joined.counts == list(whole.counts)
    assert (joined.low, joined.high) == (2 * whole.low, 2 * whole.high)
    assert joined.norm == pytest.approx(2 * whole.norm, rel=1e-6)


def spread_parts(part: torch.Tensor, low: float, high: float) -> tuple[list, list]:
    """What a rank with this part says: its counts in given bins, and its norm."""
    counts = torch.histc(part, 64, low, high).long().tolist()
    return [[*counts, int((part == 0).sum()), part.numel()]], [float(part.norm())]


@pytest.mark.parametrize("layers", [2, 11])
def test_groups_sort_as_the_blocks_stand(layers):
    model = build_model(ModelConfig(layers=layers, width=16, heads=2, context=8), 50, 0, seed=0)
    groups = group_parameters(model, transformer_blocks(model))
    blocks = [name for name in groups if name.startswith("block")]
    assert blocks == sorted(blocks)
    assert len(blocks) == 2 * layers
    assert list(groups)[-1] == "norms"
    assert sum(each.numel() for group in groups.values() for each in group) == model.num_parameters()
