"""Old runs of TensorBoard, Trackio and W&B, written by those themselves."""

import json
import os
import subprocess
import sys
import textwrap
from importlib.util import find_spec

import pytest

from polyana.importers.foreign import rebinned
from polyana.tracking import Curves, Index, find_run, find_runs, read_attempts, read_curves


def needs(package):
    return pytest.mark.skipif(find_spec(package) is None, reason=f"{package} is not installed")


def python(code, **environment):
    """Run a script of another tracker's user, in a process of its own."""
    ended = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", textwrap.dedent(code)],
        env=os.environ | environment, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


WRITE_EVENTS = """
    import sys, time
    from tensorboard.compat.proto.event_pb2 import Event, SessionLog
    from tensorboard.compat.proto.summary_pb2 import HistogramProto, Summary
    from tensorboard.summary.writer.event_file_writer import EventFileWriter
    directory, first, last, mark, tag = sys.argv[1:]
    writer = EventFileWriter(directory)
    if int(mark):
        writer.add_event(Event(step=int(mark), session_log=SessionLog(status=SessionLog.START)))
    for step in range(int(first), int(last) + 1):
        values = [Summary.Value(tag=tag, simple_value=10 / step), Summary.Value(tag="lr", simple_value=0.5)]
        for value in values[: 2 if tag == "loss" else 1]:
            writer.add_event(Event(step=step, wall_time=1.7e9 + step, summary=Summary(value=[value])))
    spread = HistogramProto(min=-1, max=3, num=4, sum=4, sum_squares=12, bucket_limit=[0, 3], bucket=[1, 3])
    value = Summary.Value(tag="w", histo=spread)
    writer.add_event(Event(step=int(last), wall_time=1.7e9, summary=Summary(value=[value])))
    writer.close()
    time.sleep(1.1)  # the next file's name has another second
"""


def write_events(directory, first, last, mark=0, tag="loss"):
    code = textwrap.dedent(WRITE_EVENTS)
    arguments = [str(each) for each in (directory, first, last, mark, tag)]
    subprocess.run([sys.executable, "-W", "ignore", "-c", code, *arguments], check=True, timeout=300)


