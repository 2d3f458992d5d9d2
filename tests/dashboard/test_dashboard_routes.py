"""What the server says of real runs and of damaged ones."""

import json
import shutil
import threading
import time

import numpy as np
import pytest

from polyana.dashboard import last_rows
from polyana.dashboard.export_charts import HEIGHT, draw_charts
from polyana.registry import Ranking, Repository
from polyana.storage import read_json
from polyana.tracking import Curves, Histogram, Index, MetricLog, RunDirectory, read_curves


@pytest.fixture
def trained(tiny, polyana, home):
    """A tiny run, really trained; its name."""
    polyana("run", tiny)
    (path,) = (home / "runs").iterdir()
    return RunDirectory(path)


def test_a_trained_run_from_end_to_end(trained, serve, home):
    browser, name = serve(), trained.name
    answer = browser.get("/api/runs")
    (row,) = answer["runs"]
    curves = read_curves(trained.metrics)
    assert (row["name"], row["recipe"], row["stage"], row["status"]) == (name, "tiny", "pretrain", "finished")
    assert (row["step"], row["steps"], row["tokens"], row["attempts"]) == (12, 12, 12 * 128, 1)
    assert row["last"] == {metric: points[-1][1] for metric, points in curves.items()}
    assert row["config"]["train.optimizer.kind"] == "adamw"
    best = Repository(home / "hub", name).resolve("best")
    loss = best.metrics["eval/loss"]
    assert row["best"] == {"step": best.step, "eval/loss": loss, "by": "eval/loss", "lowest": True, "value": loss}

    detail = browser.get(f"/api/runs/{name}")
    assert detail["metrics"] == sorted(curves)
    assert [event["event"] for event in detail["events"]] == ["save"] * 3
    assert [save["step"] for save in detail["checkpoints"]] == [
        commit.step for commit in Repository(home / "hub", name).commits()
    ]
    newest = detail["checkpoints"][-1]
    assert {"main", "step-12"} <= set(newest["refs"])
    files = (home / "hub").glob(f"*/snapshots/{newest['commit']}/*")
    assert newest["bytes"] == sum(path.stat().st_size for path in files if path.name != "commit.json")
    assert f"revision='step-{newest['step']}'" in newest["load"]["transformers"]
    assert detail["schedule"]["steps"] == list(range(1, 13))
    assert np.allclose(detail["schedule"]["lr"], [rate for _, rate in curves["train/lr"]])
    assert detail["troubles"] == []
    (page,) = detail["pages"]
    status, headers, body = browser.ask("GET", page["url"])
    assert (status, page["title"]) == (200, "corpus report")
    assert "sandbox" in headers["content-security-policy"]
    assert body.startswith(b"<!doctype html>")

    loss, evaluation = browser.series((name, "train/loss"), (name, "eval/loss"), smoothing=0.5)
    assert list(zip(*(array.tolist() for array in loss["raw"]), strict=True)) == curves["train/loss"]
    assert evaluation["raw"][0].tolist() == [0, 4, 8, 12]
    assert len(loss["smooth"][1]) == 12

    samples = browser.get(f"/api/runs/{name}/samples")
    assert samples["steps"] == [0, 6, 12]
    assert samples["samples"]["6"] == trained.read_samples()[6]
    assert browser.get(f"/api/runs/{name}/environment") == read_json(trained.path / "environment.json")
    assert browser.ask("GET", f"/api/runs/{name}/recipe")[2] == (trained.path / "recipe.yaml").read_bytes()
    log = browser.get(f"/api/runs/{name}/log")
    assert log["text"] == (trained.path / "log.txt").read_text()
    assert browser.get(f"/api/runs/{name}/log?from={log['next']}") == {"text": "", "next": log["next"]}


def test_the_exports_need_nothing_else(trained, serve):
    browser, name = serve(), trained.name
    (trained.path / "samples" / "step-00000006.json").write_text(
        json.dumps([{"prompt": "<script>alert(1)</script>", "text": "<b>"}])
    )
    status, headers, body = browser.ask("GET", f"/api/runs/{name}/export.html")
    page = body.decode()
    assert (status, headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert "attachment" in headers["content-disposition"]
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)" in page
    assert "src=" not in page
    drawn = [
        metric for metric in browser.get(f"/api/runs/{name}")["metrics"] if not metric.endswith(("/tokens", "/epoch"))
    ]
    assert page.count("<svg") == len(drawn) - 1  # train and eval are in one
    assert page.index("<b>Loss</b>") < page.index("<b>Learning rate</b>") < page.index("<b>eval/perplexity</b>")
    assert page.count("<circle") == len(browser.get(f"/api/runs/{name}")["checkpoints"])
    assert "packages.torch" in page
    _, headers, body = browser.ask("GET", f"/api/runs/{name}/metrics.csv")
    lines = [line.split(",") for line in body.decode().splitlines()]
    curves = read_curves(trained.metrics)
    assert lines[0] == ["step", *sorted(curves)]
    column = lines[0].index("train/loss")
    assert [(int(line[0]), float(line[column])) for line in lines[1:] if line[column]] == curves["train/loss"]


