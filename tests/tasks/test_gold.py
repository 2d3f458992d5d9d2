"""A reward is gamed for real: the alarm rings; where proxy and gold agree it is silent."""

import io
import json
import math
import os
import re
import signal
import subprocess
import sys
from itertools import product

import numpy as np
import pytest
from conftest import CLOCKED, metrics_of, newest_run
from judges import judging

from polyana.errors import UserError
from polyana.evaluate import Look, fit_curve
from polyana.examples import PreferencesConfig, PreferenceSource
from polyana.recipe import load_recipe
from polyana.registry import Ranking, Repository
from polyana.rewards import JudgeDown
from polyana.run import run_recipe
from polyana.tasks import asked_in
from polyana.tasks.gold_page import Kept, gold_page
from polyana.tracking import Console, read_attempts

NAMES = ("Lily", "Tom", "Ben", "Mia", "Sam", "Anna", "Max", "Sue")
BEGINNINGS = ("had a big", "went to", "saw a red", "and the dog", "said to", "did not")
# a story gets better with each full stop, says the proxy; gold likes whole sentences of some length
RECIPE = """\
name: gamed
seed: 4
stages:
  prefer:
    kind: synthesize
    of: {model}
    prompts: [{{path: train.jsonl}}]
    answers: 4
    max_tokens: 30
    batch: 32
    reward: [{{kind: regex, pattern: '[.!?]', measure: count}}]
  align:
    kind: preference
    base: {model}
    data: [{{stage: prefer}}]
    template: raw
    context: 96
    held_out: 10%
    loss: {{kind: dpo, beta: 0.05}}
    adapter: full
    train: {{duration: 10 steps, batch: 8 sequences, lr: 5e-4, schedule: constant, warmup: 0%, precision: fp32}}
    eval: {{every: 2 steps}}
    save: {{every: 2 steps, keep: {{best: 1, last: 9}}}}
    gold:
      reward: [{{kind: regex, pattern: '[.!?]', measure: count, weight: -1}}]
      prompts: [{{path: held.jsonl}}]
      max_tokens: 30
      batch: 32
"""
SAME = "stages.align.gold.reward=[{kind: regex, pattern: '[.!?]', measure: share}]"


@pytest.fixture
def recipe(tmp_path, shared_data):
    rows = [json.dumps({"prompt": f"{name} {begin}"}) + "\n" for begin, name in product(BEGINNINGS, NAMES)]
    (tmp_path / "train.jsonl").write_text("".join(rows[:24]))
    (tmp_path / "held.jsonl").write_text("".join(rows[24:]))
    recipe = tmp_path / "gamed.yaml"
    recipe.write_text(RECIPE.format(model=shared_data / "stories260k" / "hf"))
    return recipe


@pytest.fixture
def gamed(recipe, home):
    """gamed(*overrides): (the summary, the run's directory, what was said)."""

    def run(*overrides):
        said = io.StringIO()
        summary = run_recipe(load_recipe(recipe, overrides), console=Console(said))["align"]
        return summary, home / "runs" / summary["run"], said.getvalue()

    return run


def events(run):
    rows = [row for attempt in read_attempts(run / "metrics") for row in attempt.rows]
    return {row["event"]: row for row in rows if "event" in row}


