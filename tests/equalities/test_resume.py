"""Killed at any moment and run again = never killed: every later loss and the weights, bit for bit."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import metrics_of, newest_run

from polyana.storage import has_checksum

SCRIPT = Path(__file__).with_name("crash_points.py")


def crash_points(recipe: Path, tmp_path: Path, first: int, stride: int, count: int) -> list[dict]:
    arguments = [str(recipe), str(tmp_path / "points"), str(first), str(stride), str(count)]
    process = subprocess.run(
        [sys.executable, str(SCRIPT), *arguments], capture_output=True, text=True, check=False,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert process.returncode == 0, process.stdout + process.stderr
    return [json.loads(line) for line in process.stdout.splitlines()]


def check(rows: list[dict], killed: int) -> None:
    whole, *others = rows
    assert [step for step, _ in whole["curve"]] == list(range(1, 13))
    for row in others:
        assert row["curve"] == whole["curve"], f"another curve after a kill at {row['point']}"
        assert row["weights"] == whole["weights"], f"other weights after a kill at {row['point']}"
        assert row["commit"] == whole["commit"], f"another model card after a kill at {row['point']}"
        assert row["steps"] == whole["steps"], f"other commits are kept after a kill at {row['point']}"
    assert sum(row["killed"] for row in others) >= killed


def test_killed_at_a_sample_of_its_durable_operations(tiny, tmp_path):
    check(crash_points(tiny, tmp_path, first=37, stride=23, count=9), killed=8)


@pytest.fixture
def sharded(tiny: Path) -> Path:
    """Whose state is written while training goes on."""
    tiny.write_text(tiny.read_text().replace("precision: fp32", "precision: fp32, strategy: fsdp2"))
    return tiny


def test_killed_while_shards_are_written_in_the_background(sharded, tmp_path):
    check(crash_points(sharded, tmp_path, first=60, stride=37, count=4), killed=3)


@pytest.mark.slow
@pytest.mark.timeout(6 * 3600)  # 300 kills, twenty seconds each on a busy machine
@pytest.mark.parametrize("recipe", ["tiny", "sharded"])
def test_killed_at_every_durable_operation(recipe, request, tmp_path):
    rows = crash_points(request.getfixturevalue(recipe), tmp_path, first=1, stride=1, count=2000)
    check(rows, killed=100)
    assert not rows[-1]["killed"], "there are more than 2000 operations"


def start(recipe: Path, home: Path) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", "polyana", "run", str(recipe)], stderr=subprocess.PIPE, text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1", "POLYANA_HOME": str(home)},
    )  # fmt: skip


def wait_for(home: Path, text: str, process: subprocess.Popen) -> None:
    """Until the run's metrics hold `text`."""
    limit = time.monotonic() + 240
    while time.monotonic() < limit and process.poll() is None:
        for path in home.glob("runs/*/metrics/*.jsonl"):
            if text in path.read_text():
                return
        time.sleep(0.005)
    raise AssertionError(f"the process ended, or a minute passed, before {text} came: {process.stderr.read()}")


@pytest.fixture
def long_recipe(tiny: Path) -> Path:
    """Long enough to be caught in the middle."""
    text = (
        tiny.read_text().replace("12 steps", "400 steps").replace("batch: 4", "batch: 16").replace("t: 32,", "t: 64,")
    )
    text = text.replace("every: 4 steps, keep", "every: 150 steps, keep")
    tiny.write_text(text.replace("eval: {every: 4 steps", "eval: {every: 100 steps"))
    return tiny


@pytest.fixture
def undisturbed(long_recipe: Path, tmp_path: Path, polyana_process) -> Path:
    polyana_process("run", long_recipe, POLYANA_HOME=str(tmp_path / "undisturbed"))
    return tmp_path / "undisturbed"