def test_a_constant_is_a_straight_line_in_the_export_though_smoothing_rounds(make_run, tmp_path):
    run, index = make_run(), Index(tmp_path / "index.sqlite")
    log = MetricLog(run.metrics, 10, "", print)
    for step in range(11, 411):
        log.log(step, {"train/mfu": 0.31})
    log.close()
    index.catch_up("run", run.metrics)
    (chart,) = draw_charts(Curves(index, "run"), ["train/mfu"], [])
    assert {line["kind"] for line in chart["lines"]} == {"raw", "main"}
    for line in chart["lines"]:
        assert {pair.split()[1] for pair in line["d"][1:].split("L")} == {f"{HEIGHT / 2:.1f}"}
    index.close()


def writers():
    import psutil

    return [child for child in psutil.Process().children() if "polyana.dashboard.generate" in child.cmdline()]


def test_a_save_writes_beside_the_page(trained, serve, monkeypatch):
    """In a process of its own, one for all who ask; it goes when nobody does. Wrong requests are letters."""
    browser, path = serve(), f"/api/runs/{trained.name}/generate"
    request = {"revision": "best", "prompt": "The people", "max_tokens": 8, "seed": 3}
    events = [(kind, data) for kind, data, _ in browser.events(path, 120, "POST", request)]
    assert [kind for kind, _ in events] == ["token"] * (len(events) - 1) + ["done"]
    assert events[-1][1]["seconds"] > 0
    written = "".join(data["text"] for _, data in events[:-1])
    assert written
    (process,) = writers()
    again = [(kind, data) for kind, data, _ in browser.events(path, 120, "POST", request)]
    assert "".join(data["text"] for _, data in again[:-1]) == written
    ((kind, data, _),) = browser.events(path, 120, "POST", request | {"revision": "step-99"})
    assert kind == "error"
    assert "step-12" in data["error"]
    for wrong in ({"prompt": 3}, {}, [], {"prompt": "x", "max_tokens": "many"}):
        assert browser.ask("POST", path, wrong)[0] == 400
    assert [each.pid for each in writers()] == [process.pid]
    monkeypatch.setattr("polyana.dashboard.generate._WARM", 0.2)
    list(browser.events(path, 120, "POST", request))
    end = time.monotonic() + 30
    while writers() and time.monotonic() < end:
        time.sleep(0.05)
    assert writers() == []


def test_a_writing_process_ends_with_its_browser(trained, serve, monkeypatch):
    monkeypatch.setenv("POLYANA_NICE", "19")  # which tests have set to 0
    browser, path = serve(), f"/api/runs/{trained.name}/generate"
    request = {"prompt": "The", "max_tokens": 100_000, "temperature": 1.0}

    events = browser.events(path, 120, "POST", request)
    reader = threading.Thread(target=lambda: next(events, None))
    reader.start()
    end = time.monotonic() + 60
    while not writers() and time.monotonic() < end:
        time.sleep(0.01)
    (process,) = writers()
    while process.nice() != 19 and time.monotonic() < end:
        time.sleep(0.01)
    assert process.nice() == 19
    status, _, body = browser.ask("POST", path, request)
    assert (status, "is writing" in body.decode()) == (409, True)
    reader.join(100)
    events.close()  # the browser goes
    while writers() and time.monotonic() < end:
        time.sleep(0.05)
    assert writers() == []


