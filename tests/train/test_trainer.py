"""The loop on real recipes: equal to what it should equal, and honest when something goes wrong."""

import errno
import io
import json
import math
import os
import shutil
import threading
from functools import partial
from pathlib import Path

import pytest
import torch
from conftest import metrics_of, newest_run
from safetensors.torch import load_file

from polyana.errors import TrainingFailed, UserError
from polyana.models import writing
from polyana.pipeline import Pipeline
from polyana.registry import Repository
from polyana.run import run_recipe
from polyana.storage import home_directory, sha256_of
from polyana.tasks import LanguageModelTask
from polyana.tracking import Console, read_events


@pytest.fixture
def train(tiny, home, load):
    """train(*overrides): the metrics of a finished run of the tiny recipe."""

    def train(*overrides):
        run_recipe(load(tiny, *overrides), console=Console(io.StringIO()))
        return metrics_of(newest_run(home))

    return train


@pytest.fixture
def quiet():
    return Console(io.StringIO())


NO_DROPOUT = "stages.pretrain.model.dropout=0"


def test_gradient_accumulation_equals_a_big_batch(tiny, home, load, quiet):
    curves = []
    for micro_batch in (4, 2, 1):
        recipe = load(tiny, NO_DROPOUT, f"stages.pretrain.train.micro_batch={micro_batch} sequences")
        run_recipe(recipe, console=quiet)
        metrics = metrics_of(newest_run(home))
        curves.append([metrics["train/loss"][step] for step in range(1, 13)])
    assert curves[1] == pytest.approx(curves[0], rel=1e-5)
    assert curves[2] == pytest.approx(curves[0], rel=1e-5)


def test_accumulation_is_right_when_the_parts_are_not_equal(tiny, home, load, quiet):
    """5 sequences in parts of 2: a mean of means would weigh the last part double."""
    curves = []
    for micro_batch in (5, 2):
        parts = [
            "stages.pretrain.train.batch=10 sequences",
            f"stages.pretrain.train.micro_batch={micro_batch} sequences",
        ]
        run_recipe(load(tiny, NO_DROPOUT, *parts, "stages.pretrain.train.duration=25 tokens"), console=quiet)
        metrics = metrics_of(newest_run(home))
        curves.append(metrics["train/loss"])
    assert curves[0] == pytest.approx(curves[1], rel=1e-6)


def test_the_step_is_torchs_own_adamw(tiny, home, load, quiet):
    """Three steps done by hand with torch's reference implementation and transformers' loss."""
    recipe = load(tiny, NO_DROPOUT, "stages.pretrain.train.duration=3 steps", "stages.pretrain.train.clip=0.5",
                  "stages.pretrain.train.schedule=constant", "stages.pretrain.train.warmup=0%")  # fmt: skip
    task = Pipeline(recipe, home_directory(), quiet).task("pretrain")
    model = task.model.train()
    matrices = [p for p in model.parameters() if p.dim() >= 2]
    vectors = [p for p in model.parameters() if p.dim() < 2]
    optimizer = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}],
        lr=1e-2, betas=(0.9, 0.95), foreach=False, fused=False,
    )  # fmt: skip
    losses, norms = [], []
    for step in range(3):
        batch = task.batch(step * 4, 4)
        with writing(model):  # transformers' own attention
            logits = model(input_ids=batch.tokens_N.view(4, -1), use_cache=False).logits
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), batch.targets_N)
        optimizer.zero_grad()
        loss.backward()
        norms.append(torch.nn.utils.clip_grad_norm_(model.parameters(), 0.5).item())
        optimizer.step()
        losses.append(loss.item())
    run_recipe(recipe, console=quiet)
    metrics = metrics_of(newest_run(home))
    assert [metrics["train/loss"][step] for step in (1, 2, 3)] == pytest.approx(losses, rel=1e-5)
    assert [metrics["train/grad_norm"][step] for step in (1, 2, 3)] == pytest.approx(norms, rel=1e-4)


def test_z_loss_is_learned_but_not_reported_as_loss(tiny, home, load, quiet):
    curves = []
    for z_loss in ("0", "1e-2"):
        run_recipe(load(tiny, NO_DROPOUT, f"stages.pretrain.train.z_loss={z_loss}"), console=quiet)
        curves.append(metrics_of(newest_run(home)))
    without, with_it = curves
    assert "train/z_loss" not in without
    assert with_it["eval/loss"][0] == without["eval/loss"][0]
    assert with_it["train/loss"][1] == pytest.approx(without["train/loss"][1], rel=1e-6)
    assert with_it["train/z_loss"][1] == pytest.approx(1e-2 * math.log(400) ** 2, rel=0.05)  # logits are near 0 yet
    assert with_it["train/grad_norm"][1] != pytest.approx(without["train/grad_norm"][1], rel=1e-3)


