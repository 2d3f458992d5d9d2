"""Curves: what is drawn is what was logged, at every zoom, on every axis, live."""

import math
import shutil
import threading
from xml.etree import ElementTree

import pytest

from browser.watched import LAST, LOST_FROM, LOST_TO, NOT_FINITE, PLANNED, SAVES, SPIKE, learning_rate, loss
from polyana.tracking import Index, MetricLog, RunDirectory


@pytest.fixture
def river(visit, watched):
    """The river's charts."""
    made = visit()
    made.go(f"run/{watched.river}")
    made.drawn("loss", 300)
    return made


def test_the_loss_has_train_and_eval_the_ghost_and_what_was_not_finite(river, watched):
    curves = river.points("loss")
    train = curves[watched.river, "train/loss", "curve"]
    assert [step for step, _ in train] == list(range(1, LAST + 1))  # each step once: the resumed curve goes on
    assert dict(train)[NOT_FINITE] is None
    assert all(value == pytest.approx(loss(int(step))) for step, value in train if value is not None)
    assert curves[watched.river, "train/loss", "ghost"] == [
        (step, pytest.approx(loss(step, 0))) for step in range(LOST_FROM + 1, LOST_TO + 1)
    ]
    assert [step for step, _ in curves[watched.river, "eval/loss", "curve"]] == list(range(50, LAST + 1, 50))
    river.page.get_by_role("button", name="ghosts").click()
    river.address_has("ghosts=0")
    ghost = (watched.river, "train/loss", "ghost")
    river.until(lambda: river.points("loss"), lambda curves: ghost not in curves)


def test_every_metric_has_a_chart_in_its_place(river):
    for panel in ("loss", "lr", "train/grad_norm", "train/tokens_per_second", "train/mfu", "memory"):
        river.drawn(panel)
    sections = river.page.locator(".section")
    titles = [" ".join(text.split()) for text in sections.locator("h2 button").all_inner_texts()]
    assert titles == ["Training 6", "Eval 1", "System 1"]
    river.page.get_by_label("Find a metric").fill("cpu")
    river.until(river.page.locator("[data-panel]").count, lambda panels: panels == 1)
    river.drawn("system/cpu")


def test_the_schedule_is_whole_from_the_start(river, watched):
    river.drawn("lr", 400)
    curves = river.points("lr")
    past = dict(curves[watched.river, "train/lr", "curve"])
    assert (min(past), max(past)) == (1, LAST)
    future = curves[watched.river, "schedule", "future"]
    assert [step for step, _ in future] == list(range(LAST, PLANNED + 1, 10))
    assert future[-1][1] == pytest.approx(learning_rate(PLANNED))


@pytest.mark.parametrize(("axis", "label", "last"), [("tokens", "tokens", LAST * 8192), ("epoch", "epoch", LAST / 90)])
def test_x_may_be_tokens_and_epochs(river, watched, axis, label, last):
    river.page.get_by_role("button", name=label, exact=True).click()
    river.address_has(f"x={axis}")
    curve = river.until(
        lambda: river.points("loss")[watched.river, "train/loss", "curve"],
        lambda points: points[-1][0] == pytest.approx(last),
    )
    assert len(curve) == LAST


@pytest.mark.parametrize(("label", "axis"), [("elapsed", "relative"), ("clock", "time")])
def test_x_may_be_time(river, watched, label, axis):
    river.page.get_by_role("button", name=label, exact=True).click()
    river.address_has(f"x={axis}")
    begun = watched.run(watched.river).about()["started"] if axis == "time" else 0
    at = river.until(
        lambda: [x for x, _ in river.points("loss")[watched.river, "train/loss", "curve"]],
        lambda at: at[-1] != LAST and 0 <= at[-1] - begun < 600,
    )
    assert len(at) == LAST
    assert at == sorted(at)


def test_smoothing_leaves_the_line_as_it_is(river, watched):
    river.page.keyboard.press("s")
    river.page.keyboard.press("s")
    river.address_has("smooth=0.8")
    river.drawn("loss", 800)
    curves = river.points("loss")
    raw = curves[watched.river, "train/loss", "raw"]
    assert dict(raw)[SPIKE[0]] == SPIKE[1]
    smooth = dict(curves[watched.river, "train/loss", "curve"])
    # the debiased moving mean, over all points, that were finite
    total = weight = 0.0
    for step, value in raw:
        if value is not None:
            total, weight = 0.8 * total + 0.2 * value, 0.8 * weight + 0.2
        if step in (1, 50, SPIKE[0], LAST):
            assert smooth[step] == pytest.approx(total / weight, rel=1e-6)


