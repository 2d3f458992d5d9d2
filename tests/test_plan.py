"""`polyana plan`: counted figures against torch's and transformers' own, measured ones against real runs."""

import json

import pytest
import torch

from polyana.distributed import Strategy, World
from polyana.errors import UserError
from polyana.pipeline import Pipeline
from polyana.plan import plan_recipe
from polyana.plan import training as planning
from polyana.rehearse import Report
from polyana.run import run_recipe
from polyana.storage import disk_used
from polyana.tracking import Console
from polyana.train import Cadence, TrainingPlan, build_optimizer

LLAMA = (
    "stages.pretrain.model={architecture: llama, layers: 2, width: 32, heads: 2, context: 32, tie_embeddings: false}"
)


@pytest.fixture
def quiet(tmp_path):
    with (tmp_path / "terminal").open("w") as stream:
        yield Console(stream)


@pytest.fixture
def planned(tiny, load, quiet):
    """planned(*overrides, **options): the plan of the tiny recipe."""
    return lambda *overrides, **options: plan_recipe(load(tiny, *overrides), console=quiet, **options)


def training_of(plan):
    (training,) = [stage.training for stage in plan.stages if stage.training]
    return training


@pytest.mark.parametrize("change", ["stages.pretrain.model.layers=3", LLAMA])
def test_parameters_are_those_of_transformers(planned, home, load, tiny, quiet, change):
    training = training_of(planned(change, prepare=True))
    model = Pipeline(load(tiny, change), home, quiet).task("pretrain").model
    assert training.parameters == model.num_parameters()
    assert (training.trained, training.frozen) == (model.num_parameters(only_trainable=True), 0)
    assert training.vocabulary == model.config.vocab_size


@pytest.mark.parametrize("kind", ["adamw", "muon", "adafactor"])
def test_counted_memory_is_that_of_the_tensors(planned, home, load, tiny, quiet, kind):
    change = f"stages.pretrain.train.optimizer={kind}"
    memory = training_of(planned(change, prepare=True)).memory
    recipe = load(tiny, change)
    task = Pipeline(recipe, home, quiet).task("pretrain")
    optimizer = build_optimizer(task.model, recipe.stages["pretrain"].train)
    task.loss(task.batch(0, 2)).total.backward()
    optimizer.step()
    parameters = list(task.model.parameters())
    assert memory.weights == sum(each.nbytes for each in parameters)
    assert memory.gradients == sum(each.grad.nbytes for each in parameters)
    state = [value for part in optimizer.parts for values in part.state.values() for value in values.values()]
    tensors = [value for value in state if torch.is_tensor(value)]
    assert memory.optimizer == sum(each.nbytes for each in tensors if each.numel() > 1)


def test_what_is_cached_says_so_and_what_is_not_says_why(planned, load, tiny, quiet):
    first = {stage.name: (stage.cached, stage.why) for stage in planned().stages}
    assert first == dict.fromkeys(["corpus", "tokenizer", "tokens", "baseline", "pretrain"], (False, "not made yet"))
    run_recipe(load(tiny), console=quiet)
    again = planned()
    assert all(stage.cached and stage.bytes > 0 and stage.training is None for stage in again.stages)
    assert again.seconds == 0
    changed = {stage.name: stage for stage in planned("stages.tokenizer.vocab_size=500").stages}
    assert changed["corpus"].cached
    assert changed["baseline"].cached
    assert changed["tokenizer"].why == "vocab_size was 400, is 500"
    assert changed["pretrain"].why == "tokenizer has changed"
    changed = {stage.name: stage for stage in planned("stages.pretrain.train.lr=0.5").stages}
    assert [name for name, stage in changed.items() if not stage.cached] == ["pretrain"]
    assert changed["pretrain"].why == "train.lr was 0.01, is 0.5"


def test_an_interrupted_run_is_gone_on_with(planned, load, tiny, quiet, home, monkeypatch):
    from polyana.train import Trainer

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_step", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            run_recipe(load(tiny), console=quiet)
    (run,) = (home / "runs").iterdir()
    assert planned().stages[-1].why.startswith(f"goes on with {run.name}")


def test_without_tokens_it_tells_what_needs_none(planned, tmp_path, home):
    training = training_of(planned())
    assert training.tokens is training.time is training.disk is training.memory.peak is None
    assert training.steps == 12
    assert training_of(planned("stages.pretrain.train.duration=2 epochs")).steps is None
    assert training.memory.weights == 4 * training.parameters > 0
    assert training.memory.optimizer == 8 * training.parameters
    assert "--prepare" in training.memory.how
    assert not (home / "stages").exists()