def test_two_runs_are_the_same_and_another_seed_is_another_run(train, tiny, home, load, quiet):
    first = train()
    run_recipe(load(tiny), fresh=True, console=quiet)
    assert len(list((home / "runs").iterdir())) == 2
    again = metrics_of(newest_run(home))
    assert first["train/loss"] == again["train/loss"]
    assert train("seed=8")["train/loss"] != first["train/loss"]


def test_watching_does_not_change_what_is_learned(train, home):
    """Evaluating, sampling and saving more or less often leaves every loss as it was."""
    quietly = train("stages.pretrain.eval.every=12 steps", "stages.pretrain.sample.every=12 steps")
    (home / "stages").rename(home / "old")
    (home / "runs").rename(home / "old runs")
    busily = train("stages.pretrain.eval.every=1 step", "stages.pretrain.sample.every=1 step")
    assert quietly["train/loss"] == busily["train/loss"]
    assert len(busily["eval/loss"]) > len(quietly["eval/loss"])


def test_a_loss_that_is_not_finite_stops_with_step_batch_and_documents(tiny, home, load, quiet, monkeypatch):
    original = LanguageModelTask.loss
    count = 0

    def poisoned(self, batch):
        nonlocal count
        output = original(self, batch)
        count += self.model.training
        if count == 8:  # the first is the probe's
            output.total.data.fill_(float("nan"))
        return output

    with monkeypatch.context() as patch:
        patch.setattr(LanguageModelTask, "loss", poisoned)
        with pytest.raises(TrainingFailed) as caught:
            run_recipe(load(tiny), console=quiet)
    message = str(caught.value)
    assert "step 7: the loss is nan, in part 1 of its batch, which comes from the document" in message
    assert "texts/17" in message
    assert f"the last good state is {newest_run(home).name}@step-4" in message
    about = json.loads((newest_run(home) / "run.json").read_text())
    assert about["outcome"] == "failed"
    assert [event["step"] for event in read_events(newest_run(home) / "metrics") if event["event"] == "failed"] == [7]
    run_recipe(load(tiny), console=quiet)  # what was saved is good: it goes on from step 4
    assert sorted(metrics_of(newest_run(home))["train/loss"]) == list(range(1, 13))


def test_a_learning_rate_that_is_far_too_high_ends_in_words_not_in_nonsense(tiny, load, quiet):
    overrides = ["stages.pretrain.train.lr=1e30", "stages.pretrain.train.clip=null", "stages.pretrain.train.warmup=0%"]
    with pytest.raises(TrainingFailed, match="a lower `lr`"):
        run_recipe(load(tiny, *overrides), console=quiet)


def test_it_stops_early_when_patience_ends(train, home):
    overfitting = ["stages.pretrain.train.duration=400 steps", "stages.pretrain.train.patience=2",
                   "stages.pretrain.train.lr=3e-2", "stages.pretrain.eval.every=10 steps"]  # fmt: skip
    metrics = train(*overfitting)
    last = max(metrics["train/loss"])
    assert last < 400
    evaluations = [(step, loss) for step, loss in sorted(metrics["eval/loss"].items()) if step % 10 == 0]  # not saves
    best = min(evaluations, key=lambda point: point[1])[0]
    assert sum(step > best for step, _ in evaluations) == 2
    repository = Repository(home / "hub", newest_run(home).name)
    assert repository.resolve("main").step == last
    events = read_events(newest_run(home) / "metrics")
    assert [event["event"] for event in events if event["step"] == last] == ["stop", "save"]


def test_a_run_that_never_gets_better_than_it_began_runs_out_of_patience(train):
    metrics = train("stages.pretrain.train.patience=1", "stages.pretrain.train.lr=5")
    assert metrics["eval/loss"][4] > metrics["eval/loss"][0]
    assert max(metrics["train/loss"]) == 4


def test_a_model_that_does_not_fit_is_refused_before_it_is_made(tiny, load, home, quiet, monkeypatch):
    monkeypatch.setattr("polyana.pipeline.training.available_bytes", lambda _: 400_000)
    with pytest.raises(
        UserError, match=r"need [0-9]+ kB, and 400 kB of memory are available; `polyana plan` says"
    ) as caught:
        run_recipe(load(tiny), console=quiet)
    assert caught.value.problems[0].where.endswith("tiny.yaml:9")
    assert not (home / "runs").exists()