def test_a_drag_zooms_and_finer_points_are_fetched(visit, watched):
    run = _long_run(watched, 50_000)
    made = visit()
    page = made.go(f"run/{run.name}", chart="loss")
    made.drawn("loss", 500)
    before = made.points("loss")[run.name, "train/loss", "curve"]
    assert len(before) < 6000
    assert (31_313.0, 99.0) in before  # one point of fifty thousand
    box = page.locator(".u-over").bounding_box()
    with page.expect_response("**/api/series") as answer:
        page.mouse.move(box["x"] + box["width"] * 0.5, box["y"] + 40)
        page.mouse.down()
        page.mouse.move(box["x"] + box["width"] * 0.51, box["y"] + 42, steps=4)
        page.mouse.up()
    request = answer.value.request.post_data_json
    assert 24_000 < request["from"] < 26_000
    made.address_has("zoom=")
    made.until(
        lambda: [x for x, _ in made.points("loss")[run.name, "train/loss", "curve"]],
        lambda inside: len(inside) == inside[-1] - inside[0] + 1,  # every step now
    )
    zoomed = made.hash
    with page.expect_response("**/api/series"):
        page.keyboard.down("Shift")
        page.mouse.move(box["x"] + 300, box["y"] + 60)
        page.mouse.down()
        page.mouse.move(box["x"] + 100, box["y"] + 60, steps=4)
        page.mouse.up()
        page.keyboard.up("Shift")
    made.until(lambda: made.hash, lambda address: address != zoomed)  # panned
    page.mouse.dblclick(box["x"] + 300, box["y"] + 60)
    made.address_lacks("zoom=")


def _long_run(watched, steps):
    run = RunDirectory.create(watched.home / "runs", "sea", "pretrain", {"fingerprint": "3" * 64, "settings": {}})
    run.note(outcome="finished", planned_steps=steps)
    log = MetricLog(run.metrics, 0, "", print)
    for step in range(1, steps + 1):
        log.log(step, {"train/loss": 99.0 if step == 31_313 else 2 + math.sin(step)})
    log.close()
    return run


def test_a_long_run_is_there_as_a_sketch_that_says_so_until_it_is_read(visit, watched, monkeypatch):
    go, original = threading.Event(), Index.catch_up

    def waiting(self, run, metrics, progress=None):
        if progress is not None:
            assert go.wait(60)
        original(self, run, metrics, progress)

    monkeypatch.setattr(Index, "catch_up", waiting)
    for module in ("index", "sketch"):  # so that it need not be as long
        monkeypatch.setattr(f"polyana.tracking.{module}.SHORT", 4 << 20)
    run = _long_run(watched, 100_000)
    try:
        made = visit()
        page = made.go(f"run/{run.name}", chart="loss")
        made.drawn("loss", 500)
        page.get_by_text("a sketch, 0% read").wait_for()
        page.locator(".live").get_by_text("reading sea").wait_for()
        go.set()
        page.locator(".sketched").wait_for(state="detached")
        assert (31_313.0, 99.0) in made.points("loss")[run.name, "train/loss", "curve"]
    finally:
        go.set()
        shutil.rmtree(run.path)


def test_axes_may_be_logarithmic(river):
    page = river.page
    page.get_by_role("button", name="log x").click()
    page.get_by_role("button", name="log y").click()
    river.address_has("logx=1")
    river.address_has("logy=1")
    river.drawn("loss", 300)
    svg = ElementTree.fromstring(river.download("loss", "SVG"))
    labels = [element.text for element in svg.iter("{http://www.w3.org/2000/svg}text")]
    assert {"1", "10", "100"} <= set(labels)  # below
    assert {"2", "5", "10", "20"} <= set(labels)  # at the side
    curves = [
        path.get("d") for path in svg.iter("{http://www.w3.org/2000/svg}path") if path.get("stroke-opacity") == "1"
    ]
    train = max(curves, key=len)
    assert train.count("M") == 2  # broken where it was not finite, not drawn to the bottom


