"""Advice over HTTP: on the curve without its ghosts, remembered, and marked in the table."""

import time

import numpy as np
import pytest
from recorded_runs import read_recorded

from polyana.dashboard.runs import Catalogue
from polyana.tracking import Histogram, Index, MetricLog, RunDirectory


def write_recorded(home, name: str, log: MetricLog | None = None) -> RunDirectory:
    """A recorded run as a training has left it."""
    seen = read_recorded(name)
    settings = {"train": {"clip": seen.clip}}
    run = RunDirectory.create(home / "runs", name, "pretrain", {"settings": settings, "fingerprint": "0" * 64})
    run.note(outcome="finished", planned_steps=seen.planned_steps)
    write_curves(MetricLog(run.metrics, 0, "", print), seen)
    return run


def write_curves(log: MetricLog, seen) -> None:
    rows: dict[int, dict[str, float]] = {}
    for metric, (steps, values) in seen.curves.items():
        for step, value in zip(steps, values, strict=True):
            rows.setdefault(int(step), {})[metric] = float(value)
    spreads: dict[int, dict[str, Histogram]] = {}
    for group, spread in seen.gradients.items():
        for step, zeros, norm in zip(spread.steps, spread.zeros, spread.norm, strict=True):
            spreads.setdefault(step, {})[f"gradients/{group}"] = Histogram(-1, 1, [1] * 64, zeros, norm)
    for step in sorted(rows):
        if step in spreads:
            log.histograms(step, spreads[step])
        log.log(step, rows[step])
    log.close()


@pytest.mark.parametrize("name", ["healthy_gpt2", "overfitting", "dead_gradients", "data_waits"])
def test_a_run_has_its_advice_and_the_table_a_mark(name, home, serve):
    run, browser = write_recorded(home, name), serve()
    assert browser.get("/api/runs")["runs"][0]["advice"] is None  # nobody has looked
    found = browser.get(f"/api/runs/{run.name}")["advice"]
    expected = [] if name.startswith("healthy") else [name]
    assert [each["kind"] for each in found] == expected
    for each in found:
        assert set(each) == {"kind", "title", "text", "severity", "evidence"}
    mark = browser.get("/api/runs")["runs"][0]["advice"]
    assert mark == ({"kind": name, "severity": "warning"} if expected else None)


def test_what_was_lost_and_done_again_is_not_spoken_of(home, serve):
    """It diverged; somebody went on from step 40 with a rate that was right."""
    run, browser = write_recorded(home, "divergence"), serve()
    assert browser.get(f"/api/runs/{run.name}")["advice"][0]["kind"] == "divergence"
    seen = read_recorded("healthy_gpt2")
    later = {metric: (steps[steps > 40], values[steps > 40]) for metric, (steps, values) in seen.curves.items()}
    write_curves(MetricLog(run.metrics, 40, "", print), type(seen)(later))
    detail = browser.get(f"/api/runs/{run.name}")
    assert detail["attempts"] == 2
    assert detail["advice"] == []


def test_it_is_looked_for_once_and_again_when_the_run_has_moved(home, monkeypatch):
    run = write_recorded(home, "overfitting")
    looked = []
    from polyana.dashboard import advice

    original = advice.advise
    monkeypatch.setattr(advice, "advise", lambda seen: looked.append(seen) or original(seen))
    catalogue = Catalogue(home, Index(home / "index.sqlite"))
    catalogue.look()
    first = catalogue.detail(run.name)["advice"]
    assert catalogue.detail(run.name)["advice"] == first
    assert len(looked) == 1
    time.sleep(0.01)
    log = MetricLog(run.metrics, 400, "", print)
    log.log(401, {"train/loss": 1.5})
    log.close()
    catalogue.detail(run.name)
    assert len(looked) == 2
    run.note(outcome="interrupted")
    with run.lock():  # training: it is not looked at again at once
        for step in (402, 403, 404):
            log = MetricLog(run.metrics, step, "", print)
            log.log(step, {"train/loss": 1.5})
            log.close()
            catalogue.detail(run.name)
    assert len(looked) == 3


def test_while_somebody_watches_runs_that_move_get_their_marks(home, serve):
    old = write_recorded(home, "overfitting")
    time.sleep(1.1)  # a file's time and the clock may differ by a tick
    browser = serve()
    cursor = browser.get("/api/runs")["cursor"]
    new = write_recorded(home, "data_waits")
    marks = {}
    for kind, data, _ in browser.events(f"/api/live?cursor={cursor}", 6):
        if kind == "update":
            marks |= {run["name"]: run["advice"] for run in data["runs"] if run.get("advice")}
            if marks:
                break
    assert marks == {new.name: {"kind": "data_waits", "severity": "warning"}}
    assert {run["name"]: run["advice"] for run in browser.get("/api/runs")["runs"]}[
        old.name
    ] is None  # nobody opened it


@pytest.mark.slow
def test_a_million_points_cost_no_more_than_a_second(home, tmp_path):
    run = write_recorded(home, "healthy_gpt2")
    (run.metrics / "attempt-0001.jsonl").unlink()
    log, noise = MetricLog(run.metrics, 0, "", print), np.random.default_rng(0).normal(0, 0.05, 1_000_000)
    for step in range(1, 1_000_001):
        log.log(step, {"train/loss": 3 + 4 / step**0.3 + noise[step - 1], "train/grad_norm": 0.8, "train/lr": 1e-3})
    log.close()
    catalogue = Catalogue(home, Index(home / "index.sqlite"))
    catalogue.look()
    catalogue.catch_up(run.name)
    began = time.process_time()
    catalogue.detail(run.name)
    assert time.process_time() - began < 1
