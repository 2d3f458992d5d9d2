"""A long run that nobody has read yet: there at once as a sketch, whole in the end, no point lost."""

import threading
import time

import numpy as np
import pytest

from polyana.dashboard.reading import Reader
from polyana.tracking import Curves, Index, MetricLog, View, draw_sketch

STEPS = 60_000
SPIKE = 31_313


def value(step):
    return 99.0 if step == SPIKE else 2 + 6 / (1 + step / 1000) + np.sin(step)


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    """What is above 4 MB is long, so that the tests need no files of 48 MB."""
    for module in ("index", "sketch"):
        monkeypatch.setattr(f"polyana.tracking.{module}.SHORT", 4 << 20)


@pytest.fixture
def long(make_run):
    """A run of two attempts, 8 MB, with one spike: the first reached 40,000, the second went on from 30,000."""
    run = make_run()
    (run.metrics / "attempt-0001.jsonl").unlink()
    for resumes_at, last in ((0, 40_000), (30_000, STEPS)):
        log = MetricLog(run.metrics, resumes_at, "", print)
        for step in range(resumes_at + 1, last + 1):
            log.log(step, {"train/loss": value(step), "train/tokens": step * 512, "train/lr": 1e-3})
        log.close()
    return run


@pytest.fixture
def held(monkeypatch):
    """Reading in the background begins when this is set."""
    go = threading.Event()
    original = Index.catch_up

    def waiting(self, run, metrics, progress=None):
        if progress is not None:
            assert go.wait(60)
        original(self, run, metrics, progress)

    monkeypatch.setattr(Index, "catch_up", waiting)
    yield go
    go.set()


def test_it_is_there_at_once_and_whole_in_the_end(long, serve, held):
    browser = serve()
    (sketch,) = browser.glimpse((long.name, "train/loss"), width=1000)
    x, y = sketch["raw"]
    assert sketch["read"] == 0
    assert len(x) > 1000
    assert (x[0], x[-1]) == (1, STEPS)
    assert np.diff(x).max() < 200  # of everywhere something
    assert y.tolist() == [value(step) for step in x]  # what is shown is what was logged
    assert sketch["marks"] == [30_000]
    ghost = sketch["ghost"][0]
    assert 30_000 < ghost.min() < 30_200
    assert 39_900 < ghost.max() <= 40_000
    detail = browser.get(f"/api/runs/{long.name}")
    assert (detail["read"], detail["advice"], detail["troubles"]) == (0, [], [])
    assert detail["metrics"] == ["train/loss", "train/lr", "train/tokens"]
    held.set()
    (whole,) = browser.series((long.name, "train/loss"), width=1000)
    assert whole["total"] == STEPS
    assert (SPIKE, 99.0) in list(zip(*whole["raw"], strict=True))
    assert browser.get(f"/api/runs/{long.name}")["read"] == 1


def test_a_million_points_are_whole_at_once(make_run, serve, monkeypatch):
    monkeypatch.undo()
    run = make_run()
    (run.metrics / "attempt-0001.jsonl").unlink()
    log, names = MetricLog(run.metrics, 0, "", print), [f"train/metric_{number:02d}" for number in range(20)]
    for step in range(1, 50_001):
        log.log(step, dict.fromkeys(names, value(step)))
    log.close()
    assert log.path.stat().st_size > 30e6
    (drawn,) = serve().glimpse((run.name, names[7]))
    assert (drawn["read"], drawn["total"]) == (1, 50_000)
    assert (SPIKE, 99.0) in list(zip(*drawn["raw"], strict=True))


@pytest.mark.parametrize("axis", ["tokens", "relative", "time"])
def test_on_any_axis_and_in_any_window(long, serve, held, axis):
    browser = serve()
    (wide,) = browser.glimpse((long.name, "train/loss"), x=axis)
    low, high = np.quantile(wide["raw"][0], [0.4, 0.6])
    view = {
        "x": axis,
        "smoothing": 0.9,
        "from": low,
        "to": high,
        "width": 20_000,
    }  # wide: times lie on few milliseconds
    (window,) = browser.glimpse((long.name, "train/loss"), **view)
    held.set()
    (whole,) = browser.series((long.name, "train/loss"), **view)
    assert low <= window["raw"][0][0] <= window["raw"][0][-1] <= high
    assert len(window["raw"][0]) > 100
    assert len(window["smooth"][0]) > 100
    assert (
        np.abs(np.array([window["raw"][0][0], window["raw"][0][-1]]) - [low, high]).max() < (high - low) / 5
    )  # the machine may have paused
    assert whole["total"] > window["total"]


