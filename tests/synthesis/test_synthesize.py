"""Preferences that models make: reproducible, kept when killed, each row with where it comes from."""

import io
import json
import math
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from itertools import combinations

import pytest
from aligned import write_base
from judges import judging

from polyana.errors import PolyanaError, UserError
from polyana.recipe import load_recipe
from polyana.rewards import JudgeDown
from polyana.run import run_recipe
from polyana.storage import read_json
from polyana.synthesis import best_of
from polyana.synthesis.corrupt import corrupt
from polyana.tracking import Console

RECIPE = """\
name: made
seed: 4
stages:
  prefer:
    kind: synthesize
    of: {model}
    prompts: [{{path: prompts.jsonl}}]
    answers: 3
    max_tokens: 12
    batch: 6
    reward: [{{kind: length, unit: words, per: 1}}, {{kind: regex, pattern: "[Tt]he", weight: 0.5}}]
"""
BEGINNINGS = ("Once upon a time", "Lily had a", "The dog", "Tom and Ben went", "One day", "Mum said", "It was cold")


@pytest.fixture
def made(tmp_path, home, shared_data):
    """made(*overrides): the directory of what the stage made, and the recipe's."""
    write_prompts(tmp_path)
    recipe = tmp_path / "made.yaml"
    recipe.write_text(RECIPE.format(model=shared_data / "stories260k" / "hf"))

    def make(*overrides, console=None):
        run_recipe(load_recipe(recipe, overrides), stage="prefer", console=console or Console(io.StringIO()))
        return newest(home)

    make.recipe = recipe
    return make


