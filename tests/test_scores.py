"""`polyana evaluate` on a run that was really trained: results kept with the commit, compared, reported."""

import json

import pytest
from conftest import SHARED, newest_run

from polyana.registry import Repository
from polyana.tracking import RunDirectory

pytest.importorskip("numba")  # which the words of contamination are compared by


@pytest.fixture
def trained(tiny, polyana, home):
    """The name of a run of twelve steps, with saves at 8 and 12."""
    polyana("run", tiny, "--set", "stages.corpus.eval=50%")
    return newest_run(home).name


def evaluate(polyana, *arguments):
    return json.loads(polyana("evaluate", *arguments, "--json").stdout)


def test_what_a_run_held_out_is_predicted_once_and_kept(trained, tiny, polyana, home):
    (found,) = evaluate(polyana, trained, "--suite", "perplexity")
    metrics = found["metrics"]
    assert list(metrics) == ["loss", "perplexity", "bits_per_byte"]
    assert metrics["loss"]["low"] < metrics["loss"]["value"] < metrics["loss"]["high"]
    repository = Repository(home / "hub", trained)
    commit = repository.resolve("main")
    assert found["commit"] == commit.id
    assert repository.evaluations(commit)["perplexity"]["metrics"] == metrics
    # as far from the training's own eval/loss as its blocks of text, which begin anywhere, are from whole documents
    assert metrics["loss"]["value"] == pytest.approx(commit.metrics["eval/loss"], rel=0.1)
    again = polyana("evaluate", trained, "--suite", "perplexity").stdout
    assert "kept from before" in again
    assert f"n {metrics['loss']['n']}" in again
    assert evaluate(polyana, trained, "--suite", "perplexity")[0]["time"] == found["time"]
    assert evaluate(polyana, trained, "--suite", "perplexity", "--again")[0]["time"] > found["time"]


def test_two_saves_are_compared_in_pairs(trained, polyana, home):
    (found,) = evaluate(polyana, f"{trained}@step-12", "--against", f"{trained}@step-8", "--suite", "perplexity")
    compared = {each["metric"]: each for each in found["compared"]}
    loss = compared["loss"]
    assert loss["difference"] == pytest.approx(loss["system"] - loss["baseline"])
    assert loss["system"] == found["metrics"]["loss"]["value"]
    assert loss["verdict"] in {"better", "worse", "may be chance"}
    text = polyana("evaluate", f"{trained}@step-12", "--against", f"{trained}@step-8", "--suite", "perplexity").stdout
    assert f"against {loss['baseline']:.4g}" in text
    run = newest_run(home)
    page, markdown = ((run / f"evaluation-perplexity.{ending}").read_text() for ending in ("html", "md"))
    for report in (page, markdown):
        assert "By chance?" in report
        assert "contamination: " in report
        assert "All saves of the run that were asked the same" in report
        assert f"{trained}@step-8" in report
    assert "<script" not in page
    assert "http" not in page.replace("http-equiv", "")


def test_contamination_is_what_stands_in_the_training_text(trained, tiny, polyana, home, tmp_path):
    from polyana.corpus import Corpus

    about = RunDirectory(newest_run(home)).about()
    inputs = json.loads((home / "stages" / about["data"] / "artifact.json").read_text())["inputs"]
    documents = list(Corpus(home / "stages" / f"corpus-{inputs['corpus'][:16]}").documents("train"))
    words = documents[0].text.split()
    rows = [
        {"text": "Something new. " + " ".join(words[20:40]).upper() + " And something else."},  # a stretch of 20 words
        {"text": " ".join(reversed(words[:60]))},
        {"text": "too short"},
        {"text": " ".join(words[50:60])},  # all ten words of a short one
        {"text": "A speech that nobody has ever held, of whales and their long slow songs below the northern ice."},
    ]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "mine.yaml").write_text("tasks: {prose: {kind: perplexity, data: rows.jsonl}}\n")
    (found,) = evaluate(polyana, trained, "--suite", "mine.yaml")
    contamination = found["contamination"]["prose"]
    assert (contamination["items"], contamination["touched"], contamination["share"]) == (4, 2, 0.5)
    said = polyana("evaluate", trained, "--suite", "mine.yaml").stdout
    assert "contamination: 2 of 4 items (50.0%) have 13 words in a row" in said
    assert "; 1 more is too short to tell" in said
    items = Repository(home / "hub", trained).evaluation_items(
        Repository(home / "hub", trained).resolve("main"), "mine"
    )
    assert [item["shown"].get("in the training text") for item in items] == ["yes", "no", None, "yes", "no"]
    for stage in (home / "stages").glob("corpus-*"):
        stage.rename(home / stage.name)
    text = polyana("evaluate", trained, "--suite", "mine.yaml", "--again").stdout
    assert f"prose: contamination: unknown, the corpus of {trained} was deleted" in text