def test_a_gamed_reward_rings_the_alarm_ends_the_run_and_best_is_picked_by_gold(gamed, home):
    summary, run, said = gamed("stages.align.gold.stop_on_hacking=true")
    metrics, happened = metrics_of(run), events(run)
    assert metrics["gold/proxy"][6] > metrics["gold/proxy"][0] + 0.5
    assert happened["reward_hacking"]["step"] == 6  # the third evaluation after the start
    assert happened["stop"]["why"] == "reward_hacking"
    assert summary["steps"] == 6
    assert "reward hacking  the proxy reward has gone on rising" in said
    assert metrics["alarm/reward_hacking"] == {6: 1.0}
    assert metrics["gold/kl"][0] == pytest.approx(0, abs=1e-5)
    assert 0 < metrics["gold/kl"][2] < metrics["gold/kl"][6]
    assert metrics["gold/ties"][0] == 1  # the same answers as the reference, drawn with the same numbers
    for name in ("entropy", "length", "reward_gain_at_length", "proxy_gain_at_length", "repetition", "distinct_1",
                 "distinct_3", "refusals", "unfinished", "wins"):  # fmt: skip
        assert f"gold/{name}" in metrics
    repository = Repository(home / "hub", summary["run"])
    best = repository.resolve("best")
    (config,) = [each for each in load_recipe(run / "recipe.yaml").stages.values() if each.kind == "preference"]
    assert config.best_by == "-gold/reward"  # what retention behind a push, and plan, go by
    assert best.metrics["gold/reward"] == max(commit.metrics["gold/reward"] for commit in repository.commits())
    assert repository.ranking() == Ranking("gold/reward", lowest=False)  # so `models log` and `rm` go by it, too
    assert summary["gold"]["alarm"] is not None
    assert summary["gold"]["before"] > summary["gold"]["last"]
    page = (run / "gold.html").read_text()
    assert page.count("<svg") == 2
    assert "Lily" in page or "Tom" in page
    kept = [json.loads(line) for line in (run / "gold" / "step-00000006.jsonl").read_text().splitlines()]
    assert len(kept) == 24
    assert sum(row["proxy"] for row in kept) / 24 == pytest.approx(metrics["gold/proxy"][6])
    assert all(row["proxy"] == row["proxy_parts"]["regex"] == -row["gold"] for row in kept)


def test_the_page_shows_intervals_the_forecast_peak_and_best_of_n():
    """As a reader of the file finds them, by arithmetic of the test's own."""
    noise = np.where(np.arange(36) % 2, 0.6, -0.6)  # a standard deviation of 0.6086, half an interval of 0.199
    kl = [0.0, 1.0, 2.0, 4.0, 9.0, 16.0]
    gold = [d * (1.0 - 0.5 * math.log(d)) if d else 0.0 for d in map(math.sqrt, kl)]  # its peak at d = e, KL = e^2
    looks = [Look(10 * at, at + noise, value + noise) for at, value in enumerate(gold)]
    curves = {"proxy": None, "gold": fit_curve(kl, gold, "rl")}
    shown = [Kept("Why?", "<b>", 1.0, 2.0, {}, {}, 0.5, 7, "So.", 0.1, 0.2)]
    page = gold_page("mine", looks, kl, curves, None, 30, shown, {1: 0.0, 2: 0.6, 4: 1.1})
    proxy, chart = page.split("<figure class=gold>")
    assert "step 30: 3 &plusmn; 0.2 at KL 4" in proxy
    assert [proxy.count("<circle"), chart.count("<circle"), proxy.count("<rect"), chart.count("<rect")] == [6, 6, 3, 0]
    assert "best of 4: 1.1 at KL 0.6363</title>" in proxy  # ln 4 - 3/4
    assert "gold&#39;s peak" in chart
    at = float(re.search(r'<path d="M([\d.]+) \d+V\d+" stroke="var\(--gold\)"', chart)[1])
    first, last = (float(each) for each in re.findall(r'<circle cx="([\d.]+)"', chart)[:: len(kl) - 1])
    assert (at - first) / (last - first) == pytest.approx(math.e / 4, abs=0.002)
    assert "Its peak, 1.36 at a KL of 7.39 nats, has been passed" in page
    assert "<b>" not in page.split("<h2>Answers")[1]


@pytest.mark.parametrize("values", [[0.5], [0.5, 0.5], [0.0, 1e-9], [-3.0, 250.0]])
def test_a_chart_of_few_or_flat_evaluations_is_drawn(values):
    looks = [Look(at, np.full(16, value), np.full(16, value)) for at, value in enumerate(values)]
    shown = [Kept("Why?", "So.", 1.0, 2.0, {}, {}, 0.5, 7, "So.", 0.1, 0.2)]
    page = gold_page("mine", looks, [0.3 * at for at in range(len(values))], dict.fromkeys(("proxy", "gold")), None, 0,
                     shown, {})  # fmt: skip
    assert page.count("<circle") == 2 * len(values)
    assert "nan" not in page


