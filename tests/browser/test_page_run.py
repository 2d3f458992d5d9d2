"""One run's own view: saves, histograms, samples, texts; and the frame around every view."""

import re

import pytest

from browser.watched import HOSTILE, SAVES
from polyana.registry import Repository


def test_one_look_tells_which_run_how_far_and_how_it_is(visit, watched):
    made = visit()
    page = made.go(f"run/{watched.river}")
    header = page.locator(".run-header")
    header.get_by_text("400 / 600").wait_for()
    assert header.locator(".status").inner_text() == "interrupted"
    assert header.get_by_role("progressbar").get_attribute("aria-valuenow") == "67"
    failed = made.go(f"run/{watched.failed}")
    failed.get_by_text("the loss was not finite for 5 steps").wait_for()


def test_a_save_has_its_numbers_commands_and_another_beside_it(visit, watched):
    made = visit(permissions=["clipboard-read", "clipboard-write"])
    page = made.go(f"run/{watched.river}", save=f"{watched.river}@300")
    drawer = page.get_by_role("complementary")
    drawer.get_by_text("step-300", exact=True).wait_for()
    assert drawer.get_by_role("row").filter(has_text="size").inner_text().endswith("kB")
    drawer.get_by_role("button", name="Copy the transformers command").click()
    command = page.evaluate("navigator.clipboard.readText()")
    assert "from_pretrained" in command
    assert watched.river in command
    drawer.get_by_label("compare with").select_option(f"{watched.river}@100")
    drawer.get_by_role("columnheader", name="change").wait_for()
    made.address_has(f"with={watched.river}@100")
    row = drawer.get_by_role("row").filter(has=page.get_by_role("rowheader", name="eval/loss"))
    first, second, change = (float(text.lstrip("+")) for text in row.locator("td").all_inner_texts())
    assert change == pytest.approx(second - first, abs=1e-3)
    page.keyboard.press("Escape")
    made.address_lacks("save=")


def test_a_save_writes_right_there(visit, watched):
    made = visit()
    page = made.go(f"run/{watched.tiny}/saves")
    page.locator(".saves .link-button").first.click()
    drawer = page.get_by_role("complementary")
    drawer.get_by_label("Prompt").fill("The people")
    drawer.get_by_label("tokens", exact=True).fill("6")
    drawer.get_by_role("button", name="Generate", exact=True).click()
    page.locator('.written[data-state="done"]').wait_for(timeout=180_000)
    written = page.locator(".written .prose").inner_text()
    assert written.startswith("The people")
    assert len(written) > len("The people")


def test_what_a_save_wrote_stays_when_retention_takes_the_save(visit, watched):
    made = visit()
    page = made.go(f"run/{watched.tiny}/saves")
    page.locator(".saves .link-button").first.click()
    drawer = page.get_by_role("complementary")
    drawer.get_by_label("tokens", exact=True).fill("3")
    drawer.get_by_role("button", name="Generate", exact=True).click()
    page.locator('.written[data-state="done"]').wait_for(timeout=180_000)
    written = page.locator(".written .prose").inner_text()

    def without_saves(route):
        answer = route.fetch()
        route.fulfill(response=answer, json=answer.json() | {"checkpoints": []})

    page.route(
        f"**/api/runs/{watched.tiny}",
        lambda route: without_saves(route) if route.request.method == "GET" else route.continue_(),
    )
    note = "note => fetch('api/runs/' + note[0], { method: 'PATCH', body: JSON.stringify({ notes: note[1] }) })"
    page.evaluate(note, [watched.tiny, "a save has gone"])  # so that the page asks again
    drawer.get_by_text("This save is not kept any more").wait_for()
    assert page.locator(".written .prose").inner_text() == written
    assert not drawer.get_by_role("button", name="Mark as best").count()
    page.evaluate(note, [watched.tiny, ""])


def test_best_may_be_moved(visit, watched):
    made = visit()
    page = made.go(f"run/{watched.river}", save=f"{watched.river}@{SAVES[2]}")
    page.get_by_role("button", name="Mark as best").click()
    page.locator(".drawer .tag.best").wait_for()
    refs = watched.home / "hub" / f"models--polyana--{watched.river}" / "refs"
    assert (refs / "best").read_text() == (refs / f"step-{SAVES[2]}").read_text()