def test_options_that_nothing_reads_are_told(trained, polyana):
    told = polyana("evaluate", trained, "--suite", "generation", "--data", "x.txt", "--include", "y", check=2).stderr
    assert told.splitlines() == [
        "--data  is not read by generation; a suite's file says it itself",
        "--include  is not read by generation; a suite's file says it itself",
    ]
    told = polyana("evaluate", trained, "--suite", "perplexity", "--data", "x.txt", check=2).stderr
    assert told.startswith("`x.txt` does not exist")
    told = polyana("evaluate", trained, "--suite", "translation", check=2).stderr
    assert told == f"{trained} has not learned to translate; a stage of `kind: translate` does\n"


def test_results_go_with_the_save_and_another_run_keeps_its_own_name(trained, tiny, polyana, home):
    first = trained
    evaluate(polyana, first, "--suite", "perplexity")
    polyana("run", tiny, "--set", "stages.corpus.eval=50%", "--set", "stages.pretrain.train.lr=1e-3")
    second = newest_run(home).name
    evaluate(polyana, second, "--suite", "perplexity")
    (found,) = evaluate(polyana, second, "--against", first, "--suite", "perplexity", "--suite", "generation")[:1]
    assert found["suite"] == f"perplexity of {second}"
    repository = Repository(home / "hub", first)
    commit = repository.resolve("main")
    assert set(repository.evaluations(commit)) == {"perplexity", f"perplexity of {second}", f"generation of {second}"}
    repository.remove(commit)
    repository.collect()
    assert not list((repository.path / "evaluations").glob("*"))


def test_the_best_is_picked_by_a_suite_and_the_log_shows_it(trained, polyana, home):
    repository = Repository(home / "hub", trained)
    steps = [commit.step for commit in repository.commits()]
    evaluate(polyana, f"{trained}@step-{steps[0]}", "--suite", "perplexity")
    kept = repository.evaluations(repository.resolve(f"step-{steps[0]}"))["perplexity"]["time"]
    losses = {}
    for way in ("--max", "--min"):
        picked = json.loads(
            polyana("models", "pick", trained, "--by", "loss", "--suite", "perplexity", way, "--json").stdout
        )
        for commit in repository.commits():
            losses[commit.step] = repository.evaluations(commit)["perplexity"]["metrics"]["loss"]["value"]
        assert sorted(losses) == steps
        assert picked["step"] == (max if way == "--max" else min)(losses, key=losses.get)
        assert repository.resolve("best").step == picked["step"]
    assert repository.evaluations(repository.resolve(f"step-{steps[0]}"))["perplexity"]["time"] == kept
    shown = polyana("models", "log", trained).stdout
    assert "perplexity/loss" in shown
    found = repository.evaluations(repository.resolve(f"step-{steps[0]}"))["perplexity"]["metrics"]["loss"]
    assert f"{losses[steps[0]]:.4g} [{found['low']:.4g}, {found['high']:.4g}]" in shown
    assert (
        f"evaluated    perplexity/loss {losses[steps[0]]:.4g} ["
        in polyana("models", "show", f"{trained}@step-{steps[0]}").stdout
    )
    told = polyana("models", "pick", trained, "--by", "eval/loss", "--suite", "perplexity", check=2).stderr
    assert told == "perplexity has no metric `eval/loss`; it has: loss, perplexity, bits_per_byte\n"
    told = polyana("models", "pick", trained, "--by", "length", "--suite", "generation", check=2).stderr
    assert "write --max or --min" in told


STAGE = """\
  chat:
    kind: sft
    base: pretrain@best
    data: [{path: rows.jsonl}]
    template: raw
    context: 32
    held_out: 20%
    adapter: {rank: 4}
    train: {duration: 4 steps, batch: 2 sequences, lr: 1e-2, precision: fp32}
  scores: {kind: evaluate, of: [pretrain, chat@step-4, pretrain@step-12], suites: [perplexity, mine.yaml]}
"""


