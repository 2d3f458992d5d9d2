"""Several processes as a user starts them: one dies, one fails, all are stopped, all are started again."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

from conftest import metrics_of, newest_run

SETTINGS = {
    "train.duration": "600 steps", "model.dropout": "0", "sample": "null", "eval.every": "600 steps",
    "save.every": "40 steps",
}  # fmt: skip


LONG = 600  # seconds: less than the half hour after which a collective gives up, enough for the most crowded machine


def start(recipe: Path, home: Path, *options: str, **settings: str) -> subprocess.Popen:
    chosen = [f"--set=stages.pretrain.{name}={value}" for name, value in (SETTINGS | settings).items()]
    return subprocess.Popen(
        [sys.executable, "-m", "polyana", "run", str(recipe), "--processes", "2", *options, *chosen],
        stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1", "POLYANA_HOME": str(home)},
    )  # fmt: skip


def ranks(home: Path) -> dict[int, int]:
    """Rank -> process, of those that work in `home` now."""
    found = {}
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            environment = dict(pair.split(b"=", 1) for pair in path.read_bytes().split(b"\0") if b"=" in pair)
        except OSError:
            continue
        if environment.get(b"POLYANA_HOME") == str(home).encode() and b"RANK" in environment:
            found[int(environment[b"RANK"])] = int(path.parent.name)
    return found


def wait_for(home: Path, text: str, process: subprocess.Popen, attempt: int = 1) -> None:
    limit = time.monotonic() + LONG
    while time.monotonic() < limit and process.poll() is None:
        for path in home.glob(f"runs/*/metrics/attempt-{attempt:04d}.jsonl"):
            if text in path.read_text():
                return
        time.sleep(0.005)
    process.kill()
    raise AssertionError(f"it ended, or ten minutes passed, before {text} came: {process.communicate()[1]}")


def test_a_killed_rank_ends_all_and_restarts_go_on_from_the_last_save(tiny, home):
    process = start(tiny, home, "--restarts", "1", "--fresh")  # which only the first start obeys
    wait_for(home, '"step":60,', process)
    os.kill(ranks(home)[1], signal.SIGKILL)
    wait_for(home, '"step":90,', process, attempt=2)
    os.kill(ranks(home)[0], signal.SIGKILL)  # this time for good
    _, said = process.communicate(timeout=LONG)
    assert process.returncode == 1
    assert not ranks(home)
    assert said.splitlines()[-1].startswith("process 1 of 2 was ended by SIGKILL")
    assert "Traceback" not in said
    assert "a process died and all were started again, restart 1" in said
    assert "going on after step 40 of 600" in said
    headers = [json.loads(path.read_text().splitlines()[0]) for path in sorted(newest_run(home).glob("metrics/*"))]
    assert [header["resumes_at"] for header in headers] == [0, 40]
    steps = sorted(metrics_of(newest_run(home))["train/loss"])
    assert steps == list(range(1, steps[-1] + 1))


def test_a_stop_signal_saves_the_same_step_everywhere(tiny, home):
    process = start(tiny, home, **{"train.strategy": "fsdp2"})
    wait_for(home, '"step":20,', process)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=LONG)
    assert process.returncode == 128 + signal.SIGTERM, said
    step = int(re.search(r"stopped after step (\d+) of 600; saved as", said)[1])
    assert "Traceback" not in said
    run = newest_run(home)
    assert max(metrics_of(run)["train/loss"]) == step
    newest = max((run / "state").iterdir())
    assert newest.name == f"step-{step:08d}"
    assert {path.name for path in (newest / "shards").iterdir()} == {".metadata", "__0_0.distcp", "__1_0.distcp"}
    assert not list((run / "state").glob(".*"))


def test_mistakes_end_with_the_users_letter_and_exit_code(tiny, home, polyana_process):
    """Found by the launcher, by rank 0 before training, and by all ranks in training; none is tried again."""
    badly = polyana_process("run", tiny, "--processes=2", "--set", "stages.pretrain.train.learning=1", check=2)
    assert "unknown key `learning`" in badly.stderr
    alone = ("--set", "stages.pretrain.train.strategy=single")
    single = polyana_process("run", tiny, "--processes=2", "--restarts=3", *alone, check=2)
    assert "`strategy: single` is for one process, and 2 were started; write auto, ddp or fsdp2" in single.stderr
    assert "Traceback" not in single.stderr
    wild = [f"--set=stages.pretrain.train.{setting}" for setting in ("lr=1e30", "clip=null", "warmup=0%")]
    nonsense = polyana_process("run", tiny, "--processes=2", "--restarts=3", *wild, check=1)
    assert "a lower `lr`, a longer `warmup` or a smaller `clip` often helps" in nonsense.stderr
    assert nonsense.stderr.count("Training stopped") == 1
    assert "Traceback" not in nonsense.stderr


def test_a_rank_that_fails_says_so_first_and_alone(tiny, home, torchrun):
    case = {"home": str(home), "recipe": str(tiny), "overrides": [], "trouble": "error"}
    process = torchrun(2, [case])
    assert process.returncode == 1
    assert process.stderr.count("LookupError: this rank's own mistake") == 1
    assert "process 2 of 2 failed" in process.stderr
    ours = process.stderr.split("ChildFailedError")[0]
    assert "gloo" not in ours
