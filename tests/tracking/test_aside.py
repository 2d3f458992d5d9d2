"""Real processes that step aside: whatever session they were started in, and however they end."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from polyana.errors import UserError
from polyana.storage import locked
from polyana.tracking.aside import is_training_here, step_aside

GROUPED = Path("/proc/self/autogroup").exists()
SCRIPT = """
import json, os, signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # tests in the background ignore it, and what they start
from pathlib import Path
from polyana.tracking.aside import step_aside
step_aside(Path(sys.argv[1]))
group = Path("/proc/self/autogroup")
print(json.dumps({"pid": os.getpid(), "session": os.getsid(0), "nice": os.nice(0),
                  "group": group.read_text().split()[-1] if group.exists() else "19",
                  "threads": os.environ.get("OMP_NUM_THREADS")}), flush=True)
exec(sys.argv[2])
"""


@pytest.fixture
def start(tmp_path):
    """start(code, new session?): a process that has stepped aside and goes on with `code`; what it said first."""
    processes = []
    environment = {name: value for name, value in os.environ.items() if name not in ("OMP_NUM_THREADS", "POLYANA_NICE")}

    def begin(code, apart=False):
        process = subprocess.Popen(
            [sys.executable, "-c", SCRIPT, str(tmp_path), code], stdout=subprocess.PIPE, text=True,
            env=environment | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}, start_new_session=apart,
        )  # fmt: skip
        processes.append(process)
        return process, json.loads(process.stdout.readline())

    yield begin
    for process in processes:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("apart", [False, True])
def test_its_session_has_the_lowest_priority_and_ours_keeps_its_own(apart, start):
    ours = Path("/proc/self/autogroup").read_text() if GROUPED else ""
    process, said = start("sys.exit(3)", apart)
    assert process.wait() == 3
    assert (said["nice"], said["group"], said["threads"]) == (19, "19", None)
    if GROUPED:
        assert said["session"] == said["pid"] != os.getsid(0)
        assert (said["pid"] == process.pid) == apart
        assert Path("/proc/self/autogroup").read_text() == ours


@pytest.mark.parametrize("written", ["ten", "-1", "20"])
def test_a_priority_that_is_none_is_told(written, monkeypatch, tmp_path):
    monkeypatch.setenv("POLYANA_NICE", written)
    with pytest.raises(UserError, match="a number from 0 to 19"):
        step_aside(tmp_path)


def test_one_thread_while_a_run_trains(start, tmp_path):
    run = tmp_path / "runs" / "demo"
    run.mkdir(parents=True)
    assert not is_training_here(tmp_path)
    with locked(run / ".lock", "demo is being trained"):
        assert is_training_here(tmp_path)
        assert start("")[1]["threads"] == "1"
    assert not is_training_here(tmp_path)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_reaches_it_and_ends_both(number, start):
    process, said = start("time.sleep(60)")
    process.send_signal(number)
    assert process.wait(10) == -number
    assert is_gone(said["pid"])


def test_it_dies_with_whoever_started_it(start):
    process, said = start("time.sleep(60)")
    process.kill()
    process.wait()
    assert is_gone(said["pid"])


@pytest.mark.skipif(not GROUPED, reason="nothing is grouped by session here")
def test_it_stops_and_goes_on(start):
    process, said = start("time.sleep(60)")
    process.send_signal(signal.SIGTSTP)
    assert state_of(said["pid"], "T") == state_of(process.pid, "T") == "T"
    process.send_signal(signal.SIGCONT)
    assert state_of(said["pid"], "S") == "S"


def state_of(pid, wanted):
    """What it does, as soon as it does what is wanted, or after a minute."""
    until = time.monotonic() + 60
    while time.monotonic() < until:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            state = "gone"
        if state == wanted:
            break
        time.sleep(0.01)
    return state


def is_gone(pid):
    return state_of(pid, "gone") in ("gone", "Z") if Path("/proc").exists() else True