def test_a_plan_leaves_nothing_but_what_it_says(planned, home):
    planned(prepare=True)
    # files that were written a moment ago are not remembered in digests.json
    assert {path.name for path in home.iterdir()} - {"digests.json"} == {"mill", "stages"}
    assert not any(
        path.is_file() for path in (home / "mill").glob("*/**/*")
    )  # nothing is kept of a corpus without steps
    made = {path.name.split("-")[0] for path in (home / "stages").iterdir() if not path.name.startswith(".")}
    assert made == {"corpus", "tokenizer", "tokens", "baseline"}
    before = sorted(home.rglob("*"))
    planned()
    assert sorted(path for path in home.rglob("*") if path.name != "digests.json") == [
        path for path in before if path.name != "digests.json"
    ]


def test_steps_disk_and_events_are_those_of_the_run(planned, load, tiny, quiet, home):
    overrides = ["stages.pretrain.save.keep={best: 1, last: 1}", "stages.pretrain.train.duration=13 steps"]
    training = training_of(planned(*overrides, prepare=True))
    summary = run_recipe(load(tiny, *overrides), console=quiet)["pretrain"]
    run = home / "runs" / summary["run"]
    rows = [json.loads(line) for line in (run / "metrics" / "attempt-0001.jsonl").read_text().splitlines()]
    assert training.steps == summary["steps"] == 13
    assert training.tokens == 13 * 4 * 32
    assert training.time.evaluations == sum("eval/loss" in row for row in rows)
    assert training.time.saves == sum(row.get("event") == "save" for row in rows)
    assert training.time.samples == len(list((run / "samples").iterdir()))
    written = disk_used(run / "state", home / "hub")
    assert written <= training.disk.kept < 1.5 * written  # `best` may be `last`; here they are not kept twice


def test_what_is_pushed_stays_and_is_planned_for(planned):
    keep = "stages.pretrain.save.keep={best: 1, last: 1, total: 600 kB}"  # three saves and a bit
    push = "stages.pretrain.save.push={{to: ./there, every: {}}}"
    training = training_of(planned(keep, "stages.pretrain.save.every=2 steps", prepare=True))
    assert (training.time.saves, training.disk.pushed, training.disk.commits) == (6, 0, 2)
    for every, pushed in (("1 save", 6), ("3 saves", 4), ("6 steps", 4), ("2 saves, stays: false", 0)):
        training = training_of(planned(keep, "stages.pretrain.save.every=2 steps", push.format(every), prepare=True))
        assert training.disk.pushed == pushed
        assert training.disk.commits == min(6, 2 + pushed)
        warned = [each for each in training.warnings if "are pushed and stay here" in each]
        assert len(warned) == (pushed > 0), training.warnings


def test_memory_is_what_the_run_takes(tiny, home, polyana_process):
    """A model that is large enough to tell from what libraries take. The benchmark holds it to more (bench-plan)."""
    big = ["--set", "stages.pretrain.model={architecture: gpt2, layers: 4, width: 256, heads: 4, context: 256}",
           "--set", "stages.pretrain.train={duration: 3 steps, batch: 16 sequences, lr: 1e-3}"]  # fmt: skip
    plan = json.loads(polyana_process("plan", tiny, "--prepare", "--json", *big).stdout)
    memory = plan["stages"][-1]["training"]["memory"]
    code = (
        "import sys\nfrom pathlib import Path\nfrom polyana.cli import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "print(Path('/proc/self/status').read_text().split('VmHWM:')[1].split()[0])"
    )
    import os
    import subprocess
    import sys

    process = subprocess.run(
        [sys.executable, "-c", code, "run", tiny, *big], env=os.environ | {"OMP_NUM_THREADS": "1"},
        cwd=tiny.parent, capture_output=True, text=True, check=True,
    )  # fmt: skip
    whole = int(process.stdout.split()[-1]) * 1024
    assert memory["peak"] == pytest.approx(whole, rel=0.2)


def test_json_has_all_of_it(planned, polyana, tiny):
    told = json.loads(polyana("plan", tiny, "--prepare", "--json", "--price", "3600").stdout)
    assert told["fits"]
    training = told["stages"][-1]["training"]
    assert training["memory"]["peak"] > training["memory"]["training"] > training["memory"]["activations"] > 0
    assert training["frozen"] == 0
    assert training["disk"]["kept"] <= training["disk"]["during"] < training["disk"]["free"]
    assert told["seconds"] == training["time"]["total"] > training["steps"] * training["time"]["step"] > 0
    assert told["cost"] == pytest.approx(told["seconds"])
    reasons = {choice["what"]: choice["reason"] for choice in training["choices"]}
    assert set(reasons) == {"precision", "attention", "packing", "strategy", "micro-batch", "checkpointing", "compile"}
    assert all(reasons.values())
    shown = polyana("plan", tiny, "--price", "3600").stdout
    for word in ("cached", "to run", "weights", "warm-up", "fp32: as the recipe says", "at the price given"):
        assert word in shown