def test_half_of_it_is_known_already(long, tmp_path):
    """The index has read some of it: what it knows is drawn, of the rest slices; each point once."""
    path = long.metrics / "attempt-0002.jsonl"
    rest, index = path.read_bytes(), Index(tmp_path / "index.sqlite")
    path.write_bytes(rest[: 1 << 20])
    index.catch_up("run", long.metrics)
    with path.open("r+b") as file:
        file.write(rest)
    assert draw_sketch(index, "run", long.metrics) is None  # 3 MB are read while one waits
    with path.open("ab") as file:
        row = b'{"step":%d,"train/loss":%d,"train/tokens":7,"train/lr":0.1,"time":1e9}\n'
        file.writelines(row % (step, step) for step in range(STEPS + 1, 3 * STEPS))
    sketch = draw_sketch(index, "run", long.metrics)
    index.catch_up("another", long.metrics)
    drawn = Curves(index, "run", sketch).draw("train/loss", View(width=100_000))
    x, y = drawn.raw
    known = int(np.searchsorted(x, STEPS // 2 + 1000))
    assert x[:known].tolist() == list(range(1, known + 1))
    assert np.all(np.diff(x) > 0)
    assert x[-1] == 3 * STEPS - 1
    assert y[-1] == 3 * STEPS - 1
    assert known < len(x) < 2 * STEPS
    index.close()


def test_lines_of_any_length_and_damaged_ones(make_run, tmp_path):
    run, index = make_run(), Index(tmp_path / "index.sqlite")
    path = run.metrics / "attempt-0001.jsonl"
    with path.open("ab") as file:
        for step in range(11, 60):
            file.write(b'{"step":%d,"train/loss":1.5,"time":1.0,"many":[%s0]}\n' % (step, b"0," * 100_000))
            file.write(b'{"step":%d,"train/loss":\xff\n' % step)
            file.write(b'{"step":%d,"train/loss":2.5,"time":1.0}\n' % step)
    sketch = draw_sketch(index, "run", run.metrics)
    x, y = Curves(index, "run", sketch).draw("train/loss", View()).raw
    assert x[0] == 1
    assert set(y[x > 10]) == {2.5}
    index.close()


def test_what_fails_in_the_background_is_told_once_and_tried_again(long, tmp_path, monkeypatch):
    index = Index(tmp_path / "index.sqlite")
    reader, original = Reader(index), Index.catch_up

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Index, "catch_up", full)
    assert reader.read_on("run", long.metrics)
    end = time.monotonic() + 30
    while reader.shares() and time.monotonic() < end:
        time.sleep(0.01)
    with pytest.raises(OSError, match="No space"):
        reader.read_on("run", long.metrics)
    monkeypatch.setattr(Index, "catch_up", original)
    while reader.read_on("run", long.metrics) and time.monotonic() < end:
        time.sleep(0.01)
    assert Curves(index, "run").draw("train/loss", View()).total == STEPS
    index.close()


def test_a_server_that_ends_does_not_wait_for_it(long, serve, home, monkeypatch):
    monkeypatch.setattr("polyana.tracking.blocks.TRANSACTION", 1 << 16)
    from served import servers

    with servers(home) as start:
        browser = start()
        assert browser.glimpse((long.name, "train/loss"))[0]["read"] == 0
    index = Index(home / "index.sqlite")
    assert 0 <= sum(offset for _, offset in index.read_to(long.name).values()) < 8 << 20
    index.close()
    assert serve().series((long.name, "train/loss"))[0]["total"] == STEPS


def test_a_run_that_is_deleted_meanwhile(long, serve, held):
    import shutil

    browser = serve()
    assert browser.glimpse((long.name, "train/loss"))[0]["read"] == 0
    shutil.rmtree(long.path)
    assert browser.glimpse((long.name, "train/loss"))[0]["total"] == 0
    held.set()
    status, _, body = browser.ask("GET", f"/api/runs/{long.name}")
    assert (status, b"deleted" in body) == (404, True)