def test_killed_and_stopped_from_outside(long_recipe, undisturbed, tmp_path, polyana_process):
    """SIGKILL between saves, then SIGTERM, then to the end: one curve, the same weights, three attempts."""
    home = tmp_path / "home"
    process = start(long_recipe, home)
    wait_for(home, '"step":170,', process)
    process.kill()
    process.communicate()
    run = newest_run(home)
    assert json.loads((run / "run.json").read_text())["outcome"] == "interrupted"

    process = start(long_recipe, home)
    wait_for(home, '"step":220,', process)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=300)
    assert process.returncode == 128 + signal.SIGTERM, said
    assert "going on after step 150 of 400" in said
    assert "The same command goes on from here" in said
    stopped_at = max(step for step in metrics_of(run)["train/loss"])
    assert (run / "state" / f"step-{stopped_at:08d}").is_dir()

    said = polyana_process("run", long_recipe, "--resume", POLYANA_HOME=str(home)).stderr
    assert f"going on after step {stopped_at} of 400" in said
    assert newest_run(home) == run
    whole = newest_run(undisturbed)
    for name in ("train/loss", "train/grad_norm", "train/lr", "train/epoch"):
        assert metrics_of(run)[name] == metrics_of(whole)[name]
    assert weights(home) == weights(undisturbed)
    headers = [json.loads(path.read_text().splitlines()[0]) for path in sorted((run / "metrics").iterdir())]
    assert [(header["attempt"], header["parent"]) for header in headers] == [(1, None), (2, 1), (3, 2)]
    assert [header["resumes_at"] for header in headers] == [0, 150, stopped_at]


def weights(home: Path) -> str:
    (hub,) = (home / "hub").iterdir()
    return str((hub / "snapshots" / (hub / "refs" / "main").read_text() / "model.safetensors").readlink())


def test_a_second_signal_leaves_at_once(long_recipe, tmp_path):
    home = tmp_path / "home"
    process = start(long_recipe, home)
    wait_for(home, '"step":20,', process)
    process.send_signal(signal.SIGSTOP)  # both signals are there before it can act on the first
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGCONT)
    process.communicate(timeout=120)
    assert process.returncode in (128 + signal.SIGINT, 128 + signal.SIGTERM)
    assert not list((newest_run(home) / "state").glob("step-*"))


@pytest.mark.parametrize("file", ["optimizer.pt", "model.safetensors"])
def test_a_damaged_state_is_named_and_the_one_before_it_used(file, long_recipe, undisturbed, tmp_path, polyana_process):
    home = tmp_path / "home"
    process = start(long_recipe, home)
    wait_for(home, '"step":320,', process)
    process.kill()
    process.communicate()
    damaged = newest_run(home) / "state" / "step-00000300" / file
    content = bytearray(damaged.read_bytes())
    content[len(content) // 2] ^= 1
    damaged.write_bytes(content)
    said = polyana_process("run", long_recipe, POLYANA_HOME=str(home)).stderr
    assert f"{damaged} is damaged" in said
    assert "going on after step 150 of 400" in said
    assert weights(home) == weights(undisturbed)
    (hub,) = (home / "hub").iterdir()
    for blob in (hub / "blobs").iterdir():
        assert has_checksum(blob, blob.name), "the damage is still in the registry"


def test_two_processes_on_one_run(long_recipe, tmp_path, polyana_process):
    home = tmp_path / "home"
    long_recipe.write_text(long_recipe.read_text().replace("400 steps", "100k steps"))
    process = start(long_recipe, home)
    wait_for(home, '"step":20,', process)
    second = polyana_process("run", long_recipe, check=1, POLYANA_HOME=str(home))
    assert "tiny/pretrain is being made by another process" in second.stderr
    assert f"process {process.pid} on" in second.stderr
    listed = json.loads(polyana_process("runs", "--json", POLYANA_HOME=str(home)).stdout)
    assert listed[0]["status"] == "training"
    process.kill()
    process.communicate()
    assert json.loads(polyana_process("runs", "--json", POLYANA_HOME=str(home)).stdout)[0]["status"] == "interrupted"
