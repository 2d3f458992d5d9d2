"""The table of runs, and comparing them."""

import json
import threading

import pytest

from browser.watched import HOSTILE, make_many
from polyana.dashboard import open_server


def rows(page):
    return [row.get_attribute("data-run") for row in page.locator(".run-row[data-run]").all()]


@pytest.fixture
def table(visit, watched):
    made = visit()
    made.go("runs")
    made.page.locator(f'[data-run="{watched.river}"]').wait_for()
    return made


def test_each_run_is_there_with_its_state(table, watched):
    text = table.page.locator(f'[data-run="{watched.river}"]').inner_text()
    for part in ("interrupted", "400", "wide", HOSTILE):
        assert part in text
    assert "finished" in table.page.locator(f'[data-run="{watched.tiny}"]').inner_text()
    assert "failed" in table.page.locator(f'[data-run="{watched.failed}"]').inner_text()
    assert table.page.locator("img").count() == 0


def test_a_filter_a_sort_and_a_group_stand_in_the_address(table, watched):
    page = table.page
    page.keyboard.press("/")
    page.keyboard.type("width>=128 -status:failed")
    page.locator(f'[data-run="{watched.failed}"]').wait_for(state="detached")
    table.until(lambda: rows(page), lambda names: names == [watched.river])
    page.get_by_label("Filter runs").fill("")
    page.get_by_role("columnheader", name="loss", exact=True).get_by_role("button").click()
    table.address_has("sort=metric.train/loss")
    first = table.until(lambda: rows(page), lambda names: len(names) >= 3)
    page.get_by_role("columnheader", name="loss", exact=True).get_by_role("button").click()
    table.until(lambda: rows(page), lambda names: names == first[::-1])
    page.get_by_label("group by").select_option("group")
    table.until(page.locator(".run-row.group").count, lambda groups: groups == 2)
    page.reload()
    page.locator(".run-row.group").first.wait_for()
    table.address_has("group=group")


def test_sort_by_a_setting_that_a_column_shows(table, watched):
    page = table.page
    page.get_by_role("button", name="Columns").click()
    page.get_by_role("menuitemcheckbox", name="model.width").first.click()
    page.keyboard.press("Escape")
    header = page.get_by_role("columnheader", name="model.width")
    page.get_by_role("menuitemcheckbox").first.wait_for(state="detached")
    if not header.count():  # it was among the usual ones, and is off now
        page.get_by_role("button", name="Columns").click()
        page.get_by_role("menuitemcheckbox", name="model.width").first.click()
        page.keyboard.press("Escape")
    header.get_by_role("button").click()
    table.until(
        lambda: [name for name in rows(page) if name in (watched.river, watched.failed)],
        lambda found: found == [watched.failed, watched.river],
    )


def test_eyes_and_colours_stay(table, watched):
    page = table.page
    swatch = f'[data-run="{watched.river}"] .swatch'
    colour = page.locator(swatch).evaluate("element => element.style.background")
    eye = page.get_by_role("button", name=f"show {watched.river} in charts")
    eye.click()
    table.until(lambda: eye.get_attribute("aria-pressed"), lambda pressed: pressed == "false")
    page.reload()
    table.until(lambda: eye.get_attribute("aria-pressed"), lambda pressed: pressed == "false")
    assert page.locator(swatch).evaluate("element => element.style.background") == colour
    page.keyboard.press("g")
    page.keyboard.press("c")
    table.drawn("loss")
    table.until(lambda: {run for run, _, _ in table.points("loss")}, lambda runs: watched.river not in runs)


def test_tags_notes_and_group_are_kept(table, watched):
    page = table.page
    page.get_by_role("button", name=f"Edit tags and notes of {watched.failed}").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("tags").fill("dry, <b>bold</b>")
    dialog.get_by_label("notes").fill("it dried up")
    dialog.get_by_role("button", name="Save").click()
    dialog.wait_for(state="detached")
    row = page.locator(f'[data-run="{watched.failed}"]')
    table.until(row.inner_text, lambda text: "<b>bold</b>" in text)
    kept = json.loads((watched.run(watched.failed).path / "notes.json").read_text())
    assert (kept["tags"], kept["notes"]) == (["dry", "<b>bold</b>"], "it dried up")
    page.reload()
    table.until(row.inner_text, lambda text: "it dried up" in text)


