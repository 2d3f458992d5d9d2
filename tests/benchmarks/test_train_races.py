"""The races' own arithmetic, and that both sides get the same work. The races themselves are `make bench-train`."""

import argparse
import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import PROJECT
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoModelForCausalLM

from polyana.models import training_flops

sys.path.insert(0, str(PROJECT / "benchmarks" / "train"))
import race
import work

SHAPE = {"architecture": "gpt2", "layers": 2, "width": 32, "heads": 2}


@pytest.fixture(scope="module")
def course(tmp_path_factory):
    """What a job gets of a tiny course, and where."""
    place = tmp_path_factory.mktemp("race")
    tiny = work.Course("tiny", SHAPE, work.ZIPF_VOCABULARY, 64, 2, 1e-2, documents=True, padded_batch=4)
    return work.prepare(tiny, 3, place / "home", place / "tiny") | {"steps": 3, "threads": 1}, place


def test_the_operations_of_a_token_are_those_torch_counts(course):
    """Of the rate of matrix products here, and of train/mfu."""
    job, _ = course
    model = AutoModelForCausalLM.from_pretrained(job["model"], attn_implementation="eager")
    with FlopCounterMode(display=False) as counter:
        tokens = torch.zeros((2, 64), dtype=torch.int64)
        model(input_ids=tokens, use_cache=False).logits.sum().backward()
    unseen = 12 * 2 * 32 * 2 * 64 * 63 / 2  # eager attention computes the half that causality throws away as well
    assert training_flops(model, (64, 64), 128) + unseen == counter.get_total_flops()


def test_ours_begins_with_the_weights_and_tokens_that_the_rivals_get(course):
    job, place = course
    path, result = place / "job.json", place / "result.json"
    path.write_text(json.dumps(job | {"set": ["stages.pretrain.train.precision=fp32"], "result": str(result)}))
    environment = os.environ | {"POLYANA_HOME": str(place / "home"), "PYTHONPATH": str(PROJECT)}
    subprocess.run([sys.executable, PROJECT / "benchmarks/train/ours.py", path], env=environment, check=True)
    ours = json.loads(result.read_text())
    with np.load(job["train_and_next"]) as file:
        blocks = torch.from_numpy(file["tokens"].reshape(-1, 65)[:2])
    with torch.no_grad():
        logits = AutoModelForCausalLM.from_pretrained(job["model"])(input_ids=blocks[:, :-1]).logits
    expected = float(F.cross_entropy(logits.flatten(0, 1), blocks[:, 1:].flatten()))
    assert ours["loss"][0] == pytest.approx(expected, abs=1e-4)
    assert ours["held_out"] < ours["loss"][0]
    assert ours["tokens"] == [128] * 3
    assert all(seconds > 0 for seconds in ours["seconds"])
    assert ours["peak_mb"] > 100


def _result(seconds, loss, held_out, peak):
    return {
        "seconds": [9.0, *seconds], "cpu_seconds": [9.0, *seconds], "loss": loss, "held_out": held_out, "peak_mb": peak,
        "tokens": [100] * (1 + len(seconds)), "load": 1.0,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("loss", "held_out", "verdicts"),
    [
        ([5.0, 4.0, 3.0], 3.0, ["PASS", "SHORT"]),
        ([5.0, 4.1, 3.0], 3.0, ["DIFFERENT", "DIFFERENT"]),  # another curve
        ([5.0, 4.0, 3.0], 2.9, ["DIFFERENT", "DIFFERENT"]),  # theirs learnt more
    ],
)
def test_a_bar_needs_speed_and_the_same_loss(loss, held_out, verdicts):
    rival = race.Rival("x", "", "", 3.0, "Rival", memory_target=3.0)
    contest = race.Race(work.Course("x", SHAPE, 10, 10, 1, 1.0), [rival], (2, 2), (1, 1), mfu_target=0.5)
    results = {
        "ours": [_result([1.0, 1.0], [5.0, 4.0, 3.0], 3.0, 200)],
        "x": [_result([4.0, 4.0], loss, held_out, 500)],
    }
    report = race.judge(contest, {"parameters": 1, "flops_per_token": 2.0}, results, rates=[300.0, 400.0])
    assert [bar["verdict"] for bar in report["bars"]] == [*verdicts, "PASS"]
    assert race.bar_line(report["bars"][0]).startswith("BAR x ratio=4.00 target=3.00 ")
    assert race.bar_line(report["bars"][0]).endswith("(per CPU second 4.00)")
    assert race.bar_line(report["bars"][2]) == "BAR x-mfu ratio=0.50 target=0.50 PASS"


def test_every_race_has_its_place_in_the_docs_and_every_rival_its_environment():
    text = race.PERFORMANCE.read_text(encoding="utf-8")
    for contest in race.RACES:
        assert f"<!-- {contest.course.name} -->" in text
        for rival in contest.rivals:
            assert (race.HERE / f"requirements-{rival.environment}.txt").exists()
            assert (race.HERE / rival.script).exists()


def test_a_contestant_that_fails_is_shown_with_its_last_words(tmp_path, monkeypatch):
    monkeypatch.setattr(race, "WORK", tmp_path)
    options = argparse.Namespace(threads=1, lock=None)
    with pytest.raises(SystemExit, match="can't open file"):
        race.run_contestant("x", sys.executable, "nowhere.py", {}, {}, options)