def write_prompts(place):
    rows = [{"prompt": text, "reference": f"{number} cats"} for number, text in enumerate(BEGINNINGS)]
    (place / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def newest(home, kind="synthesize"):
    return max((home / "stages").glob(f"{kind}-*"), key=lambda path: path.stat().st_mtime)


def rows(directory, name):
    return [json.loads(line) for line in (directory / name).read_text().splitlines()]


def test_answers_are_scored_and_paired_and_say_where_they_come_from(made, shared_data):
    directory = made()
    answers, pairs, best = (rows(directory, f"{name}.jsonl") for name in ("answers", "pairs", "best"))
    report = read_json(directory / "report.json")
    assert [row["prompt"] for row in answers] == list(BEGINNINGS)
    assert report["prompts"] == 7
    assert report["answers"] == 21 == sum(len(row["answers"]) for row in answers) + report["same"] + report["empty"]
    for row in answers:
        assert row["scores"] == sorted(row["scores"], reverse=True)
        for text, score, about in zip(row["answers"], row["scores"], row["provenance"], strict=True):
            assert about["scores"] == {
                "length": len(text.split()),
                "regex": float("he" in text and "the" in text.lower()),
            }
            assert score == about["scores"]["length"] + 0.5 * about["scores"]["regex"]
            assert about["revision"] == str(shared_data / "stories260k" / "hf")
            assert about["temperature"] == 1.0
            assert about["tokens"] <= 12
    assert len(pairs) + report["ties"] == 7
    by_prompt = {row["id"]: row for row in answers}
    for pair in pairs:
        row = by_prompt[pair["id"]]
        assert (pair["chosen"], pair["rejected"]) == (row["answers"][0], row["answers"][-1])
        assert pair["score_chosen"] > pair["score_rejected"]
        assert pair["provenance"]["chosen"] == row["provenance"][0]
    assert [row["completion"] for row in best] == [row["answers"][0] for row in answers]
    page = (directory / "report.md").read_text()
    assert "| reward |" in page
    assert pairs[0]["chosen"][:20] in page
    assert report["unfinished"] == 21 - report["same"] - report["empty"]  # no story ends within 12 tokens


def test_what_was_drawn_can_be_drawn_again_from_its_row(made, shared_data):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from polyana.generation import draw_answers
    from polyana.train import choose_precision

    directory = made()
    (place,) = (directory.parent.parent / "synthesis" / "made-prefer").glob("answers-*.jsonl")
    batch = json.loads(place.read_text().splitlines()[1])["answers"]  # of the third and fourth prompt
    model = AutoModelForCausalLM.from_pretrained(shared_data / "stories260k" / "hf")
    tokenizer = AutoTokenizer.from_pretrained(shared_data / "stories260k" / "hf")
    asked = [tokenizer.encode(text) for text in BEGINNINGS[2:4]]
    model.eval().to(choose_precision("auto").dtype)
    again = draw_answers(model, tokenizer, asked, 3, batch[0]["seed"], 12)
    assert [each.text for drawn in again for each in drawn] == [each["text"] for each in batch]


def kill_when(process, condition):
    deadline = time.monotonic() + 100
    while not condition():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()


def test_a_killed_stage_goes_on_and_makes_the_same(made, home, tmp_path):
    whole = {path.name: path.read_bytes() for path in made().iterdir() if path.name != "artifact.json"}
    other = tmp_path / "other"
    work = other / "synthesis" / "made-prefer"
    environment = os.environ | {"POLYANA_HOME": str(other), "OMP_NUM_THREADS": "1"}
    # slow enough to be killed between two batches
    slow = "import time, polyana.synthesis.write as w; keep = w.append_lines\n"
    slow += "w.append_lines = lambda *a: (keep(*a), time.sleep(0.5))\nfrom polyana.cli import main; main()"
    process = subprocess.Popen(
        [sys.executable, "-c", slow, "run", str(made.recipe)], env=environment, text=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    kill_when(process, lambda: any(work.glob("answers-*.jsonl")))
    (kept,) = work.glob("answers-*.jsonl")
    before = kept.read_text().splitlines()
    assert 1 <= len(before) < 4
    kept.write_text("\n".join(before) + '\n{"batch": 3, "answ')  # and torn by a power cut
    subprocess.run([sys.executable, "-m", "polyana", "run", str(made.recipe)], env=environment, check=True,
                   capture_output=True, timeout=200)  # fmt: skip
    assert kept.read_text().startswith("\n".join(before))  # was gone on from
    again = {path.name: path.read_bytes() for path in newest(other).iterdir() if path.name != "artifact.json"}
    assert again == whole


def test_another_reward_writes_nothing_anew_and_another_seed_everything(made, home):
    first = made()
    work = home / "synthesis" / "made-prefer"
    written = {path.name: path.stat().st_mtime_ns for path in work.glob("answers-*")}
    second = made("stages.prefer.reward=[{kind: length, unit: words, per: 1, weight: -1}]")
    assert {path.name: path.stat().st_mtime_ns for path in work.glob("answers-*")} == written
    one, other = (rows(each, "answers.jsonl") for each in (first, second))
    assert {text for row in one for text in row["answers"]} == {text for row in other for text in row["answers"]}
    third = made("seed=5")
    assert len(list(work.glob("answers-*"))) == 2
    assert rows(third, "answers.jsonl")[0]["answers"] != one[0]["answers"]


def test_another_stage_that_would_write_the_very_same_takes_it_over(made, home, monkeypatch):
    first = rows(made(), "answers.jsonl")
    monkeypatch.setattr("polyana.synthesis.write.load_for_generation", None)  # nobody writes
    assert rows(made("name=other", "stages.prefer.best.most=2"), "answers.jsonl") == first
    one, other = (next((home / "synthesis" / f"{name}-prefer").glob("answers-*")) for name in ("made", "other"))
    assert one.read_bytes() == other.read_bytes()
    with pytest.raises(TypeError):
        made("name=third", "stages.prefer.temperature=0.9")


@pytest.mark.parametrize(("unit", "ledgers"), [("tokens", 2), ("words", 1)])
def test_a_length_in_tokens_is_of_the_model_that_answers(unit, ledgers, made, home, tmp_path):
    """What was counted in another's tokens is not taken for the same."""
    write_base(tmp_path)
    for model in (made.recipe.read_text().split("of: ")[1].splitlines()[0], "./base"):
        made(f"stages.prefer.of={model}", f"stages.prefer.reward=[{{kind: length, unit: {unit}}}]")
    assert len(list((home / "synthesis" / "made-prefer").glob("length-*.jsonl"))) == ledgers


def test_a_judge_that_goes_down_costs_nothing_that_was_paid_for(made, home, monkeypatch):
    from types import SimpleNamespace

    monkeypatch.setattr("polyana.rewards.judge.time", SimpleNamespace(sleep=lambda _: None))

    def reward(server):
        part = {"kind": "judge", "url": server.url, "model": "m", "parallel": 2, "retries": 1}
        return f"stages.prefer.reward=[{json.dumps(part)}]"

    def judged(asked):
        return f"Score: {1 + len(asked) % 10}"

    down = judging(lambda number, asked: judged(asked) if number <= 8 else (503, {}, ""))
    with down as server, pytest.raises(JudgeDown, match=r"\d of 21 answers are judged by `judge` and kept"):
        made(reward(server))
    with judging(lambda _, asked: judged(asked)) as server:
        directory = made(reward(server))
        report = read_json(directory / "report.json")
        assert len(server.asked) == 21 - report["same"] - 8  # none twice
    assert report["pairs"]["best_worst"] > 0


def test_pairs_by_margin_lie_as_far_apart_as_it_says(made):
    directory = made("stages.prefer.pairs={rule: margin, min_gap: 1.5, most: 2}")
    answers, pairs = rows(directory, "answers.jsonl"), rows(directory, "pairs.jsonl")
    for row in answers:
        mine = [pair for pair in pairs if pair["id"] == row["id"]]
        gaps = sorted(
            (one - other for one, other in combinations(row["scores"], 2) if one - other >= 1.5), reverse=True
        )
        assert [pair["score_chosen"] - pair["score_rejected"] for pair in mine] == gaps[:2]
    assert any(len([pair for pair in pairs if pair["id"] == row["id"]]) == 2 for row in answers)


def test_of_ties_no_pairs_are_made(made):
    directory = made("stages.prefer.reward=[{kind: regex, pattern: never said}]")
    assert rows(directory, "pairs.jsonl") == []
    assert read_json(directory / "report.json")["ties"] == 7


def test_only_answers_that_are_good_enough_are_examples(made):
    directory = made("stages.prefer.best={most: 2, min_reward: 8}")
    good = [sum(score >= 8 for score in row["scores"][:2]) for row in rows(directory, "answers.jsonl")]
    assert len(rows(directory, "best.jsonl")) == sum(good) == read_json(directory / "report.json")["best"]
    assert 0 < sum(good) < 14


def test_good_answers_are_made_bad_in_named_ways(made, tmp_path):
    (tmp_path / "russian.txt").write_text("Все счастливые семьи похожи.\n\nОна молчала.\n")
    directory = made("stages.prefer.corrupt={kinds: [truncate, repeat, language], foreign: russian.txt}")
    pairs = [pair for pair in rows(directory, "pairs.jsonl") if pair["rule"] == "corrupt"]
    assert len(pairs) == 7
    best = {row["id"]: row["answers"][0] for row in rows(directory, "answers.jsonl")}
    for pair in pairs:
        about = pair["provenance"]["rejected"]
        assert pair["chosen"] == best[pair["id"]]
        assert about["of"]["revision"] == pair["provenance"]["chosen"]["revision"]
        assert about["scores"]["length"] == len(pair["rejected"].split())
        bad, good = pair["rejected"], pair["chosen"]
        looks_so = {"language": "а" in bad, "truncate": good.startswith(bad), "repeat": len(bad) > len(good)}
        assert looks_so[about["corruption"]]
    assert read_json(directory / "report.json")["pairs"]["truncate"] > 0


GOOD = "Anna Pavlovna gave a ball in July 1805. There were 20 guests. She had a cough, as Boris said."


@pytest.mark.parametrize("kind", ["shuffle", "facts", "truncate", "repeat", "language"])
def test_a_corruption_changes_what_it_says(kind):
    others = ["In 1812 Kutuzov had 110,000 men.", "Then Natasha came with 3 dogs."]
    for seed in range(20):
        found = corrupt(GOOD, [kind], others, ["Она молчала."], random.Random(seed))
        assert found is not None
        named, bad = found
        assert named == kind
        assert bad != GOOD
        match kind:
            case "shuffle":
                assert sorted(bad.split()) == sorted(GOOD.split())
            case "facts":
                assert {"1805", "20", "Boris"}.isdisjoint(bad.replace(".", "").split())
                assert bad.startswith("Anna")  # what begins a sentence may have its capital from that
                assert len(bad.split()) == len(GOOD.split())
            case "truncate":
                assert GOOD.startswith(bad)
                assert len(bad) < 0.8 * len(GOOD)
            case "repeat":
                assert any(bad.count(part) >= 3 for part in ("in July 1805.", "20 guests.", "Boris said."))
            case "language":
                assert bad == "Она молчала."


def test_an_answer_that_lends_itself_to_nothing_is_left_alone():
    assert corrupt("Yes", ["truncate", "shuffle", "facts"], [], [], random.Random(0)) is None
    assert corrupt("Yes", ["truncate", "repeat"], [], [], random.Random(0)) == ("repeat", ANYTHING)


class _Anything:
    def __eq__(self, other):
        return other.startswith("Yes Yes Yes")

    __hash__ = None


ANYTHING = _Anything()


def test_the_best_of_k_is_the_mean_over_all_choices_of_k():
    rewards = [3.0, 1.0, 4.0, 1.5]
    for k in (1, 2, 3, 4):
        choices = list(combinations(rewards, k))
        assert best_of([rewards], k) == pytest.approx(sum(map(max, choices)) / len(choices))
    assert best_of([rewards], 5) is None


def test_means_and_the_best_of_k_are_of_all_that_was_drawn(made, home):
    """Answers of a token are often the same: who counts each text once takes what is rare for common."""
    more = ("max_tokens=1", "answers=8", "batch=64", "reward=[{kind: length, unit: characters, per: 1}]")
    report = read_json(made(*(f"stages.prefer.{each}" for each in more)) / "report.json")
    (kept,) = (home / "synthesis" / "made-prefer").glob("answers-*.jsonl")
    (batch,) = (json.loads(line)["answers"] for line in kept.read_text().splitlines())
    rewards = [[len(each["text"]) for each in batch[first : first + 8]] for first in range(0, 56, 8)]
    assert report["same"] > 3
    for k in (1, 2, 4, 8):
        means = [sum(map(max, combinations(each, k))) / math.comb(8, k) for each in rewards]
        assert report["best_of"][str(k)] == pytest.approx(sum(means) / 7)
    assert report["reward"]["mean"] == report["best_of"]["1"]


def test_one_model_by_two_names_is_asked_twice(made, tmp_path, shared_data):
    model = shared_data / "stories260k" / "hf"
    shutil.copytree(model, tmp_path / "again")
    directory = made(f"stages.prefer.of=[{model}, ./again]", "stages.prefer.prompts=[{path: prompts.jsonl, most: 2}]")
    report = read_json(directory / "report.json")
    assert report["answers"] == 12
    assert report["same"] < 6
    assert None not in report["revisions"].values()
    told = {each["revision"] for row in rows(directory, "answers.jsonl") for each in row["provenance"]}
    assert told == {str(model), "./again"}


def test_sft_learns_from_the_best_answers_of_a_stage(made, home):
    text = made.recipe.read_text() + """\
  better:
    kind: sft
    base: {model}
    data: [{{stage: prefer}}]
    template: raw
    context: 64
    held_out: 30%
    train: {{duration: 2 steps, batch: 2 sequences}}
""".format(model=made.recipe.read_text().split("of: ")[1].splitlines()[0])  # fmt: skip
    made.recipe.write_text(text)
    run_recipe(load_recipe(made.recipe), console=Console(io.StringIO()))
    report = read_json(newest(home, "examples") / "report.json")
    assert report["sources"]["prefer"]["rows"] == len(rows(newest(home), "best.jsonl"))
    before = newest(home, "examples")
    run_recipe(load_recipe(made.recipe, ["stages.prefer.answers=2"]), console=Console(io.StringIO()))
    assert newest(home, "examples") != before  # what a stage makes is what its readers are made from


@pytest.mark.parametrize(
    ("override", "what"),
    [
        ("answers=1", "one answer to a prompt makes no pair"),
        ("temperature=0", "all answers to a prompt are the same"),
        ("pairs={rule: margin}", "`rule: margin` needs one"),
        ("pairs={most: 2}", "`most` belongs to `rule: margin`"),
        ("corrupt={kinds: [language]}", "takes answers from a text in another language"),
        ("corrupt={kinds: [language], foreign: nowhere.txt}", "`nowhere.txt` does not exist"),
        ("prompts=[{path: nowhere.jsonl}]", "nowhere.jsonl"),
        ("prompts=[{path: prompts.jsonl, prompt: question}]", "has no `question`"),
        ("of=nobody", "there is no stage `nobody`"),
        ("reward=[length, length]", "two parts are called `length`"),
        ("reward=[{kind: classifier, model: prefer}]", "is of kind synthesize"),
    ],
)
def test_what_cannot_work_is_told_with_its_line(made, override, what):
    with pytest.raises(UserError) as error:
        made(f"stages.prefer.{override}")
    assert what in str(error.value)


def test_a_reward_that_goes_wrong_names_part_prompt_and_answer(made):
    with pytest.raises(PolyanaError) as error:
        made("stages.prefer.reward=[number]", "stages.prefer.prompts=[{path: prompts.jsonl, reference: none}]")
    assert "the reward's part `number` cannot score an answer: the row has no `reference`" in str(error.value)
    assert '"Once upon a time"' in str(error.value)


def test_kl_of_the_best_of_n_stands_in_the_report(made):
    found = read_json(made() / "report.json")["kl_of_best"]
    assert found["3"] == pytest.approx(math.log(3) - 2 / 3)