def test_a_stage_measures_what_others_have_trained(tiny, polyana, home, tmp_path):
    tiny.write_text(tiny.read_text().replace("eval: 20%", "eval: 50%").replace("best: 1", "best: 3") + STAGE)
    rows = [
        {"prompt": f"The {word}", "completion": f"keeps the {word}."} for word in ["people", "country", "peace", "law"]
    ]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows * 5))
    quiz = [{"question": "The people of the", "choices": ["United States", "whales"], "answer": 0}] * 3
    (tmp_path / "quiz.jsonl").write_text("".join(json.dumps(row) + "\n" for row in quiz))
    (tmp_path / "mine.yaml").write_text("tasks: {quiz: {kind: multiple_choice, data: quiz.jsonl}}\n")
    told = polyana("run", tiny).stderr
    (made,) = (home / "stages").glob("evaluate-*")
    found = json.loads((made / "scores.json").read_text())
    assert [(each["run"].split("-")[1], each["step"], each["suite"].partition(" of ")[0]) for each in found] == [
        (stage, step, suite)
        for suite in ("perplexity", "mine")
        for stage, step in (("pretrain", found[0]["step"]), ("chat", 4), ("pretrain", 12))
    ]
    assert [len(each["compared"]) for each in found] == [0, 2, 2, 0, 3, 3]
    assert "quiz.acc" in told
    page = next(made.glob("evaluation-perplexity*.html")).read_text()
    assert f"{found[1]['run']}@step-4 against {found[0]['run']}@step-{found[0]['step']}" in page
    # the adapter's score is its own, and its contamination knows what its base was trained on
    assert found[1]["metrics"]["loss"]["value"] != found[0]["metrics"]["loss"]["value"]
    assert found[1]["contamination"][""]["note"] == ""
    assert "unchanged, kept" in polyana("run", tiny, "--stage", "scores").stderr
    (tmp_path / "quiz.jsonl").write_text("".join(json.dumps(row) + "\n" for row in quiz[:2]))
    again = polyana("run", tiny, "--stage", "scores").stderr
    assert "quiz.data/quiz.jsonl has changed" in again
    assert "kept" in polyana("evaluate", found[1]["run"], "--suite", "mine.yaml").stdout
    assert "scores     cached" in polyana("plan", tiny).stdout
    newer = polyana("run", tiny, "--fresh").stderr  # whose saves have not been measured
    assert "kept" not in newer[newer.index("scores") :]


def test_a_stage_that_measures_is_checked_before_anything_runs(tiny, polyana, tmp_path):
    stage = "  scores:\n    kind: evaluate\n    of: [pretrain, pretain@best, corpus, pretrain]\n"
    tiny.write_text(tiny.read_text() + stage + "    suites: [perplexty, gsm8k]\n")
    told = polyana("run", tiny, check=2).stderr.replace(str(tmp_path) + "/", "")
    assert "tiny.yaml:20  there is no stage `pretain`; did you mean `pretrain`?" in told
    assert "stage `corpus` is of kind corpus; a pretrain or" in told
    assert "`pretrain` is named twice; leave one of them out" in told
    assert "tiny.yaml:21  `perplexty` is no suite; did you mean `perplexity`?" in told
    assert "tiny.yaml:21  `data` is missing: the questions" in told
    text = tiny.read_text().replace("pretain@best, corpus, pretrain]", "pretrain@step-4]")
    tiny.write_text(text.replace("perplexty, gsm8k", "nowhere.yaml"))
    assert "nowhere.yaml  there is no such file" in polyana("plan", tiny, check=2).stderr


@pytest.mark.skipif(not SHARED.is_dir(), reason="../shared/data is not beside the checkout")
def test_a_foreign_model_is_measured_without_a_run(polyana, home, tmp_path):
    from published import publish

    name = "story-pretrain-2026-11-22_01.02.03"
    publish(home, name, SHARED / "stories260k" / "hf")
    (tmp_path / "a.txt").write_text("Once upon a time, there was a little girl named Lily.")
    (tmp_path / "b.txt").write_text("She liked to play in the park.")
    (found,) = evaluate(polyana, name, "--suite", "perplexity", "--data", "*.txt")
    assert found["metrics"]["loss"]["n"] == 2
    assert "unknown" in found["contamination"][""]["unsaid"]
    assert "nothing here says what" in polyana("evaluate", name, "--suite", "perplexity", check=2).stderr