def test_only_one_stage(planned):
    assert [stage.name for stage in planned(stage="corpus").stages] == ["corpus"]


@pytest.mark.parametrize(
    ("change", "letter"),
    [
        ("stages.pretrain.train.learning_rate=1", "unknown key `learning_rate`"),
        ("stages.corpus.sources=[{path: nowhere}]", "nowhere"),
        ("stages.pretrain.model.context=100000", "too few for one block"),
        ("stages.pretrain.train={duration: 1 epoch, warmup: 900 steps}", "do not fit into `duration: 1 epoch`"),
        ("stages.pretrain.train.precision=fp8", "`precision: fp8` needs"),
    ],
)
def test_a_recipe_that_cannot_run_ends_with_2_and_a_letter(polyana, tiny, change, letter):
    process = polyana("plan", tiny, "--prepare", "--set", change, check=2)
    assert letter in process.stderr
    assert not process.stdout


def test_too_little_memory_is_said_with_what_to_write(planned, monkeypatch):
    whole = training_of(planned(prepare=True)).memory
    report = Report(
        100, 3200, 1, 8, ("none", "enough"), 0, 0, {"step": 10**9, "evaluation": 10**8}, {"evaluation": 10**6}, [10**9],
        {"step": 1.0, "start": 1.0, "evaluation": 1.0, "sample": 1.0}, 100, 0, 0,
    )  # fmt: skip
    asked = []

    def rehearse(order):
        asked.append(order.micro_batch)
        return Report(**vars(report) | {"micro_batch": order.micro_batch, "peaks": {
            "step": 3 * 10**8 * (1 + order.micro_batch), "evaluation": 10**8}})  # fmt: skip

    monkeypatch.setattr(planning, "rehearse", rehearse)
    monkeypatch.setattr(planning, "held_bytes", lambda _: 0)
    monkeypatch.setattr(planning, "available_bytes", lambda _: 12 * 10**8)
    plan = planned()
    training = training_of(plan)
    assert asked == [1, 2]  # 4 sequences at once would take 1.5 GB, as the line through 0.6 and 0.9 GB says
    assert training.memory.peak == 15 * 10**8
    assert "extrapolated" in training.memory.how
    assert not plan.fits
    assert "`micro_batch: 2 sequences`" in training.warnings[0]
    assert "`optimizer: adafactor`" in training.warnings[0]
    assert training.time.step == 1.0  # a rehearsed one of 8 sequences is more than the 4 of the run's
    monkeypatch.setattr(planning, "available_bytes", lambda _: whole.weights)
    training = training_of(planned())
    assert len(asked) == 2  # it was not even tried
    assert training.time is None
    assert "does not fit" in training.memory.how
    assert training.warnings


@pytest.mark.parametrize("strategy", ["auto", "fsdp2"])
def test_several_processes_rehearse_together(planned, home, load, tiny, quiet, strategy):
    change = f"stages.pretrain.train.strategy={strategy}"
    training = training_of(planned(change, prepare=True, processes=2))
    memory = training.memory
    shapes = [each.shape for each in Pipeline(load(tiny, change), home, quiet).task("pretrain").model.parameters()]
    rows = 2 if strategy == "fsdp2" else 1  # of which a process has one part, and no less than torch.chunk's first
    held = 4 * sum(torch.empty(shape, device="meta").chunk(rows)[0].numel() for shape in shapes)
    assert (memory.weights, memory.gradients, memory.optimizer) == (held, held, 2 * held)
    assert (training.batch, training.micro_batch, training.parts) == (4, 2, 1)
    assert "of 2 processes" in memory.how
    assert memory.peak < memory.together < 2 * memory.peak  # the libraries' code is there once
    assert training.time.step > 0
    (spread,) = [choice for choice in training.choices if choice.what == "strategy"]
    assert (spread.chosen, spread.reason[:11]) == ("ddp" if strategy == "auto" else strategy, "2 processes")


def test_one_process_alone_cannot_be_planned_for_two(planned):
    with pytest.raises(UserError, match="`strategy: single` is for one process, and 2 were started"):
        planned("stages.pretrain.train.strategy=single", prepare=True, processes=2)


