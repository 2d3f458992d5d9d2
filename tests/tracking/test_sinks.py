"""Sinks with the real libraries, those libraries' own readers as oracles; real things that fail and hang."""

import csv
import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import textwrap
import time
from importlib.util import find_spec

import pytest

from polyana.storage import is_held
from polyana.tracking import Histogram, MetricLog, RunDirectory, find_runs
from polyana.tracking.sinks import CsvConfig, MlflowConfig, Sinks, TensorboardConfig, TrackioConfig, WandbConfig

ABOUT = {"fingerprint": "", "settings": {"train": {"lr": 0.1}}}


def needs(package):
    return pytest.mark.skipif(find_spec(package) is None, reason=f"{package} is not installed")


@pytest.fixture
def run(home):
    return RunDirectory.create(home / "runs", "letters", "pretrain", ABOUT)


@pytest.fixture
def said():
    return []


def attempt(run, config, said, first, last, *, patience=60.0, more=None):
    """Log steps `first` to `last` as one attempt that is told to a sink."""
    with Sinks(run, [config], said.append, patience):
        log = MetricLog(run.metrics, first - 1, "", said.append)
        for step in range(first, last + 1):
            log.log(step, {"train/loss": 10 / step, "train/lr": 0.1})
            if step % 50 == 0:
                log.event(step, "save")
        if more:
            more(log)
        log.close()
        run.note(outcome="finished")


def read_csv(run):
    with (run.path / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_csv_has_each_step_once_when_a_run_is_resumed(run, said):
    attempt(run, CsvConfig(), said, 1, 150)
    attempt(run, CsvConfig(), said, 101, 220, more=lambda log: log.log(220, {"eval/loss": 0.5, "eval/odd": None}))
    rows = read_csv(run)
    assert [int(row["step"]) for row in rows] == [*range(1, 221), 220]
    assert [float(row["train/loss"]) for row in rows[:-1]] == [10 / step for step in range(1, 221)]
    assert (rows[-1]["eval/loss"], rows[-1]["eval/odd"], rows[-1]["train/loss"]) == ("0.5", "", "")
    assert rows[0]["eval/loss"] == ""
    assert not troubles(said)


def test_what_a_sink_missed_it_is_told_by_the_next_attempt(run, said):
    log = MetricLog(run.metrics, 0, "", said.append)  # nobody is told of it
    for step in range(1, 31):
        log.log(step, {"train/loss": 1.0 * step})
    log.close()
    attempt(run, CsvConfig(), said, 21, 40)
    assert [int(row["step"]) for row in read_csv(run)] == list(range(1, 41))


def test_a_sink_that_hangs_is_killed_and_what_it_missed_is_counted(run, said):
    os.mkfifo(run.path / "metrics.csv")  # opening it waits, in C, for a reader who never comes
    began = time.monotonic()
    with Sinks(run, [CsvConfig()], said.append, patience=3.0):
        log = MetricLog(run.metrics, 0, "", said.append)
        slowest = 0.0
        for step in range(1, 2001):
            before = time.monotonic()
            log.log(step, {"train/loss": 1.0})
            slowest = max(slowest, time.monotonic() - before)
        logged = time.monotonic() - began
        time.sleep(1.0)
        log.close()
    assert logged < 20.0  # a crowded machine; a hang would have no end
    assert slowest < 5.0
    assert time.monotonic() - began < 40.0
    assert "at most 3 s" in said[0]
    assert "csv was not done in time: 2,000 rows were not sent" in said[1]
    assert len(said) == 2


def test_a_sink_that_fails_is_said_once_and_tried_again(run, said):
    (run.path / "metrics.csv").mkdir()
    with Sinks(run, [CsvConfig()], said.append):
        log = MetricLog(run.metrics, 0, "", said.append)
        log.log(1, {"train/loss": 1.0})
        wait_until(lambda: said)
        time.sleep(2.5)
        assert len(said) == 1
        assert "csv fails and is tried again: IsADirectoryError" in said[0]
        (run.path / "metrics.csv").rmdir()
        wait_until(lambda: len(said) == 2)
        log.log(2, {"train/loss": 0.5})
        log.close()
    assert "csv works again" in said[1]
    assert [row["step"] for row in read_csv(run)] == ["1", "2"]


def test_a_sink_that_fails_to_the_end_says_how_much_is_missing(run, said):
    (run.path / "metrics.csv").mkdir()
    attempt(run, CsvConfig(), said, 1, 7)
    assert "csv failed: 7 rows were not sent; the run has them all" in said[-1]


def test_a_second_sink_of_a_kind_and_a_failing_neighbour(run, said):
    with Sinks(run, [CsvConfig(), MlflowConfig(uri="nonsense://nowhere")], said.append):
        log = MetricLog(run.metrics, 0, "", said.append)
        log.log(1, {"train/loss": 1.0})
        log.close()
    assert len(read_csv(run)) == 1
    assert any("mlflow failed: 1 rows" in line for line in said)


def test_a_sink_outlives_a_killed_training_and_sends_the_rest(home):
    script = f"""
        import os, signal
        from polyana.tracking import MetricLog, RunDirectory
        from polyana.tracking.sinks import CsvConfig, Sinks
        from pathlib import Path
        run = RunDirectory.create(Path({str(home / "runs")!r}), "letters", "pretrain", {ABOUT!r})
        with Sinks(run, [CsvConfig()], print):
            log = MetricLog(run.metrics, 0, "", print)
            for step in range(1, 501):
                log.log(step, {{"train/loss": 1.0}})
            os.kill(os.getpid(), signal.SIGKILL)
    """
    ended = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], check=False, timeout=120)
    assert ended.returncode == -signal.SIGKILL
    (run,) = find_runs(home / "runs")
    wait_until(lambda: (run.path / "metrics.csv").exists() and len(read_csv(run)) == 500)


