"""What is told while runs move, and what it costs when nothing does."""

import shutil
import subprocess
import sys
import threading
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import psutil
import pytest

from polyana.dashboard import app, live
from polyana.tracking import Index, MetricLog


def until(events, wanted, seconds=10):
    """The first event that `wanted` says yes to, and when it came."""
    end = time.time() + seconds
    for kind, data, moment in events:
        if wanted(kind, data):
            return data, moment
        assert time.time() < end
    raise AssertionError("the stream has ended")


def names(data):
    return [run["name"] for run in data["runs"]]


def test_a_new_point_is_told_within_a_second_while_it_trains(make_run, serve):
    run, browser = make_run(), serve()
    with run.lock():
        cursor = browser.get("/api/runs")["cursor"]
        log = MetricLog(run.metrics, 10, "", print)
        events = browser.events(f"/api/live?cursor={cursor}", 20)
        until(events, lambda kind, _: kind == "update")  # it is being trained, by its lock, in attempt 2
        for step in (11, 12, 13):
            time.sleep(1.1)
            written = time.time()
            log.log(step, {"train/loss": float(step)})
            data, moment = until(events, lambda kind, data: kind == "update" and run.name in names(data))
            (row,) = data["runs"]
            assert (row["step"], row["status"], row["last"]["train/loss"]) == (step, "training", step)
            assert "config" not in row  # it has not changed
            assert moment - written < 1
            assert browser.series((run.name, "train/loss"), **{"from": step})[0]["raw"][1].tolist() == [step]
        log.close()
    events.close()


def test_browsers_that_ask_the_same_at_once_get_one_answer(make_run, serve, monkeypatch):
    """And never one that is older than what they have been told."""
    run, browser, drawn = make_run(), serve(), []
    original = app.draw_series

    def slowly(*given):
        drawn.append(given)
        time.sleep(0.2)
        return original(*given)

    def ask(step):
        (curve,) = browser.series((run.name, "train/loss"), **{"from": step})
        assert curve["raw"][0].tolist() == [step]

    monkeypatch.setattr(app, "draw_series", slowly)
    with run.lock():
        cursor = browser.get("/api/runs")["cursor"]
        log, events = MetricLog(run.metrics, 10, "", print), browser.events(f"/api/live?cursor={cursor}", 20)
        until(events, lambda kind, _: kind == "update")
        for step in (11, 12, 13):
            time.sleep(1.1)
            log.log(step, {"train/loss": float(step)})
            until(events, lambda kind, data: kind == "update" and run.name in names(data))
            drawn.clear()
            with ThreadPoolExecutor(3) as three:
                list(three.map(ask, [step] * 3))
            assert len(drawn) == 1
        log.close()
    events.close()
    ask(13)


def test_where_a_training_needs_all_cores_pages_are_told_more_seldom(make_run, serve, monkeypatch):
    """The more pages there are, the more seldom; but that a run has ended is not a step that it goes on by."""
    run, browser = make_run(), serve()
    monkeypatch.setattr(live, "FULL", 0.0)
    monkeypatch.setattr(live, "_SPARING", 1.0)  # of which there are two pages

    def write(log):
        for step in range(11, 61):
            log.log(step, {"train/loss": float(step)})
            time.sleep(0.1)

    with run.lock():
        cursor = browser.get("/api/runs")["cursor"]
        log = MetricLog(run.metrics, 10, "", print)
        writing = threading.Thread(target=write, args=(log,))
        streams = [browser.events(f"/api/live?cursor={cursor}", 20) for _ in range(2)]
        following = ThreadPoolExecutor(2)
        seen = following.submit(next, streams[1])  # the other page listens, too
        writing.start()
        moments = []
        while not moments or moments[-1] - moments[0] < 4:
            _, moment = until(streams[0], lambda kind, data: kind == "update" and run.name in names(data))
            moments.append(moment)
        writing.join()
        log.close()
        seen.result(10)
    gaps = [later - earlier for earlier, later in pairwise(moments[1:])]
    assert min(gaps) > 1.5
    for each in streams:
        each.close()
    following.shutdown()