def test_the_table_is_worked_by_keys(table, watched):
    page = table.page
    page.keyboard.press("j")
    current = page.locator(".run-row.current")
    name = current.get_attribute("data-run")
    pressed = current.locator(".eye").get_attribute("aria-pressed")
    page.keyboard.press("e")
    table.until(lambda: current.locator(".eye").get_attribute("aria-pressed"), lambda now: now != pressed)
    page.keyboard.press("Enter")
    page.locator(".run-header").wait_for()
    table.address_has(f"run/{name}")


def test_what_differs_between_two(visit, watched):
    made = visit()
    page = made.go("runs", part="diff", a=watched.river, b=watched.failed)
    row = page.get_by_role("row").filter(has=page.get_by_role("rowheader", name="model.width", exact=True))
    row.wait_for()
    assert row.locator("td").all_inner_texts() == ["512", "128"]
    assert page.get_by_role("rowheader", name="train.optimizer").count() == 0  # the same in both
    page.get_by_role("button", name="Swap").click()
    row.locator("td").first.get_by_text("128").wait_for()
    made.until(row.locator("td").all_inner_texts, lambda texts: texts == ["128", "512"])


def test_parallel_coordinates_keep_what_is_brushed(visit, watched):
    made = visit()
    page = made.go("runs", part="parallel", axes="config.model.width,config.train.lr,metric.train/loss")
    canvas = page.locator(".parallel canvas")
    canvas.wait_for()
    page.wait_for_function("() => document.querySelector('.parallel canvas').width > 400")
    # an empty canvas of this size has 3,000 letters
    made.until(lambda: canvas.evaluate("c => c.toDataURL().length"), lambda letters: letters > 10_000)
    box = canvas.bounding_box()
    page.mouse.move(box["x"] + 74, box["y"] + 30)  # the top of the first axis: the widest
    page.mouse.down()
    page.mouse.move(box["x"] + 74, box["y"] + 80, steps=3)
    page.mouse.up()
    page.get_by_role("button", name="Show these in charts").click()
    page.keyboard.press("g")
    page.keyboard.press("c")
    made.drawn("loss", 100)
    made.until(lambda: {run for run, _, _ in made.points("loss")}, lambda runs: runs == {watched.river})


def test_five_hundred_runs_open_at_once_and_scroll(tmp_path, visit):
    make_many(tmp_path, 500)
    where, server = open_server(tmp_path, "127.0.0.1", 0)
    thread = threading.Thread(target=server.serve_until_stopped)
    thread.start()
    try:
        made = visit()
        made.base = where.url
        page = made.go("runs")
        page.get_by_text("500 runs").wait_for()
        page.reload()
        page.locator(".run-row[data-run]").first.wait_for()
        assert page.locator(".run-row[data-run]").count() < 60  # only what is seen
        first = rows(page)[0]
        page.evaluate("document.querySelector('.virtual').scrollTop += 16000")  # twenty screens down
        names = made.until(lambda: rows(page), lambda names: names and first not in names)
        assert len(names) < 60
        assert names[-1].startswith("puddle")
    finally:
        made.page.close()
        server.should_exit = True
        thread.join(10)
        made.strangers.clear()  # this server was not the others'


def test_a_run_with_advice_is_marked(visit, watched):
    made = visit()

    def advise(route):
        answer = route.fetch()
        told = answer.json()
        for run in told["runs"]:
            run["advice"] = {"kind": "lr_too_high", "severity": "warning"} if run["name"] == watched.river else None
        route.fulfill(response=answer, json=told)

    made.page.route("**/api/runs", advise)
    made.go("runs")
    made.page.locator(f'[data-run="{watched.river}"]').get_by_label("advice: lr too high").wait_for()
    assert made.page.locator(".run-row .mark").count() == 1