def test_labels_of_small_kls_are_not_cut_off():
    looks = [Look(at, np.full(16, at / 2), np.full(16, at / 2)) for at in range(3)]
    shown = [Kept("Why?", "So.", 1.0, 2.0, {}, {}, 0.5, 7, "So.", 0.1, 0.2)]
    page = gold_page("mine", looks, [0, 0.0006, 0.002], dict.fromkeys(("proxy", "gold")), None, 0, shown, {})
    labels = re.findall(r'<text x="([\d.]+)" y="\d+" text-anchor="middle">([\d.]+)</text>', page)
    assert "0.002" in {label for _, label in labels}
    assert all(float(at) + 3.3 * len(label) <= 440 for at, label in labels)  # a digit is 6.5 wide at 11 pixels


def test_where_proxy_and_gold_agree_the_alarm_is_silent(gamed, home):
    summary, run, said = gamed(SAME, "stages.align.gold.stop_on_hacking=true")
    assert summary["steps"] == 10
    assert "reward_hacking" not in events(run)
    assert "reward hacking" not in said
    assert summary["gold"]["alarm"] is None
    assert summary["gold"]["best"] > summary["gold"]["before"]
    commits = Repository(home / "hub", summary["run"]).commits()
    highest = max(commits, key=lambda commit: commit.metrics["gold/reward"])
    assert summary["best_step"] == highest.step != commits[0].step


def test_a_run_that_was_stopped_rings_at_the_same_step_when_it_goes_on(gamed, monkeypatch):
    """The looks are in the run's files, so what was seen before counts."""
    from polyana.errors import PolyanaError
    from polyana.train import Trainer

    step = Trainer._step

    def breaking(self, gauge):
        if self.position.step == 5:
            raise PolyanaError("a power cut")
        step(self, gauge)

    monkeypatch.setattr(Trainer, "_step", breaking)
    with pytest.raises(PolyanaError, match="a power cut"):
        gamed()
    monkeypatch.setattr(Trainer, "_step", step)
    _, run, said = gamed()
    assert "going on after step 4" in said
    assert events(run)["reward_hacking"]["step"] == 6


@pytest.mark.parametrize(
    ("overrides", "what"),
    [
        (["stages.align.gold.prompts=[{path: held.jsonl, most: 3}]"], "3 prompts tell nothing from chance"),
        (["stages.align.data=[{path: train.jsonl}]"], "write `proxy`, what the preferences were made by"),
        (["stages.align.gold.reward=[length, length]"], "two parts are called `length`"),
        (["stages.align.gold.reward=[{kind: classifier, model: prefer}]"], "is of kind synthesize"),
        (["stages.align.gold.prompts=[{path: nowhere.jsonl}]"], "nowhere.jsonl"),
    ],
)
def test_what_cannot_work_is_told_with_its_line(gamed, overrides, what):
    with pytest.raises(UserError) as error:
        gamed(*overrides)
    assert what in str(error.value)
    assert any(place in str(error.value) for place in ("gamed.yaml:", "--set stages.align"))


def test_prompts_that_are_learnt_from_are_told(gamed):
    _, _, said = gamed("stages.align.gold.prompts=[{path: train.jsonl}]", "stages.align.train.duration=1 steps")
    assert "of them are learnt from, too" in said


def test_what_preferences_ask_is_known_in_every_form(tmp_path):
    """Many data sets have no column for the prompt: conversations that begin alike."""

    def says(role, text):
        return {"role": role, "content": text}

    asked = [says("system", "S"), says("user", "Who  is\nthere?")]
    given = [
        {"chosen": [*asked, says("assistant", "I")], "rejected": [*asked, says("assistant", "No")]},
        {"prompt": "Where?", "chosen": "Here", "rejected": "There"},
        {"prompt": "Nobody knows?", "answers": ["a", "b"], "scores": [1, 1]},  # a tie, from which nothing is learnt
        {"prompt": "Broken"},
    ]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in given))
    config = PreferencesConfig(data=[PreferenceSource(path="a.jsonl")])
    assert asked_in(config, tmp_path, single=False) == {"Who is there?", "Where?"}