def test_tags_notes_and_group(make_run, serve):
    run, browser = make_run(), serve()
    path = f"/api/runs/{run.name}"
    before = (run.path / "run.json").read_bytes()
    status, _, body = browser.ask("PATCH", path, {"tags": ["good"], "notes": "<i>look</i>"})
    assert (status, json.loads(body)) == (200, {"tags": ["good"], "notes": "<i>look</i>", "group": ""})
    browser.ask("PATCH", path, {"group": "first"})
    assert browser.get(path)["group"] == "first"
    (row,) = browser.get("/api/runs")["runs"]
    assert (row["tags"], row["notes"], row["group"]) == (["good"], "<i>look</i>", "first")
    assert (run.path / "run.json").read_bytes() == before
    for wrong in ({"status": "finished"}, {"tags": "good"}, {"tags": [1]}, {"notes": None}, []):
        assert browser.ask("PATCH", path, wrong)[0] == 400


def test_best_is_moved(trained, serve, home):
    browser, repository = serve(), Repository(home / "hub", trained.name)
    other = next(commit for commit in repository.commits() if commit.id != repository.refs()["best"])
    repository.rank_by(Ranking("gold/reward", lowest=False))
    assert browser.ask("POST", f"/api/runs/{trained.name}/best", {"step": other.step})[0] == 200
    assert repository.ranking() == Ranking("gold/reward", lowest=False, commit=other.id)
    assert repository.resolve("best") == other
    shown = browser.get("/api/runs")["runs"][0]["best"]
    assert (shown["step"], shown["by"], shown["lowest"], shown["value"]) == (other.step, "gold/reward", False, None)
    assert browser.ask("POST", f"/api/runs/{trained.name}/best", {"step": 999})[0] == 404


def test_reports_are_listed_whether_a_run_has_used_them_or_not(trained, polyana, serve, home, tmp_path):
    (tmp_path / "corpus.yaml").write_text(
        "name: alone\nstages:\n  texts: {kind: corpus, sources: [{path: texts}], eval: 30%}\n"
    )
    polyana("run", tmp_path / "corpus.yaml")
    (trained.path / "translations.html").write_text("<p>good</p>")
    browser = serve()
    browser.get("/api/runs")
    found = browser.get("/api/reports")
    assert [(report["title"], report["of"]) for report in found] == [
        ("translations", trained.name), ("corpus report", "alone/texts"), ("corpus report", "tiny/corpus")
    ]  # fmt: skip
    assert found[1]["made"] > found[2]["made"]
    for report in found:
        status, headers, body = browser.ask("GET", report["url"])
        assert (status, headers["content-type"].partition(";")[0]) == (200, "text/html")
        assert "sandbox" in headers["content-security-policy"]
        assert b"</p>" in body
    for path in ("/reports/nothing/report.html", "/reports/../runs/x", "/reports/%2e%2e/index.sqlite"):
        assert browser.ask("GET", path)[0] in (404, 200)
        assert b"SQLite" not in browser.ask("GET", path)[2]


def test_what_cleaning_bought_is_listed_where_its_corpus_is(trained, serve, home):
    """An ablation is made from the corpus, as the run is; no other's is shown."""
    (corpus,) = (home / "stages").glob("corpus-*")
    mine = corpus.name.rpartition("-")[2].ljust(64, "0")  # its fingerprint, of which 16 digits are looked at
    for number, fingerprint in enumerate((mine, "0" * 64)):
        stage = home / "stages" / f"ablation-{number:016}"
        stage.mkdir()
        (stage / "artifact.json").write_text(json.dumps({"inputs": {"cleaned": fingerprint, "raw": "1" * 64}}))
        (stage / "ablation.html").write_text("<p>bought</p>")
    (home / "stages" / "ablation-broken").mkdir()
    browser = serve()
    pages = browser.get(f"/api/runs/{trained.name}")["pages"]
    assert [page["title"] for page in pages] == ["ablation", "corpus report"]
    assert b"bought" in browser.ask("GET", pages[0]["url"])[2]


def test_a_save_has_what_it_scored(trained, serve, home):
    repository = Repository(home / "hub", trained.name)
    best = repository.resolve("best")
    metrics = {"loss": {"value": 1.5, "low": 1.0, "high": 2.0, "n": 3}, "odd": "?", "chrf": {"value": 40}}
    repository.record_evaluation(best, "perplexity", {"metrics": metrics})
    repository.record_evaluation(best, "strange", {"metrics": []})
    saves = {save["step"]: save for save in serve().get(f"/api/runs/{trained.name}")["checkpoints"]}
    assert saves.pop(best.step)["evaluations"] == {
        "perplexity": {"loss": {"value": 1.5, "low": 1.0, "high": 2.0}, "chrf": {"value": 40}}, "strange": {}
    }  # fmt: skip
    assert all(save["evaluations"] == {} for save in saves.values())