def test_who_may_read_a_directory_may_read_the_weights_in_it(train, home):
    train()
    weights = Repository(home / "hub", newest_run(home).name)
    file = weights.snapshot(weights.resolve("main")) / "model.safetensors"
    assert file.resolve().stat().st_mode & 0o777 == file.parent.stat().st_mode & 0o666


def test_when_it_saves_does_not_decide_when_it_stops(tiny, home, load, quiet):
    """A save evaluates too; were that counted, clocks and signals would decide where training ends."""
    patient = ["stages.pretrain.train.patience=3", "stages.pretrain.train.lr=5", "stages.pretrain.eval.every=4 steps"]
    for every in (1, 100):
        run_recipe(load(tiny, *patient, f"stages.pretrain.save.every={every} steps"), fresh=True, console=quiet)
        assert max(metrics_of(newest_run(home))["train/loss"]) == 12


def test_best_is_the_lowest_eval_loss_among_the_saves(train, home):
    train("stages.pretrain.save.keep.best=5", "stages.pretrain.save.keep.last=5", "stages.pretrain.train.lr=5e-2")
    repository = Repository(home / "hub", newest_run(home).name)
    commits = repository.commits()
    assert [commit.step for commit in commits] == [4, 8, 12]
    assert repository.resolve("best") == min(commits, key=lambda commit: commit.metrics["eval/loss"])
    assert [commit.parent for commit in commits] == [None, commits[0].id, commits[1].id]


def test_without_held_out_text_it_trains_all_the_same(train, home):
    metrics = train("stages.corpus.eval=0", "stages.pretrain.eval={}")
    assert "eval/loss" not in metrics
    assert Repository(home / "hub", newest_run(home).name).resolve("best").step == 12


def test_a_full_disk_pauses_training_and_nothing_is_lost(tiny, load, small_disk, monkeypatch):
    monkeypatch.setenv("POLYANA_HOME", str(small_disk / "home"))
    monkeypatch.setattr("polyana.storage.disk._PAUSE", 0.05)
    said: list[str] = []
    timers: list[threading.Timer] = []
    filler = small_disk / "filler"

    class Listening(Console):
        def say(self, text: str, style: str = "") -> None:
            super().say(text, style)  # which also writes to log.txt on the full disk
            said.append(text)
            if "save" in text and not filler.exists() and not timers:
                free = os.statvfs(small_disk)
                filler.write_bytes(bytes(free.f_bavail * free.f_bsize - 200_000))
            elif "paused" in text and not timers:
                timers.append(threading.Timer(0.5, filler.unlink))
                timers[0].start()

    run_recipe(load(tiny), console=Listening(io.StringIO()))
    assert (newest_run(small_disk / "home") / "log.txt").exists()
    pauses = [text for text in said if text.startswith("paused")]
    assert pauses
    assert "are needed to save" in pauses[0]
    assert said.count("there is room again: going on") == len(pauses)
    metrics = metrics_of(newest_run(small_disk / "home"))
    assert sorted(metrics["train/loss"]) == list(range(1, 13))


def test_shards_that_cannot_be_written_end_training_and_the_state_before_is_gone_on_from(
    train, tiny, load, home, quiet, monkeypatch
):
    """As on a disk that fills up while training goes on."""
    sharded = "stages.pretrain.train.strategy=fsdp2"
    undisturbed = train(sharded)
    with monkeypatch.context() as patch:
        fsync, before = os.fsync, len(list(home.glob("runs/*/state/step-*")))

        def full(descriptor):
            file = Path(f"/proc/self/fd/{descriptor}").readlink().name
            if file.endswith(".distcp") and len(list(home.glob("runs/*/state/step-*"))) > before:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            fsync(descriptor)

        patch.setattr(os, "fsync", full)
        with pytest.raises(TrainingFailed, match=r"could not be saved \(process 1: .*No space left on device"):
            run_recipe(load(tiny, sharded), fresh=True, console=quiet)
    assert [path.name for path in (newest_run(home) / "state").glob("step-*")] == ["step-00000004"]
    run_recipe(load(tiny, sharded), console=quiet)
    assert metrics_of(newest_run(home))["train/loss"] == undisturbed["train/loss"]
    assert not list((newest_run(home) / "state").glob(".*"))


