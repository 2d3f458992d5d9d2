"""`polyana watch` and `polyana compare` on real runs."""

import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time

import numpy as np
import pytest

from polyana import track
from polyana.terminal.chart import Curve, draw_chart
from polyana.tracking import find_runs


def lines_of(text):
    return text.plain.split("\n")


def test_a_chart_has_its_extremes_at_its_edges():
    x = np.arange(1000.0)
    y = np.where(x == 500, 9.0, x / 1000)  # one spike
    lines = lines_of(draw_chart("loss", [Curve("train/loss", x, y)], 60, 12))
    assert len(lines) == 12
    assert all(len(line) <= 60 for line in lines)
    assert lines[1].split()[0] == "9"
    spike = [place for place, letter in enumerate(lines[1]) if "\u2800" < letter <= "\u28ff"]
    assert spike == [pytest.approx(10 + 25, abs=1)]
    assert lines[-2].split()[0] == "0"
    assert lines[-1].split() == ["0", "999"]


def test_a_rising_line_rises_in_every_column():
    x = np.arange(100.0)
    rows = lines_of(draw_chart("y", [Curve("y", x, x)], 50, 14))[1:-1]
    heights = []
    for column in range(10, 50):
        heights.append(min(row for row, line in enumerate(rows) if len(line) > column and line[column] > "\u2800"))
    assert heights == sorted(heights, reverse=True)
    assert (heights[0], heights[-1]) == (11, 0)


@pytest.mark.parametrize(
    "y", [[1.0, 1.0, 1.0], [np.nan] * 3, [0.0, 0.0, 0.0], [np.inf, 1.0, -np.inf], [5.0], [], [1e300, -1e300, 1.0]]
)
@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize("width", [1, 20, 200])
def test_odd_curves_and_sizes_are_drawn(y, log, width):
    curve = Curve("y", np.arange(float(len(y))), np.array(y, dtype=np.float64))
    assert len(lines_of(draw_chart("y", [curve], width, 10, log=log))) == 10


def test_a_gap_is_no_line():
    curve = Curve("y", np.arange(5.0), np.array([0.0, 0.0, np.nan, 0.0, 1.0]))
    bottom = lines_of(draw_chart("y", [curve], 60, 8))[-2]
    assert bottom[10 + 20 : 10 + 30].strip() == ""


@pytest.fixture
def two(home):
    names = []
    for lr in (0.1, 0.2):
        with track.init("letters", f"lr{int(lr * 10)}", config={"train": {"lr": lr, "clip": 1}}) as run:
            for step in range(1, 101):
                run.log({"train/loss": 10 / step, "train/lr": lr}, step=step)
                if step % 25 == 0:
                    run.log({"eval/loss": abs(50 - step) / 10 + lr}, step=step)
        names.append(run.name)
    return names


def test_watch_once_into_a_pipe(two, polyana):
    said = polyana("watch", two[0], "--once").stdout
    assert two[0] in said
    assert "finished" in said
    assert "step 100" in said
    assert re.search(r"loss  train 0\.1  eval 5\.1", said)
    assert "train/lr" in said
    assert any("\u2800" < letter <= "\u28ff" for letter in said)
    assert "\x1b" not in said
    alone = polyana("watch", "letters-lr1", "--metric", "eval/loss", "--log").stdout
    assert "train" not in alone.partition("\n")[2]
    assert "has no `nothing`; it has: eval/loss" in polyana("watch", two[0], "--metric", "nothing", check=2).stderr
    assert "there is no run" in polyana("watch", "nobody", check=2).stderr


def test_watch_grows_resizes_and_leaves_the_training_alone(home):
    """In a real terminal: a run that goes on, a window that becomes smaller, Ctrl-C."""
    code = (
        "import time\nfrom polyana import track\nrun = track.init('letters', steps=9000)\n"
        "for step in range(1, 9001):\n    track.log({'train/loss': 10 / step}, step=step)\n    time.sleep(0.05)\n"
    )
    fixed = ("COLUMNS", "LINES")  # which readline sets in this process, and which would be the size for good
    environment = {name: value for name, value in os.environ.items() if name not in fixed}
    environment |= {"POLYANA_HOME": str(home), "TERM": "xterm-256color"}
    watching = None
    training = subprocess.Popen([sys.executable, "-c", code], env=environment)
    try:
        wait_until(lambda: find_runs(home / "runs") and list(find_runs(home / "runs")[0].metrics.iterdir()))
        ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 120, 0, 0))
        watching = subprocess.Popen(
            [sys.executable, "-m", "polyana", "watch", "letters"], env=environment, stdin=theirs, stdout=theirs,
            stderr=theirs, start_new_session=True,
        )  # fmt: skip
        os.close(theirs)
        seen = read_until(ours, lambda text: len(set(re.findall(r"step (\d+) of 9,000", text))) >= 3)
        steps = [int(step) for step in re.findall(r"step (\d+) of 9,000", seen)]
        assert steps == sorted(steps)
        assert "\x1b[?1049h" in seen  # on the other screen
        fcntl.ioctl(ours, termios.TIOCSWINSZ, struct.pack("HHHH", 20, 50, 0, 0))
        read_until(ours, lambda text: text.count("left") >= 1 or text.count("\u2026") >= 1)
        watching.send_signal(signal.SIGINT)
        last = read_until(
            ours, lambda text: "\x1b[?1049l" in text and "train/loss" in text.rpartition("\x1b[?1049l")[2]
        )
        assert watching.wait(60) == 0
        picture = last.rpartition("\x1b[?1049l")[2]
        plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", picture)
        assert not [line for line in plain.splitlines() if len(line) > 50]
        assert training.poll() is None
    finally:
        for process in (training, watching):
            if process is not None:
                process.kill()
                process.wait(30)


def read_until(terminal, found, seconds=240.0):
    text, end = b"", time.monotonic() + seconds
    while not found(text.decode("utf-8", "replace")):
        assert time.monotonic() < end, text[-2000:]
        if select.select([terminal], [], [], 0.2)[0]:
            try:
                text += os.read(terminal, 65536)
            except OSError:  # the other side has closed
                break
    return text.decode("utf-8", "replace")


def wait_until(true, seconds=240.0):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_compare_two_runs(two, polyana):
    found = json.loads(polyana("compare", "letters-lr1", "letters-lr2", "--json").stdout)
    assert [run["run"] for run in found["runs"]] == two
    rows = {row["metric"]: row for row in found["metrics"]}
    best = rows["eval/loss"]
    assert (best["by"], best["step_a"], best["a"], best["b"]) == ("lowest", 50, 0.1, 0.2)
    assert rows["train/loss"]["by"] == "last"
    assert found["settings"] == [{"key": "train.lr", "a": 0.1, "b": 0.2}]
    said = polyana("compare", *two).stdout
    assert "+100.0%" in said
    assert re.search(r"train\.lr\s+0\.1\s+0\.2", said)
    assert "clip" not in said
    assert "the same" in polyana("compare", two[0], two[0]).stdout
    assert "leave @best out" in polyana("compare", f"{two[0]}@best", two[1], check=2).stderr


def test_a_run_that_has_logged_nothing(home, polyana):
    name = track.init("empty").name
    track.finish()
    assert "nothing is logged yet" in polyana("watch", name, "--once").stdout
    assert "The settings are the same" in polyana("compare", name, name).stdout