def test_a_judge_that_dies_under_a_training_is_paid_for_no_answer_twice(gamed, home, monkeypatch):
    """It stops with a letter; the same command, with the judge elsewhere by now, goes on from the last save."""
    monkeypatch.setattr("polyana.rewards.judge._FIRST_WAIT", 0.01)
    asked = list[str]()

    def train(server):
        part = {"kind": "judge", "url": server.url, "model": "m", "retries": 1, "parallel": 2, "timeout": "20 seconds"}
        return gamed(f"stages.align.gold.reward=[{json.dumps(part)}]", "stages.align.train.duration=4 steps")

    def reply(number, question):
        if number > dies_after:
            return 503, {}, ""
        asked.append(question)
        return f"Score: {1 + len(question.rpartition('Answer:')[2].strip()) % 10}"

    dies_after = 33  # the base's 24 answers are judged then, and some of those at step 2
    with judging(reply) as server, pytest.raises(JudgeDown) as error:
        train(server)
    assert "--set stages.align.gold.reward" in str(error.value)
    assert " of 24 answers are judged by `judge` and kept; the same command goes on from there" in str(error.value)
    assert len(asked) == dies_after
    dies_after = 10**6
    with judging(reply) as server:
        summary, run, _ = train(server)
    assert summary["steps"] == 4
    assert [path.name for path in (home / "runs").iterdir()] == [run.name]
    assert len(asked) == len(set(asked))
    rows = [json.loads(line) for path in (run / "gold").glob("step-*.jsonl") for line in path.read_text().splitlines()]
    assert len(rows) == 3 * 24
    assert all(row["gold"] == pytest.approx(len(row["answer"].strip()) % 10 / 9) for row in rows)


def test_where_gold_is_measured_evaluations_need_no_held_out_pairs(gamed):
    summary, run, _ = gamed("stages.align.held_out=0", "stages.align.train.duration=4 steps")
    assert sorted(metrics_of(run)["gold/reward"]) == [0, 2, 4]
    assert "eval/loss" not in metrics_of(run)
    assert summary["steps"] == 4


def test_of_several_processes_one_pays_the_judge(recipe, torchrun, tmp_path):
    asked = list[str]()

    def reply(_, question):
        asked.append(question)
        return f"Score: {1 + len(question) % 10}"

    with judging(reply) as server:
        part = {"kind": "judge", "url": server.url, "model": "m"}
        more = [f"stages.align.gold.reward=[{json.dumps(part)}]", "stages.align.train.duration=2 steps"]
        case = {"home": str(tmp_path / "two"), "recipe": str(recipe),
                "overrides": [*more, "stages.align.train.strategy=fsdp2"]}  # fmt: skip
        process = torchrun(2, [case])
    assert process.returncode == 0, process.stdout + process.stderr
    assert sorted(metrics_of(newest_run(tmp_path / "two"))["gold/reward"]) == [0, 2]
    assert 24 < len(asked) == len(set(asked))


KILLED = """
import os, signal, sys
import torch
torch.set_num_threads(1)
from polyana.recipe import load_recipe
from polyana.run import run_recipe
from polyana.train import Trainer
step = Trainer._step
def killed(self, gauge):
    if self.position.step == int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)
    step(self, gauge)
Trainer._step = killed
run_recipe(load_recipe(sys.argv[1], sys.argv[3:]))
"""


@pytest.mark.parametrize("loss", ["dpo", pytest.param("kto", marks=pytest.mark.slow)])
def test_a_killed_run_goes_on_bit_for_bit_with_its_looks_and_its_alarm(recipe, tmp_path, loss):
    """A real kill, with a stored reference: losses, answers, what they are worth and the last weights are the same."""

    def train(home, at):
        more = [f"stages.align.loss={{kind: {loss}, beta: 0.05}}", "stages.align.train.duration=7 steps"]
        command = [sys.executable, "-c", KILLED, str(recipe), str(at), *more]
        environment = os.environ | {"POLYANA_HOME": str(home), "OMP_NUM_THREADS": "1"}
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    whole, torn = tmp_path / "whole", tmp_path / "torn"
    assert train(whole, -1).returncode == 0
    assert train(torn, 5).returncode == -signal.SIGKILL
    assert train(torn, -1).returncode == 0
    runs = [newest_run(each) for each in (whole, torn)]
    found = []
    for home, run in zip((whole, torn), runs, strict=True):
        metrics = {name: points for name, points in metrics_of(run).items() if name not in CLOCKED}
        looks = {path.name: path.read_text() for path in sorted((run / "gold").glob("step-*.jsonl"))}
        repository = Repository(home / "hub", run.name)
        files = {commit.step: commit.files["model.safetensors"] for commit in repository.commits()}
        found.append((metrics, looks, files))
    assert found[0] == found[1]
    assert len(found[0][1]) == 5  # before the first step, and at 2, 4, 6, 7