@needs("tensorboard")
def test_tensorboard_as_its_own_reader_has_it(home, polyana, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    logs = tmp_path / "logs"
    write_events(logs / "one", 1, 150)
    write_events(logs / "one", 101, 220, mark=101)
    write_events(logs / "late", 5001, 5010)
    said = polyana("runs", "import", logs).stdout
    assert len(said.splitlines()) == 2
    assert "logs-one" in said
    assert "2 attempts" in said
    run = find_run(home / "runs", "logs-one")
    reader = EventAccumulator(str(logs / "one"), size_guidance={"scalars": 0})
    reader.Reload()
    points = [(point.step, point.value) for point in reader.Scalars("loss")]
    assert read_curves(run.metrics)["loss"] == points
    assert [step for step, _ in points] == list(range(1, 221))
    assert [attempt.resumes_at for attempt in read_attempts(run.metrics)] == [0, 100]
    late = find_run(home / "runs", "logs-late")
    assert read_curves(late.metrics)["loss"][0] == (5001, pytest.approx(10 / 5001))
    index = Index(home / "index.sqlite")
    index.catch_up(run.name, run.metrics)
    (spread,) = index.records(run.name, "histograms")
    assert sum(spread["counts"]) == 4
    assert len(spread["counts"]) == 64
    assert spread["norm"] == pytest.approx(12**0.5)
    assert Curves(index, run.name).points("loss")[0].tolist() == list(range(1, 221))
    index.close()


@needs("tensorboard")
def test_importing_again_makes_no_second_run_and_takes_what_has_grown(home, polyana, tmp_path):
    logs = tmp_path / "logs"
    write_events(logs, 1, 10)
    assert polyana("runs", "import", logs).stdout.startswith("new")
    (run,) = find_runs(home / "runs")
    (run.path / "notes.json").write_text('{"tags": ["mine"], "notes": "", "group": ""}')
    assert polyana("runs", "import", logs).stdout.startswith("unchanged")
    write_events(logs, 11, 20)
    assert polyana("runs", "import", logs).stdout.startswith("grown")
    (again,) = find_runs(home / "runs")
    assert again.name == run.name
    assert [step for step, _ in read_curves(run.metrics)["loss"]] == list(range(1, 21))
    assert "mine" in (run.path / "notes.json").read_text()
    assert polyana("runs").stdout.count(run.name) == 1


@needs("tensorboard")
def test_two_writers_of_different_metrics_are_one_attempt(home, polyana, tmp_path):
    write_events(tmp_path / "logs", 1, 10)
    write_events(tmp_path / "logs", 1, 10, tag="accuracy")
    polyana("runs", "import", tmp_path / "logs")
    (run,) = find_runs(home / "runs")
    curves = read_curves(run.metrics)
    assert len(curves["loss"]) == len(curves["accuracy"]) == 10


@needs("tensorboard")
def test_damaged_event_files_are_named_and_the_rest_is_kept(home, polyana, tmp_path):
    write_events(tmp_path / "logs", 1, 50)
    (file,) = (tmp_path / "logs").iterdir()
    whole = file.read_bytes()
    at = whole.index(b"loss", 2000)
    file.write_bytes(whole[:at] + b"lost" + whole[at + 4 : -7])  # one flipped, the last torn
    said = polyana("runs", "import", tmp_path / "logs").stdout
    assert "is damaged and left out" in said
    assert "the last record is torn" in said
    (run,) = find_runs(home / "runs")
    assert len(read_curves(run.metrics)["loss"]) == 49


def test_nothing_to_import_is_a_letter(home, polyana, tmp_path):
    (tmp_path / "empty.db").write_bytes(b"SQLite format 3\0 and then nothing of the kind")
    said = polyana("runs", "import", tmp_path / "empty.db", check=2).stderr
    assert "nothing to import" in said
    assert "there is no" in polyana("runs", "import", tmp_path / "gone", check=2).stderr


@pytest.mark.slow
@needs("trackio")
def test_trackio_with_a_resumed_run(home, polyana, tmp_path):
    store = tmp_path / "trackio"
    for first, last in ((0, 149), (100, 219)):
        python(
            f"""
            import trackio
            config = {{"lr": 0.1, "model": {{"layers": 2}}}}
            trackio.init(project="letters", name="small", config=config, resume="allow")
            for step in range({first}, {last} + 1):
                trackio.log({{"loss": 10 / (step + 1), "odd": float("nan")}}, step=step)
            trackio.finish()
            """,
            TRACKIO_DIR=str(store),
        )
    said = polyana("runs", "import", store).stdout
    assert "Trackio" in said
    (run,) = find_runs(home / "runs")
    curve = read_curves(run.metrics)["loss"]
    assert [step for step, _ in curve] == list(range(220))
    assert [value for _, value in curve] == pytest.approx([10 / (step + 1) for step in range(220)])
    assert len(read_attempts(run.metrics)) == 2
    assert run.about()["settings"] == {"lr": 0.1, "model": {"layers": 2}}
    assert polyana("runs", "import", store).stdout.startswith("unchanged")


@pytest.mark.slow
@needs("wandb")
def test_wandb_offline_runs_of_one_id_are_one_run(home, polyana, tmp_path, monkeypatch):
    place = tmp_path / "old"
    place.mkdir()
    for first, last in ((0, 149), (100, 219)):
        python(
            f"""
            import numpy, wandb
            run = wandb.init(project="letters", id="abc", name="small", config={{"lr": 0.1, "model": {{"layers": 2}}}},
                             mode="offline", dir={str(place)!r}, resume="allow", tags=["first"], notes="x", group="g")
            for step in range({first}, {last} + 1):
                run.log({{"loss": 10 / (step + 1), "deep": {{"er": 1}}}}, step=step)
            table = wandb.Table(columns=["a"], data=[[1], [2]])
            run.log({{"w": wandb.Histogram(numpy.arange(100.0)), "t": table}}, step=step)
            run.finish()
            """
        )
    said = polyana("runs", "import", place, "--json").stdout
    (told,) = json.loads(said)
    assert (told["kind"], told["what"], told["attempts"], told["troubles"]) == ("W&B", "new", 2, [])
    (run,) = find_runs(home / "runs")
    curves = read_curves(run.metrics)
    assert [step for step, _ in curves["loss"]] == list(range(220))
    assert [value for _, value in curves["loss"]] == pytest.approx([10 / (step + 1) for step in range(220)])
    assert len(curves["deep.er"]) == 220
    assert run.about()["settings"] == {"lr": 0.1, "model": {"layers": 2}}
    assert run.status() == "finished"
    notes = json.loads((run.path / "notes.json").read_text())
    assert notes == {"tags": ["first"], "notes": "x", "group": "g"}
    rows = [row for attempt in read_attempts(run.metrics) for row in attempt.rows]
    assert sum(next(row for row in rows if "histograms" in row)["histograms"]["w"]["counts"]) == 100
    assert next(row for row in rows if "table" in row)["rows"] == [[1], [2]]
    files = sorted(place.rglob("*.wandb"))
    whole = files[0].read_bytes()
    files[0].write_bytes(whole[: whole.rindex(b"loss")])  # killed while it wrote
    said = polyana("runs", "import", place).stdout
    assert "the last record is torn" in said
    assert "so it stays as it was" in said
    assert len(read_curves(run.metrics)["loss"]) == 220
    files[0].write_bytes(whole[:9000] + b"?" + whole[9001:])
    monkeypatch.setenv("POLYANA_HOME", str(tmp_path / "other"))
    assert "damaged at byte" in polyana("runs", "import", files[0]).stdout


def test_bins_of_any_kind_keep_every_number():
    spread = rebinned([-2.0, -1.0, 5.0], [3, 9])
    assert (spread["low"], spread["high"], sum(spread["counts"])) == (-2.0, 5.0, 12)
    assert sum(spread["counts"][:10]) == pytest.approx(3, abs=1)
    assert spread["norm"] == pytest.approx((3 * 1.5**2 + 9 * 2.0**2) ** 0.5)
    assert sum(rebinned([4.0, 4.0], [7])["counts"]) == 7
