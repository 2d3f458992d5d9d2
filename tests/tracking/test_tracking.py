import io
import json
import os
import subprocess
import sys

import pytest

from polyana.tracking import (
    Console,
    MetricLog,
    RunDirectory,
    find_runs,
    name_run,
    read_curves,
    read_events,
    show_metrics,
    sparkline,
)


def log(directory, resumes_at, steps, value=float):
    metrics = MetricLog(directory, resumes_at, "recipe", print)
    for step in steps:
        metrics.log(step, {"train/loss": value(step)})
    metrics.close()


def test_a_resumed_run_is_one_curve(tmp_path):
    """Log 1..149, die, resume from the save at 100, log to 219: 219 points, strictly increasing, the later one wins."""
    log(tmp_path, 0, range(1, 150), lambda _: -1.0)
    log(tmp_path, 100, range(101, 220))
    points = read_curves(tmp_path)["train/loss"]
    assert [step for step, _ in points] == list(range(1, 220))
    assert all(value == (-1.0 if step <= 100 else step) for step, value in points)
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["attempt-0001.jsonl", "attempt-0002.jsonl"]
    assert len((tmp_path / "attempt-0001.jsonl").read_text().splitlines()) == 150  # the earlier tail is still there


def test_an_attempt_that_did_nothing_covers_nothing(tmp_path):
    log(tmp_path, 0, range(1, 10))
    log(tmp_path, 5, [])
    assert [step for step, _ in read_curves(tmp_path)["train/loss"]] == list(range(1, 10))


def test_what_was_not_measured_again_is_not_kept_from_a_lost_tail(tmp_path):
    log(tmp_path, 0, range(1, 30))
    log(tmp_path, 10, range(11, 15))
    assert read_curves(tmp_path)["train/loss"][-1][0] == 14


def test_every_step_survives_sigkill(tmp_path):
    code = (
        "import os, signal, sys\nfrom pathlib import Path\nfrom polyana.tracking import MetricLog\n"
        "log = MetricLog(Path(sys.argv[1]), 0, '', print)\n"
        "for step in range(1, 501): log.log(step, {'train/loss': 1.0})\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False, timeout=120)
    assert len(read_curves(tmp_path)["train/loss"]) == 500


def test_a_torn_line_and_a_loss_that_is_not_finite_are_read_past(tmp_path):
    log(tmp_path, 0, range(1, 4), lambda step: float("nan") if step == 2 else 1.0)
    with (tmp_path / "attempt-0001.jsonl").open("a") as file:
        file.write('{"step": 4, "train/lo')
    assert read_curves(tmp_path)["train/loss"] == [(1, 1.0), (3, 1.0)]
    for line in (tmp_path / "attempt-0001.jsonl").read_text().splitlines()[:-1]:
        json.loads(line, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


def test_events_stand_beside_numbers(tmp_path):
    metrics = MetricLog(tmp_path, 0, "recipe", print)
    metrics.event(3, "save", commit="abc")
    metrics.close()
    ((event),) = read_events(tmp_path)
    assert (event["step"], event["event"], event["commit"]) == (3, "save", "abc")
    assert read_curves(tmp_path) == {}


def test_a_run_has_a_name_a_place_and_an_end(tmp_path):
    run = RunDirectory.create(tmp_path, "demo", "pretrain", {"seed": 3})
    other = RunDirectory.create(tmp_path, "demo", "pretrain", {"seed": 3})
    assert run.name != other.name
    assert run.name.startswith("demo-pretrain-20")
    assert [found.name for found in find_runs(tmp_path)] == [run.name, other.name]
    assert run.status() == "interrupted"
    with run.lock():
        assert run.status() == "training"
    run.note(outcome="finished")
    assert run.status() == "finished"
    run.describe("name: demo\n")
    assert run.about()["seed"] == 3
    environment = json.loads((run.path / "environment.json").read_text())
    assert environment["packages"]["torch"]
    assert environment["cores"] == os.cpu_count()


def test_a_damaged_run_hides_no_other(tmp_path):
    damaged, whole = (RunDirectory.create(tmp_path, "demo", "pretrain", {}) for _ in range(2))
    (damaged.path / "run.json").write_text("")
    assert find_runs(tmp_path) == [whole]


def test_runs_are_named_by_recipe_stage_and_local_time():
    import time

    assert name_run("a", "b", time.mktime((2026, 11, 22, 1, 2, 3, 0, 0, -1))) == "a-b-2026-11-22_01.02.03"


def test_plain_lines_when_stderr_is_no_terminal(tmp_path):
    stream = io.StringIO()
    console = Console(stream)
    with console.copied_to(tmp_path / "log.txt"), console.gauge("train", 10) as gauge:
        gauge.show(1, "loss 1.0")
        console.say("  [bold] is text, not markup")
    assert stream.getvalue() == "  [bold] is text, not markup\n"
    assert (tmp_path / "log.txt").read_text().endswith("  [bold] is text, not markup\n")


def test_the_time_left_is_reckoned_from_the_first_report(monkeypatch):
    """What comes before it, as a range test or an evaluation, says nothing about what is left."""
    now = 0.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    stream = io.StringIO()
    with Console(stream).gauge("train", 10, start=4) as gauge:
        for done, now in ((5, 1000.0), (6, 1020.0), (7, 1060.0), (10, 1100.0)):  # noqa: B007
            gauge.show(done, "")
    said = [line.partition("ETA ")[2] for line in stream.getvalue().splitlines()]
    assert said == ["", "1:20", "1:30", ""]


def test_a_curve_in_one_line():
    assert sparkline([0.0, 1.0, 2.0, 3.0]) == "▁▃▆█"
    assert sparkline([]) == ""
    assert sparkline([5.0] * 4) == "▁▁▁▁"
    assert len(sparkline([float(i) for i in range(1000)], 24)) == 24


def test_metrics_of_an_evaluation_are_told_by_groups():
    metrics = {"eval/loss": 0.5, "gold/reward": 1.0, "eval/logps/chosen": -2.0, "gold/kl": 0.25, "eval/accuracy": 0.75}
    assert show_metrics(metrics) == ["loss 0.5  accuracy 0.75", "gold   reward 1  kl 0.25", "logps  chosen -2"]
    assert show_metrics({"gold/reward": 1.0}) == ["", "gold  reward 1"]
