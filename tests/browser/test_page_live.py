"""What happens while the page is open: points come, servers go, runs are deleted, pages are hidden."""

import shutil
import threading

import pytest

from polyana.dashboard import open_server
from polyana.tracking import MetricLog, RunDirectory

HIDE = """(hidden) => {
  Object.defineProperty(document, 'hidden', {value: hidden, configurable: true});
  document.dispatchEvent(new Event('visibilitychange'));
}"""


@pytest.fixture
def training(watched):
    """A run that this process is training, and its log."""
    run = RunDirectory.create(watched.home / "runs", "brook", "pretrain", {"fingerprint": "4" * 64, "settings": {}})
    run.note(outcome="interrupted", planned_steps=1000)
    log = MetricLog(run.metrics, 0, "", print)
    for step in range(1, 101):
        _log(log, step)
    with run.lock():
        yield run, log
    log.close()
    shutil.rmtree(run.path, ignore_errors=True)


def _log(log, step):
    log.log(step, {"train/loss": 5 - step / 1000, "train/tokens": step * 512, "train/tokens_per_second": 1000.0})


def test_points_come_by_themselves(visit, training):
    run, log = training
    made = visit()
    page = made.go(f"run/{run.name}")
    made.drawn("loss", 100)
    page.get_by_text("1 training").wait_for()
    assert page.locator(".run-header .status.training").count() == 1
    for step in range(101, 121):
        _log(log, step)
    made.drawn("loss", 120)
    assert [x for x, _ in made.points("loss")[run.name, "train/loss", "curve"]] == list(range(1, 121))
    page.locator(".facts-line").get_by_text("120 / 1,000").wait_for()
    made.until(page.locator(".facts-line").inner_text, lambda facts: "7:31" in facts)  # 880 steps at 1,000 tokens/s


def test_nothing_on_the_page_moves_of_itself(visit, training):
    """An animation without an end has the page composed 60 times a second, on the cores of whoever trains here."""
    run, _ = training
    made = visit()
    for view in ("charts", "runs", f"run/{run.name}"):
        made.go(view).get_by_text("1 training").wait_for()
        made.until(lambda: made.page.evaluate("document.getAnimations().length"), lambda moving: moving == 0)


def test_all_charts_ask_for_their_new_points_at_once(visit, training):
    run, log = training
    made = visit()
    page = made.go(f"run/{run.name}")
    for panel in ("loss", "train/tokens_per_second"):
        made.drawn(panel, 100)
    page.get_by_text("1 training").wait_for()
    asked = []
    page.on("request", lambda request: asked.append(request.post_data_json) if "series" in request.url else None)
    _log(log, 101)
    for panel in ("loss", "train/tokens_per_second"):
        made.drawn(panel, 101)
    assert [sorted(line["metric"] for line in each["series"]) for each in asked] == [
        ["train/loss", "train/tokens_per_second"]
    ]
    assert {line["from"] for line in asked[0]["series"]} == {100}


def test_an_attempt_that_resumes_takes_its_curve_back(visit, training):
    run, _ = training
    made = visit()
    made.go(f"run/{run.name}")
    made.drawn("loss", 100)
    again = MetricLog(run.metrics, 50, "", print)
    again.log(51, {"train/loss": 1.0, "train/tokens": 51 * 512})
    again.close()
    made.page.locator(".facts-line").get_by_text("51 / 1,000").wait_for()
    curves = made.until(
        lambda: made.points("loss"), lambda curves: curves[run.name, "train/loss", "curve"][-1] == (51, 1.0)
    )
    assert curves[run.name, "train/loss", "ghost"][-1][0] == 100


def test_a_run_that_is_deleted_while_open_is_said_so(visit, training):
    run, _ = training
    made = visit()
    made.go(f"run/{run.name}")
    made.drawn("loss", 100)
    shutil.rmtree(run.path)
    made.page.get_by_text("This run was deleted while you looked at it.").wait_for()


def test_a_new_run_appears_in_the_table(visit, watched, training):
    made = visit()
    made.go("runs")
    made.page.locator(f'[data-run="{watched.river}"]').wait_for()
    run = RunDirectory.create(watched.home / "runs", "spring", "pretrain", {"fingerprint": "5" * 64, "settings": {}})
    try:
        made.page.locator(f'[data-run="{run.name}"]').wait_for()
    finally:
        shutil.rmtree(run.path)


def test_a_hidden_page_asks_for_nothing_and_catches_up_when_seen(visit, training):
    run, log = training
    made = visit()
    page = made.go(f"run/{run.name}")
    made.drawn("loss", 100)
    page.get_by_text("1 training").wait_for()
    # headless Chromium never hides a page: what it would say and tell is said and told here
    page.evaluate(HIDE, True)
    page.get_by_text("paused").wait_for()
    page.wait_for_load_state("networkidle")
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    for step in range(101, 111):
        _log(log, step)
    page.wait_for_timeout(1500)
    assert asked == []
    page.evaluate(HIDE, False)
    made.drawn("loss", 110)


def test_a_server_that_comes_back_is_found_again(visit, watched):
    where, server = open_server(watched.home, "127.0.0.1", 0)
    thread = threading.Thread(target=server.serve_until_stopped)
    thread.start()
    made = visit()
    made.base = where.url
    page = made.go("runs")
    page.locator(f'[data-run="{watched.river}"]').wait_for()
    server.should_exit = True
    thread.join(10)
    page.get_by_text("connecting").wait_for()
    _, server = open_server(watched.home, "127.0.0.1", where.port)
    thread = threading.Thread(target=server.serve_until_stopped)
    thread.start()
    try:
        page.locator(".live.live").wait_for()
        page.locator(".banner").wait_for(state="detached")
    finally:
        server.should_exit = True
        thread.join(10)
        made.complaints.clear()  # the browser has said that nobody answered
        made.strangers.clear()  # this server was not the others'