def test_a_hanging_sink_of_a_killed_training_ends_too(home):
    script = f"""
        import os, signal
        from polyana.tracking import MetricLog, RunDirectory
        from polyana.tracking.sinks import CsvConfig, Sinks
        from pathlib import Path
        run = RunDirectory.create(Path({str(home / "runs")!r}), "letters", "pretrain", {ABOUT!r})
        os.mkfifo(run.path / "metrics.csv")
        with Sinks(run, [CsvConfig()], print, patience=1.0):
            os.kill(os.getpid(), signal.SIGKILL)
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(script)], check=False, timeout=120)
    (run,) = find_runs(home / "runs")
    lock = run.path / "sinks" / "csv.lock"
    wait_until(lambda: is_held(lock))
    wait_until(lambda: not is_held(lock))
    (run.path / "metrics.csv").unlink()
    said = []
    attempt(run, CsvConfig(), said, 1, 3)
    assert len(read_csv(run)) == 3


def test_training_tells_its_sinks_and_a_missing_package_is_a_letter(tiny, home, polyana, monkeypatch):
    polyana("run", str(tiny), "--set", "stages.pretrain.track.sinks=[csv]")
    (run,) = find_runs(home / "runs")
    told = {row["step"] for row in read_csv(run) if row["train/loss"]}
    assert told == {str(step) for step in range(1, 13)}
    assert {row["step"] for row in read_csv(run) if row["eval/loss"]} >= {"0", "4", "8", "12"}
    monkeypatch.setattr("polyana.tracking.sinks.config.find_spec", {}.get)  # as where none is installed
    ended = polyana("run", str(tiny), "--set", "stages.pretrain.track.sinks=[{kind: wandb, project: x}]", check=2)
    assert "the sink wandb needs the package wandb; run: pip install 'polyana[wandb]'" in ended.stderr


@needs("tensorboard")
def test_tensorboard_reads_each_step_once(run, said):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    def more(log):
        log.histograms(150, {"weights/head": Histogram(-1.0, 1.0, [1] * 32 + [2] * 32, 0.0, 3.0)})
        log.text(150, "note", "**bold**")
        log.table(150, "scores", ["name", "value"], [["a", 1]])

    attempt(run, TensorboardConfig(), said, 1, 150, more=more)
    attempt(run, TensorboardConfig(), said, 101, 220, more=more)
    reader = EventAccumulator(str(run.path / "tensorboard"), size_guidance={"scalars": 0, "histograms": 0})
    reader.Reload()
    points = reader.Scalars("train/loss")
    assert [point.step for point in points] == list(range(1, 221))
    assert [point.value for point in points] == pytest.approx([10 / step for step in range(1, 221)])
    (spread,) = reader.Histograms("weights/head")
    assert spread.histogram_value.num == 96
    assert set(reader.Tags()["tensors"]) >= {"settings/text_summary", "note/text_summary", "scores/text_summary"}
    assert reader.Tensors("note/text_summary")[-1].tensor_proto.string_val[0] == b"**bold**"
    assert not troubles(said)


@needs("tensorboard")
def test_tensorboard_in_a_directory_of_its_own(run, said, tmp_path):
    attempt(run, TensorboardConfig(directory=str(tmp_path / "logs")), said, 1, 3)
    assert len(list((tmp_path / "logs" / run.name).iterdir())) == 1
    assert not (run.path / "tensorboard").exists()


@pytest.mark.slow
@needs("wandb")
def test_wandb_offline_goes_on_under_one_id(run, said):
    from polyana.importers.wandb import read_wandb  # its own oracle: test_importers.py

    config = WandbConfig(project="letters-too", mode="offline")
    attempt(run, config, said, 1, 150, more=lambda log: log.text(150, "note", "x"))
    attempt(run, config, said, 101, 220)
    files = sorted((run.path / "sinks").rglob("*.wandb"), key=lambda file: file.stat().st_mtime)
    assert len(files) == 2
    runs = [read_wandb(file) for file in files]
    assert runs[0].identity == runs[1].identity
    assert {each.project for each in runs} == {"letters-too"}
    assert runs[0].name == run.name
    assert runs[0].config["train.lr"] == 0.1
    steps = [row["step"] for each in runs for row in each.attempts[0].rows if "train/loss" in row]
    assert steps == list(range(1, 221))
    assert not troubles(said), (run.path / "sinks" / "wandb.log").read_text()[-3000:]


@pytest.mark.slow
@needs("mlflow")
@pytest.mark.filterwarnings("ignore")  # MLflow's own, of the library that it reads its database with
def test_mlflow_keeps_one_run_with_each_step_once(run, said, tmp_path):
    from mlflow.tracking import MlflowClient

    store = f"sqlite:///{tmp_path}/mlflow.db" if find_spec("sqlalchemy") else (tmp_path / "mlruns").as_uri()
    config = MlflowConfig(uri=store, experiment="letters-too")
    attempt(run, config, said, 1, 150)
    attempt(run, config, said, 101, 220)
    assert not troubles(said), (run.path / "sinks" / "mlflow.log").read_text()[-3000:]
    client = MlflowClient(tracking_uri=store)
    (found,) = client.search_runs([client.get_experiment_by_name("letters-too").experiment_id])
    assert (found.info.run_name, found.info.status) == (run.name, "FINISHED")
    assert found.data.params["train.lr"] == "0.1"
    points = sorted(client.get_metric_history(found.info.run_id, "train/loss"), key=lambda point: point.step)
    assert [point.step for point in points] == list(range(1, 221))
    assert [point.value for point in points] == pytest.approx([10 / step for step in range(1, 221)])


@pytest.mark.slow
@needs("mlflow")
def test_a_server_that_never_answers(run, said):
    with socket.create_server(("127.0.0.1", 0)) as mute:
        config = MlflowConfig(uri=f"http://127.0.0.1:{mute.getsockname()[1]}")
        attempt(run, config, said, 1, 100, patience=10.0)
    assert "mlflow was not done in time: 100 rows were not sent" in said[-1]


@pytest.mark.slow
@needs("trackio")
def test_trackio_on_this_machine(run, said, tmp_path, monkeypatch):
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    attempt(run, TrackioConfig(project="letters-too"), said, 1, 150)
    attempt(run, TrackioConfig(project="letters-too"), said, 101, 220)
    assert not troubles(said), (run.path / "sinks" / "trackio.log").read_text()[-3000:]
    (store,) = (tmp_path / "trackio").glob("*.db")
    with sqlite3.connect(store) as connection:
        rows = connection.execute("SELECT run_name, step, metrics FROM metrics ORDER BY step").fetchall()
    assert {name for name, _, _ in rows} == {run.name}
    assert [step for _, step, _ in rows] == list(range(1, 221))
    assert json.loads(rows[9][2])["train/loss"] == 1.0


def troubles(said):
    """What is said, but for a word while the rest is being sent."""
    return [line for line in said if "the rest is being sent" not in line]


def wait_until(true, seconds=60.0):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.05)
