"""Training in fp16, on the CPU: like fp32, through overflows, and bit for bit over a kill."""

import io
import os
import signal
import subprocess
import sys

import pytest
from conftest import metrics_of, newest_run

from polyana.errors import TrainingFailed
from polyana.run import run_recipe
from polyana.tracking import Console, read_events

QUIET = Console(io.StringIO())
FP16 = "stages.pretrain.train.precision=fp16"


@pytest.fixture
def train(tiny, home, load):
    """train(precision): the metrics of a run without dropout."""

    def train(precision):
        # a large epsilon, without which AdamW does not see the size of gradients
        overrides = ["stages.pretrain.train.optimizer.epsilon=0.01", "stages.pretrain.model.dropout=0"]
        run_recipe(load(tiny, f"stages.pretrain.train.precision={precision}", *overrides), console=QUIET, fresh=True)
        return metrics_of(newest_run(home))

    return train


def apart(found, expected, name) -> float:
    """The largest relative difference of a metric over all steps."""
    assert found[name].keys() == expected[name].keys()
    return max(abs(found[name][step] / value - 1) for step, value in expected[name].items())


def test_fp16_learns_as_fp32_does_and_needs_its_scale_for_it(train, home, monkeypatch):
    """fp16 has 11 binary digits, 5e-4. Seen over 12 steps: 3e-6 for the loss and 6e-5 for the gradient's norm; with a
    scale so low that gradients vanish 1e-3 and 1e-2."""
    fp32, fp16 = train("fp32"), train("fp16")
    assert 0 < apart(fp16, fp32, "train/loss") < 5e-5
    assert apart(fp16, fp32, "eval/loss") < 5e-5
    assert apart(fp16, fp32, "train/grad_norm") < 1e-3
    assert set(fp16["train/loss_scale"].values()) == {2.0**16 / (4 * 32)}
    assert "train/loss_scale" not in fp32
    assert not [event for event in read_events(newest_run(home) / "metrics") if event["event"] == "overflow"]
    monkeypatch.setattr("polyana.train.loss_scale._FIRST", 2.0**-10)
    vanishing = train("fp16")
    assert apart(vanishing, fp32, "train/loss") > 5e-4
    assert apart(vanishing, fp32, "train/grad_norm") > 4e-3


def test_an_overflow_is_skipped_and_logged_and_training_goes_on(tiny, home, load, monkeypatch):
    """The scale begins 2^20 times too high."""
    monkeypatch.setattr("polyana.train.loss_scale._FIRST", 2.0**36)
    run_recipe(load(tiny, FP16, "stages.pretrain.train.duration=24 steps"), console=QUIET)
    run = newest_run(home)
    metrics = metrics_of(run)
    skipped = [event["step"] for event in read_events(run / "metrics") if event["event"] == "overflow"]
    assert 3 < len(skipped) < 20
    assert skipped == list(range(1, len(skipped) + 1))
    scales = metrics["train/loss_scale"]
    assert [scales[step + 1] / scales[step] for step in skipped] == [0.5] * len(skipped)
    assert [scales[step] for step in range(skipped[-1] + 1, 25)] == [scales[skipped[-1]] / 2] * (24 - len(skipped))
    assert all(step not in metrics["train/grad_norm"] for step in skipped)  # not finite: written as null
    assert metrics["train/loss"][24] < metrics["train/loss"][1]


def test_weights_stay_as_they_are_in_a_skipped_step(tiny, home, load, monkeypatch):
    monkeypatch.setattr("polyana.train.loss_scale._FIRST", 2.0**60)
    run_recipe(load(tiny, FP16, "stages.pretrain.train.duration=4 steps"), console=QUIET)
    evaluations = metrics_of(newest_run(home))["eval/loss"]
    assert evaluations[0] == evaluations[4]


def test_gradients_that_are_never_finite_end_the_run(tiny, load, monkeypatch):
    monkeypatch.setattr("polyana.distributed.Strategy.gradient_norm", lambda *_: float("nan"))
    with pytest.raises(TrainingFailed, match="its gradient's norm is nan"):
        run_recipe(load(tiny, FP16, "stages.pretrain.train.duration=40 steps"), console=QUIET)


KILLED = """
import os, signal, sys
import torch
torch.set_num_threads(1)
from polyana.recipe import load_recipe
from polyana.run import run_recipe
from polyana.train import Trainer, loss_scale
loss_scale._FIRST = 2.0**32      # overflows in the first steps
loss_scale._GROWTH_INTERVAL = 3  # grows between saves, so that the count of clean steps must be saved too
step = Trainer._step
def killed(self, gauge):
    if self.position.step == int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)
    step(self, gauge)
Trainer._step = killed
train = "stages.pretrain.train"
run_recipe(load_recipe(sys.argv[1], [f"{train}.precision=fp16", f"{train}.duration=26 steps"]))
"""


def test_killed_and_resumed_is_bit_for_bit_the_same(tiny, tmp_path):
    def train(home, at):
        command = [sys.executable, "-c", KILLED, str(tiny), str(at)]
        environment = os.environ | {"POLYANA_HOME": str(home), "OMP_NUM_THREADS": "1"}
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    whole, torn = tmp_path / "whole", tmp_path / "torn"
    assert train(whole, -1).returncode == 0
    assert train(torn, 25).returncode == -signal.SIGKILL  # the save before, of step 24, has two clean steps
    ended = train(torn, -1)
    assert ended.returncode == 0, ended.stderr
    expected, found = metrics_of(newest_run(whole)), metrics_of(newest_run(torn))
    for name in ("train/loss", "train/loss_scale", "train/grad_norm", "eval/loss"):
        assert found[name] == expected[name]
    assert len(set(expected["train/loss_scale"].values())) > 5
    assert weights(torn) == weights(whole)


def weights(home) -> str:
    (hub,) = (home / "hub").iterdir()
    return str((hub / "snapshots" / (hub / "refs" / "main").read_text() / "model.safetensors").readlink())