def test_histograms_are_drawn_and_dead_gradients_named(visit, watched):
    made = visit()
    page = made.go(f"run/{watched.river}/histograms")
    gradients = page.locator('[data-histogram="gradients/block"]')
    gradients.get_by_text("98% of these gradients are exactly zero from step 320 on").wait_for()
    assert page.locator('[data-histogram="weights/block"] .worry').count() == 0

    def painted():
        return gradients.locator("canvas").evaluate("c => c.toDataURL().length")

    made.until(painted, lambda letters: letters > 4000)  # an empty canvas of this size has 2,000
    page.get_by_role("button", name="ridges").click()
    made.address_has("shape=ridges")
    made.until(painted, lambda letters: letters > 8000)


def test_samples_stand_side_by_side_across_steps_and_runs(visit, watched):
    made = visit()
    page = made.go("samples", runs=f"{watched.river},{watched.tiny}")
    page.get_by_text("at step 400").wait_for()
    made.until(page.locator(".samples thead th").count, lambda columns: columns == 4)  # first and newest of each
    page.get_by_role("button", name="200", exact=True).click()
    page.get_by_text("at step 200").wait_for()
    assert HOSTILE in page.locator(".samples").inner_text()
    assert page.locator(".samples img").count() == 0


def test_recipe_log_events_environment_and_reports(visit, watched):
    made = visit()
    page = made.go(f"run/{watched.river}/recipe", against=watched.tiny)
    page.locator(".code .new").filter(has_text="name: river").wait_for()
    page.locator(".code .gone").filter(has_text="name: tiny").wait_for()
    if page.locator(".code .fold").count():
        lines = page.locator(".code .same").count()
        page.locator(".code .fold").first.click()
        made.until(page.locator(".code .same").count, lambda now: now > lines)
    page = made.go(f"run/{watched.river}/log")
    page.get_by_text("the river rises").wait_for()
    assert HOSTILE in page.locator(".log").inner_text()
    page = made.go(f"run/{watched.river}/events")
    page.locator(".events tr.resume").wait_for()
    page = made.go(f"run/{watched.river}/environment")
    page.get_by_role("rowheader", name="packages.torch").wait_for()
    page = made.go(f"run/{watched.river}/media")
    page.get_by_alt_text("dot at step 400").wait_for()
    made.until(lambda: page.get_by_alt_text("dot at step 400").evaluate("image => image.naturalWidth") == 1)
    made.until(page.locator(".record").filter(has_text=HOSTILE).count, lambda records: records == 2)


def test_reports_are_shown_in_a_frame_that_reaches_nothing(visit, watched):
    made = visit()
    page = made.go(f"run/{watched.river}/reports")
    page.frame_locator("iframe").get_by_text("249 documents").wait_for()
    assert page.locator("iframe").get_attribute("sandbox") == "allow-scripts"  # and so of an origin of its own
    inside = next(frame for frame in page.frames if "/files/" in frame.url)
    assert inside.evaluate("window.origin") == "null"
    page = made.go(f"run/{watched.tiny}/reports")
    page.frame_locator("iframe").locator("h1").first.wait_for()  # the corpus' own


def test_reports_of_the_home_have_a_view_of_their_own(visit, watched):
    made = visit()
    page = made.go("runs")
    page.locator(".top").wait_for()
    page.keyboard.press("g")
    page.keyboard.press("o")
    rows = page.locator(".report-list button")
    rows.first.wait_for()
    made.until(
        lambda: [" ".join(text.split()[:2]) for text in rows.all_inner_texts()],
        lambda kinds: kinds[1:2] == ["corpus report"],
    )
    page.get_by_label("Filter reports").fill("tiny/corpus")
    page.frame_locator("iframe").locator("h1").first.wait_for()
    rows.first.click()
    made.address_has("page=/reports/corpus-")
    page.get_by_label("Filter reports").fill("river")
    page.locator(".report-list button").get_by_text("report", exact=True).click()
    page.frame_locator("iframe").get_by_text("249 documents").wait_for()