def test_two_runs_differ_in_what_was_set(make_run, serve):
    a, b = (
        make_run(),
        make_run(settings={"train": {"lr": 0.02, "optimizer": {"kind": "adamw"}}, "seed": 7, "more": [1]}),
    )
    assert serve().get(f"/api/diff?a={a.name}&b={b.name}") == [
        {"key": "train.lr", "a": 0.01, "b": 0.02}, {"key": "more", "a": None, "b": [1]}
    ]  # fmt: skip


def test_histograms_are_at_most_200_columns(make_run, serve):
    run, browser = make_run(), serve()
    log = MetricLog(run.metrics, 10, "", print)
    for step in range(11, 1011):
        log.histograms(step, {"weights/all": Histogram(-1, 1, [step], 0.0, 1.0)})
    log.text(11, "note", "<b>")
    log.close()
    found = browser.get(f"/api/runs/{run.name}/histograms?name=weights/all")
    assert len(found["steps"]) == len(found["counts"]) == 200
    assert (found["steps"][0], found["steps"][-1], found["counts"][-1]) == (11, 1010, [1010])
    assert browser.get(f"/api/runs/{run.name}")["histograms"] == ["weights/all"]
    assert browser.get(f"/api/runs/{run.name}/texts?name=note")[0]["value"] == "<b>"


def test_each_series_may_have_a_window_of_its_own(make_run, serve):
    run, browser = make_run(150), serve()
    one = {"run": run.name, "metric": "train/loss"}
    body = {"series": [one | {"from": 100, "to": None}, one, one | {"to": 20, "width": 5}], "from": 50, "width": 1000}
    status, _, answer = browser.ask("POST", "/api/series", body)
    assert status == 200
    header = json.loads(answer[4 : 4 + int.from_bytes(answer[:4], "little")])
    assert [(each["total"], each["raw"]) for each in header] == [(51, 51), (101, 101), (0, 0)]
    for wrong in ({"from": "a"}, {"width": 0}, {"to": True}):
        assert browser.ask("POST", "/api/series", {"series": [one | wrong]})[0] == 400


def test_a_resumed_run_is_marked(make_run, serve):
    run, browser = make_run(150), serve()
    log = MetricLog(run.metrics, 100, "", print)
    for step in range(101, 221):
        log.log(step, {"train/loss": 2.0})
    log.close()
    (drawn,) = browser.series((run.name, "train/loss"))
    assert (drawn["total"], len(drawn["raw"][0]), drawn["marks"]) == (220, 220, [100])
    assert drawn["ghost"][0].tolist() == list(range(101, 151))
    (resumed,) = browser.get(f"/api/runs/{run.name}")["resumed"]
    assert (resumed["step"], resumed["attempt"]) == (100, 2)


def test_what_is_damaged_is_told_and_hides_nothing_else(make_run, serve, home):
    whole, damaged, torn, odd = make_run(), make_run(), make_run(), make_run()
    (damaged.path / "run.json").write_text("{")
    (odd.path / "run.json").unlink()
    (odd.path / "run.json").mkdir()
    (home / "runs" / "half-made").mkdir()
    (torn.path / "notes.json").write_text("?")
    with (torn.metrics / "attempt-0001.jsonl").open("ab") as file:
        file.write(b'\x00garbage\n{"step":11,"train/loss":0.5,"time":1.0}\n{"step":12,"tra')
    browser = serve()
    answer = browser.get("/api/runs")
    assert sorted(run["name"] for run in answer["runs"]) == sorted([whole.name, torn.name])
    assert [trouble.partition(":")[0] for trouble in answer["troubles"]] == sorted([damaged.name, odd.name])
    detail = browser.get(f"/api/runs/{torn.name}")
    assert (detail["step"], detail["notes"], len(detail["troubles"])) == (11, "", 3)  # garbage, a torn line, the clock
    (drawn,) = browser.series((torn.name, "train/loss"))
    assert drawn["raw"][0].tolist() == list(range(1, 12))
    status, _, body = browser.ask("GET", f"/api/runs/{damaged.name}")
    assert (status, "damaged" in body.decode()) == (404, True)


def test_damaged_saves_cost_the_list_of_saves(trained, serve, home):
    repository = Repository(home / "hub", trained.name)
    best = repository.resolve("best")
    (repository.path / "snapshots" / best.id / "commit.json").write_text("{")
    detail = serve().get(f"/api/runs/{trained.name}")
    assert (detail["checkpoints"], detail["best"]) == ([], None)
    assert "commit.json is damaged" in detail["troubles"][0]
    assert detail["metrics"]