def test_a_chart_is_exported_as_png_and_svg(river):
    png = river.download("loss", "PNG")
    assert png.startswith(b"\x89PNG")
    assert len(png) > 5000
    svg = ElementTree.fromstring(river.download("loss", "SVG"))
    names = {element.tag.rpartition("}")[2] for element in svg.iter()}
    assert {"path", "circle", "text"} <= names  # curves, saves, labels
    texts = [element.text for element in svg.iter("{http://www.w3.org/2000/svg}text")]
    assert "Loss" in texts


def test_the_cursor_tells_the_values(river):
    box = river.page.locator('[data-panel="loss"] .u-over').bounding_box()
    river.page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    tip = river.page.locator('[data-panel="loss"] .tooltip')
    tip.wait_for()
    assert "step 20" in tip.inner_text()  # about the middle of 400
    assert "train/loss" in tip.inner_text()


def test_keys_move_the_window_of_a_chart_that_has_the_focus(river):
    chart = river.page.locator('[data-panel="loss"]')
    chart.focus()
    river.page.keyboard.press("+")
    river.address_has("zoom=")
    low, high = (float(value) for value in river.hash.partition("zoom=")[2].split("&")[0].split(":"))
    assert high - low == pytest.approx(0.6 * (LAST - 1), abs=1)
    river.page.keyboard.press("ArrowRight")
    river.until(lambda: float(river.hash.partition("zoom=")[2].split(":")[0]), lambda left: left > low)
    river.page.keyboard.press("Enter")
    river.address_has("chart=loss")
    river.until(river.page.locator("[data-panel]").count, lambda panels: panels == 1)
    river.page.keyboard.press("0")
    river.address_lacks("zoom=")


def test_several_runs_lie_over_each_other_and_the_link_says_which(visit, watched):
    made = visit(permissions=["clipboard-read", "clipboard-write"])
    made.go("charts", runs=f"{watched.river},{watched.failed}", x="tokens", smooth="0.6")
    made.drawn("loss", 100)
    assert {run for run, _, _ in made.points("loss")} == {watched.river, watched.failed}
    made.page.locator(f'.rail-row[data-run="{watched.failed}"] .eye').click()
    made.until(lambda: {run for run, _, _ in made.points("loss")}, lambda runs: runs == {watched.river})
    made.page.get_by_role("button", name="Copy a link").click()
    link = made.page.evaluate("navigator.clipboard.readText()")
    other = visit()
    other.page.goto(link)
    other.drawn("loss", 100)
    assert {run for run, _, _ in other.points("loss")} == {watched.river}
    assert other.page.get_by_role("button", name="tokens", exact=True).get_attribute("aria-pressed") == "true"


def test_a_click_on_a_save_opens_it(river, watched):
    page = river.page
    heading = page.get_by_role("complementary").get_by_role("heading", name=f"Step {SAVES[-1]}")

    def click():
        """On the save of step 400, at the right end: from below, until the pointer says that there is something."""
        box = page.locator('[data-panel="loss"] .u-over').bounding_box()  # anew: what is still coming moves it
        x, y = box["x"] + box["width"] - 1, box["y"] + box["height"]
        while y > box["y"] and not page.locator('[data-panel="loss"] .on-dot').count():
            y -= 5
            page.mouse.move(x, y)
            page.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
        page.mouse.click(x, y)
        page.wait_for_timeout(200)
        return heading.count()

    river.until(click)
    river.address_has(f"save={watched.river}@400")


def test_two_fingers_zoom(visit, watched):
    made = visit(width=360, height=740, has_touch=True)
    page = made.go(f"run/{watched.river}", chart="loss")
    made.drawn("loss", 300)
    box = page.locator(".u-over").bounding_box()
    touch = page.context.new_cdp_session(page)
    middle, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2

    def fingers(kind, apart):
        points = [{"x": middle + side * apart / 2, "y": y, "id": number} for number, side in enumerate((-1, 1))]
        touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [] if kind == "touchEnd" else points})

    fingers("touchStart", 60)
    fingers("touchMove", 90)
    fingers("touchMove", 120)
    fingers("touchEnd", 0)
    low, high = (float(value) for value in made.hash.partition("zoom=")[2].split(":"))
    assert high - low == pytest.approx((LAST - 1) / 2, rel=0.02)
    assert (low + high) / 2 == pytest.approx(LAST / 2, rel=0.02)