@pytest.mark.slow
def test_compiling_is_rehearsed_and_what_it_costs(planned):
    training = training_of(planned("stages.pretrain.train.compile=true", "stages.pretrain.model.dropout=0",
                                   prepare=True))  # fmt: skip
    assert training.time.compile > 1
    assert training.time.total > training.time.compile
    (choice,) = [choice for choice in training.choices if choice.what == "compile"]
    assert "in the first steps" in choice.reason


@pytest.mark.parametrize(
    ("compiled", "compiled_step", "words"),
    [
        ("false", 0.5, "measured 0.5 s a step instead of 1, for 3 s once: pays after 6 steps, and there are 12; "
         "`compile: true` saves 0:03"),
        ("true", 0.5, "measured 0.5 s a step instead of 1, for 3 s once: pays after 6 steps, and there are 12"),
        ("true", 0.875, "measured 0.875 s a step instead of 1, for 3 s once: pays after 24 steps, and there are 12; "
         "`compile: false` saves 0:02"),
        ("false", 1.5, "measured 1.5 s a step instead of 1, for 3 s once: never pays"),
    ],
)  # fmt: skip
def test_whether_compiling_pays_is_measured(planned, monkeypatch, compiled, compiled_step, words):
    def rehearse(order):
        seconds = {"start": 1.0, "evaluation": 1.0, "sample": 1.0, "step": compiled_step if order.compile else 1.0}
        seconds |= {"compile": 3.0} if order.compile else {}
        return Report(100, 3200, 4, 4, ("none", "enough"), 0, 0, {"step": 10**9, "evaluation": 10**8},
                      {"evaluation": 10**6}, [10**9], seconds, 100, 0, 0)  # fmt: skip

    planned(prepare=True, stage="corpus")
    monkeypatch.setattr(planning, "rehearse", rehearse)
    change = f"stages.pretrain.train.compile={compiled}"
    training = training_of(planned(change, prepare=True, compare_compiled=True))
    (choice,) = [choice for choice in training.choices if choice.what == "compile"]
    assert (choice.chosen, choice.reason) == (compiled, words)
    if compiled == "false":
        guessed = training_of(planned(change, "stages.pretrain.train.duration=1000 steps", prepare=True))
        assert "saves 0:58 at best, nothing at worst; `--compile` measures it" in guessed.choices[-1].reason
        assert "could not pay within" in training_of(planned(change, prepare=True)).choices[-1].reason
        packed = training_of(planned("stages.pretrain.train.packing=documents", prepare=True, compare_compiled=True))
        assert "needs texts of one length" in packed.choices[-1].reason


@pytest.mark.parametrize(
    ("sequences", "batch", "micro_batch", "processes", "sizes"),
    [(64, 8, 8, 1, {8}), (60, 8, 8, 1, {8, 4}), (64, 8, 3, 1, {3, 2}), (64, 8, 8, 2, {4}), (64, 5, 8, 2, {2, 3})],
)
def test_parts_are_counted_by_their_sizes(sequences, batch, micro_batch, processes, sizes):
    """Against what ranks take."""
    plan = TrainingPlan(sequences, batch, micro_batch, 100, 3200, -(-sequences // batch), 0, 0)
    taken, seen = set(), 0
    while seen < sequences:
        count = plan.batch_at(seen)
        for rank in range(processes):
            share = Strategy(World(rank, processes), torch.device("cpu")).share(seen, count, micro_batch)
            taken |= {min(micro_batch, share.count - at) for at in range(0, share.count, micro_batch)}
        seen += count
    assert planning._sizes_of_parts(plan, processes) == taken
    assert sizes <= taken


def test_too_small_a_disk_is_said(planned, monkeypatch):
    planned(prepare=True)
    monkeypatch.setattr(planning, "free_bytes", lambda _: 10**6)
    (warning,) = training_of(planned()).warnings
    assert warning.startswith("disk: ")


@pytest.mark.parametrize(
    ("every", "steps", "count"), [([3], 10, 4), ([5], 10, 2), ([2, 3], 12, 8), ([4, 6], 13, 5), ([None], 10, 1)]
)
def test_events_are_counted_as_they_come(every, steps, count):
    """Against walking through the steps."""
    cadences = [Cadence(each, None) for each in every]
    walked = sum(any(c.due(step, 0.0) for c in cadences) or step == steps for step in range(1, steps + 1))
    assert planning._count(cadences, steps, 0.0) == walked == count


def test_events_by_the_clock():
    assert planning._count([Cadence(None, 60.0)], 1000, 200.0) == 4
    assert planning._count([Cadence(None, 1e-9)], 10, 200.0) == 11