def test_the_runs_that_a_page_shows_first_are_read_before_they_are_asked_for(make_run, serve, home):
    run, other, browser = make_run(10, "first"), make_run(20, "second"), serve()

    def read_to(name):
        index = Index(home / "index.sqlite")
        try:
            return index.read_to(name)
        finally:
            index.close()

    def wait_for(name):
        end = time.monotonic() + 10
        while not read_to(name):
            assert time.monotonic() < end
            time.sleep(0.05)

    browser.get("/api/runs")
    assert read_to(run.name) == {}
    browser.get(f"/api/runs?read={run.name}")
    wait_for(run.name)
    assert read_to(other.name) == {}
    browser.get("/api/runs?read=")
    wait_for(other.name)
    assert browser.get("/api/runs?read=nothing")["runs"]


def test_runs_that_come_and_go(make_run, serve):
    first, browser = make_run(), serve()
    cursor = browser.get("/api/runs")["cursor"]
    events = browser.events(f"/api/live?cursor={cursor}", 20)
    second = make_run(20)
    data, _ = until(events, lambda kind, _: kind == "update")
    assert names(data) == [second.name]
    assert data["runs"][0]["config"]["train.lr"] == 0.01  # all of it: the page has not seen it
    shutil.rmtree(first.path)
    data, _ = until(events, lambda kind, _: kind == "gone")
    assert data == {"run": first.name}
    events.close()


def test_a_browser_of_an_earlier_server_is_told_everything(make_run, serve):
    run, browser = make_run(), serve()
    old = browser.get("/api/runs")["cursor"]
    again = serve()
    data, _ = until(again.events(f"/api/live?cursor={old}", 10), lambda kind, _: kind == "update")
    assert names(data) == [run.name]
    assert data["cursor"] != old


def test_reading_a_long_run_for_the_first_time_is_told(make_run, serve):
    run, browser = make_run(), serve()
    path = run.metrics / "attempt-0001.jsonl"
    row = ",".join(f'"train/metric_{number}":0.12345678901234567' for number in range(40))
    with path.open("a") as file:
        file.writelines(f'{{"step":{step},{row},"time":1.0}}\n' for step in range(11, 60_000))
    cursor = browser.get("/api/runs")["cursor"]
    events, shares = browser.events(f"/api/live?cursor={cursor}", 60), []
    reading = threading.Thread(target=lambda: browser.series((run.name, "train/metric_1")))
    reading.start()
    for kind, data, _ in events:
        if kind == "reading":
            assert data["run"] == run.name
            shares.append(data["share"])
            if data["share"] == 1:
                break
    reading.join(60)
    events.close()
    assert shares == sorted(shares)
    assert len(shares) > 1


@pytest.fixture
def process(make_run, home):
    """`polyana ui` as a process of its own: (process, address)."""
    for _ in range(3):
        make_run()
    command = [sys.executable, "-m", "polyana", "ui", "--home", str(home), "--port", "0", "--no-browser"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as started:
        assert started.stdout is not None
        address = started.stdout.readline().strip()
        yield psutil.Process(started.pid), address
        started.terminate()
        try:
            started.wait(20)
        finally:
            started.kill()


def test_without_a_browser_the_server_costs_nothing(process):
    server, address = process
    urllib.request.urlopen(f"{address}api/runs", timeout=30).read()
    files = server.io_counters().read_count
    before = sum(server.cpu_times()[:2])
    time.sleep(3)
    assert sum(server.cpu_times()[:2]) - before <= 0.03  # a clock tick is 0.01
    assert server.io_counters().read_count - files < 100


def test_the_server_ends_by_a_signal_while_a_page_is_open(process):
    server, address = process
    stream = urllib.request.urlopen(f"{address}api/live", timeout=30)
    stream.readline()
    server.terminate()
    server.wait(10)
    stream.close()