def test_a_run_deleted_while_it_is_open(make_run, serve):
    gone, stays = make_run(), make_run()
    browser = serve()
    assert browser.series((gone.name, "train/loss"))[0]["total"] == 10
    shutil.rmtree(gone.path)
    drawn = browser.series((gone.name, "train/loss"), (stays.name, "train/loss"))
    assert [one["total"] for one in drawn] == [0, 10]
    status, _, body = browser.ask("GET", f"/api/runs/{gone.name}")
    assert (status, "deleted" in json.loads(body)["error"]) == (404, True)
    assert [run["name"] for run in browser.get("/api/runs")["runs"]] == [stays.name]


def test_two_servers_on_one_home(make_run, serve, home):
    run = make_run(5000)
    browsers = [serve() for _ in range(2)]
    found = []

    def look(browser):
        found.append(browser.series((run.name, "train/loss"), width=10_000)[0]["raw"][0].tolist())

    log = MetricLog(run.metrics, 5000, "", print)
    for end in range(6000, 9000, 1000):
        for step in range(end - 999, end + 1):
            log.log(step, {"train/loss": 1.0})
        threads = [threading.Thread(target=look, args=(browser,)) for browser in browsers for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert found == [list(range(1, end + 1))] * 4
        found.clear()
    log.close()


def test_the_index_may_be_damaged_while_it_is_used(make_run, serve, home):
    run, browser = make_run(3000), serve()
    assert browser.series((run.name, "train/loss"))[0]["total"] == 3000
    for path in home.glob("index.sqlite*"):
        path.unlink()
    (home / "index.sqlite").write_bytes(b"no database" * 5000)
    another = serve()
    assert another.series((run.name, "train/loss"))[0]["total"] == 3000
    assert browser.series((run.name, "train/loss"))[0]["total"] == 3000


def test_the_last_evaluation_is_found_above_many_steps(make_run, serve, monkeypatch):
    run = make_run(10)
    log = MetricLog(run.metrics, 10, "", print)
    for step in range(11, 2011):
        log.log(step, {"train/loss": float(step), "train/tokens": step})
        if step == 500:
            log.log(step, {"eval/loss": 0.25})
    log.close()
    assert (run.metrics / "attempt-0002.jsonl").stat().st_size > 4 * last_rows._TAIL
    (row,) = serve().get("/api/runs")["runs"]
    assert (row["step"], row["last"]["train/loss"], row["last"]["eval/loss"]) == (2010, 2010, 0.25)


@pytest.mark.parametrize(
    "body",
    [
        b"{", b"[]", b"{}", b'{"series":[{"run":1,"metric":"x"}]}', b'{"series":[],"x":"miles"}',
        b'{"series":[],"width":0}', b'{"series":[],"smoothing":1}', b'{"series":[],"from":"a"}',
        b'{"series":[],"from":NaN}', b'{"series":' + b"[" * 2_000_000,
    ],
)  # fmt: skip
def test_wrong_requests_are_answered_with_a_letter(serve, body):
    status, _, answer = serve().ask("POST", "/api/series", body)
    assert status in (400, 413)
    assert json.loads(answer)["error"]


def test_without_a_built_page_the_address_says_how_to_build_it(serve, monkeypatch, tmp_path):
    status, headers, body = serve().ask("GET", "/")
    assert status == 200
    assert headers["content-type"].startswith("text/html")
    assert b"make ui" in body or b"<script" in body  # a checkout; built


def test_500_runs_are_listed(make_run, serve, home):
    """How long it takes is measured by benchmarks/tracking; here, that nothing of it needs the index."""
    first = make_run(200)
    for number in range(499):
        shutil.copytree(first.path, first.path.with_name(f"copy-{number:03d}"))
    answer = serve().get("/api/runs")
    assert len({run["name"] for run in answer["runs"]}) == 500
    assert {run["last"]["train/loss"] for run in answer["runs"]} == {1 / 200}
    assert not (home / "index.sqlite").exists()


def test_a_home_without_runs(serve):
    answer = serve().get("/api/runs")
    assert (answer["runs"], answer["troubles"]) == ([], [])


def test_the_command_wants_a_home(polyana, tmp_path):
    assert "there is no" in polyana("ui", "--home", tmp_path / "nowhere", "--no-browser", check=2).stderr