def test_what_a_save_scored_stands_beside_its_numbers(visit, watched):
    repository = Repository(watched.home / "hub", watched.river)
    for step, value in ((SAVES[0], 0.5), (SAVES[1], 0.75)):
        (commit,) = (each for each in repository.commits() if each.step == step)
        score = {"value": value, "low": value - 0.1, "high": value + 0.1}
        repository.record_evaluation(commit, "my suite", {"metrics": {"accuracy": score}})
    made = visit()
    page = made.go(
        f"run/{watched.river}",
        save=f"{watched.river}@{SAVES[0]}",
        **{"with": f"{watched.river}@{SAVES[1]}"},
    )
    row = page.get_by_role("complementary").get_by_role("row").filter(has_text="my suite")
    row.wait_for()
    told = [text.split("\n") for text in row.locator("td").all_inner_texts()]
    assert told == [["0.5", "0.4 to 0.6"], ["0.75", "0.65 to 0.85"], ["+0.25"]]


def test_advice_says_what_and_why(visit, watched, address):
    made = visit()

    def advise(route):
        answer = route.fetch()
        advice = {
            "kind": "overfitting", "severity": "warning", "title": "Overfitting since step 200",
            "text": "eval/loss has risen twice.",
            "evidence": {"metric": "eval/loss", "from": 200, "to": 300, "risen": 2},
        }  # fmt: skip
        route.fulfill(response=answer, json=answer.json() | {"advice": [advice]})

    made.page.route(re.compile(r"/api/runs/[^/]+$"), advise)
    page = made.go(f"run/{watched.river}")
    card = page.get_by_role("article").filter(has_text="Overfitting since step 200")
    assert "risen: 2" in card.inner_text()
    card.get_by_role("button", name="steps 200 to 300").click()
    made.address_has("zoom=200:300")


def test_dark_and_light_follow_the_system_and_the_switch(visit, watched):
    back = "getComputedStyle(document.body).backgroundColor"
    dark = visit(color_scheme="dark")
    page = dark.go("runs")
    page.locator(".run-row").first.wait_for()
    dark.until(lambda: page.evaluate(back), lambda colour: colour == "rgb(14, 18, 17)")
    page.keyboard.press("t")
    dark.until(lambda: page.evaluate(back), lambda colour: colour == "rgb(244, 247, 245)")
    page.reload()
    dark.until(lambda: page.evaluate(back), lambda colour: colour == "rgb(244, 247, 245)")


def test_the_keys_are_documented(visit):
    page = visit().go("runs")
    page.locator(".top").wait_for()
    page.keyboard.press("?")
    dialog = page.get_by_role("dialog", name="Keys")
    assert "next x axis" in dialog.inner_text()
    page.keyboard.press("Escape")
    dialog.wait_for(state="detached")


@pytest.mark.parametrize(
    "view", ["runs", "charts", "samples", "reports", "run/{river}", "run/{river}/saves", "run/{river}/recipe"]
)
def test_nothing_runs_over_the_edge_of_a_telephone(visit, watched, view):
    made = visit(width=360, height=740)
    page = made.go(view.format(river=watched.river))
    page.locator("main").wait_for()
    page.wait_for_timeout(300)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    assert page.locator("main").bounding_box()["width"] >= 340


def test_a_run_that_is_not_there_is_said_so(visit):
    made = visit()
    page = made.go("run/nothing-pretrain")
    page.get_by_text("There is no run “nothing-pretrain” here.").wait_for()


def test_every_button_and_field_has_a_name(visit, watched):
    made = visit()
    for view in ("runs", "charts", "reports", f"run/{watched.river}", f"run/{watched.river}/histograms"):
        page = made.go(view, save=f"{watched.river}@300")
        page.locator("main").wait_for()
        page.wait_for_timeout(200)
        nameless = page.evaluate(
            """() => [...document.querySelectorAll('button, a, input, select, textarea')]
              .filter((each) => !(each.innerText || each.ariaLabel || each.labels?.[0]?.innerText || '').trim())
              .map((each) => each.outerHTML)"""
        )
        assert nameless == []