@pytest.mark.parametrize("all_of_it", [True, False])
def test_saves_that_somebody_deleted_are_made_again_from_the_state(tiny, home, load, quiet, all_of_it):
    run_recipe(load(tiny), console=quiet)
    name = newest_run(home).name
    weights = Repository(home / "hub", name).resolve("main").files["model.safetensors"]
    shutil.rmtree(home / "hub" if all_of_it else next((home / "hub").iterdir()) / "refs")
    run_recipe(load(tiny), console=quiet)
    again = Repository(home / "hub", name)
    assert again.resolve("main").files["model.safetensors"] == weights
    assert again.resolve("best").step == 12
    assert [path.name for path in (home / "runs").iterdir()] == [name]
    shutil.rmtree(home / "hub")
    shutil.rmtree(home / "runs")
    run_recipe(load(tiny), console=quiet)  # nothing left but the note that it was done: it is trained again
    assert Repository(home / "hub", newest_run(home).name).resolve("main").files["model.safetensors"] == weights


def test_a_finished_run_whose_result_was_lost_is_not_trained_again(tiny, home, load, quiet):
    before = run_recipe(load(tiny), console=quiet)
    shutil.rmtree(home / "stages")
    after = run_recipe(load(tiny), console=quiet)
    for summary in (before["pretrain"], after["pretrain"]):
        summary.pop("disk_bytes")  # one attempt more is written down
    assert after == before
    assert len(list((home / "runs").iterdir())) == 1


def test_a_state_of_an_earlier_version_is_gone_on_from(tiny, home, load, quiet, monkeypatch, tmp_path):
    """Which kept the optimizer's tensors in optimizer.pt, and knew files by their SHA-256."""
    tiny.write_text(tiny.read_text().replace("sample: {every: 6 steps", "sample: {every: 10 steps"))
    with monkeypatch.context() as patch:
        patch.setenv("POLYANA_HOME", str(tmp_path / "whole"))
        run_recipe(load(tiny), console=quiet)
        whole = metrics_of(newest_run(tmp_path / "whole"))
    written, sample = [], LanguageModelTask.sample

    def interrupt(task):
        written.append(task)
        if len(written) == 2:  # at step 10, behind the save of step 8
            raise KeyboardInterrupt
        return sample(task)

    with monkeypatch.context() as patch:
        patch.setattr(LanguageModelTask, "sample", interrupt)
        with pytest.raises(KeyboardInterrupt):
            run_recipe(load(tiny), console=quiet)
    run = newest_run(home)
    states = sorted(run.glob("state/step-*"))
    assert states, "it was interrupted before its first state"
    for state in states:
        content = torch.load(state / "optimizer.pt", weights_only=True)
        assert all(value is None for each in content["optimizer"]["state"].values() for value in each.values())
        for place, tensor in load_file(state / "optimizer.safetensors").items():
            index, _, name = place.partition(".")
            content["optimizer"]["state"][int(index)][name] = tensor
        torch.save(content, state / "optimizer.pt")
        (state / "optimizer.safetensors").unlink()
        about = json.loads((state / "state.json").read_text())
        names = [name for name in about["files"] if name != "optimizer.safetensors"]
        about["files"] = {name: sha256_of(state / name) for name in names}
        (state / "state.json").write_text(json.dumps(about))
    run_recipe(load(tiny), console=quiet)
    assert newest_run(home) == run
    for name in ("train/loss", "train/grad_norm", "eval/loss"):
        assert metrics_of(run)[name] == whole[name]


def test_a_run_interrupted_with_other_settings_is_named(tiny, home, load, monkeypatch):
    stream = io.StringIO()
    with monkeypatch.context() as patch:
        patch.setattr(LanguageModelTask, "sample", lambda _: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            run_recipe(load(tiny), console=Console(io.StringIO()))
    first = newest_run(home).name
    run_recipe(load(tiny, "stages.pretrain.train.lr=2e-2"), console=Console(stream))
    assert f"{first} was interrupted and stays as it is, for now train.lr was 0.01, is 0.02" in stream.getvalue()


def test_full_disks_are_known_behind_safetensors_and_torchs_own_errors(small_disk):
    from safetensors.torch import save_file

    from polyana.storage import is_disk_full

    big = {"x": torch.zeros(2_000_000)}

    def through_a_stream(path):
        with path.open("wb") as stream:
            torch.save(big, stream)

    for write in (partial(save_file, big), through_a_stream):
        with pytest.raises(Exception) as caught:  # noqa: PT011
            write(small_disk / "big")
        assert is_disk_full(caught.value), repr(caught.value)
        (small_disk / "big").unlink(missing_ok=True)
