"""Advice is right on real runs in which each fault has happened, and silent on those that are well."""

import time

import numpy as np
import pytest
from recorded_runs import NAMES, PLACE, read_recorded

from polyana.tracking.advice import advise
from polyana.tracking.seen import Seen, Spread

EXPECTED = {
    "healthy_gpt2": [],
    "healthy_llama": [],
    "overfitting": ["overfitting"],
    "plateau": ["plateau"],
    "divergence": ["divergence", "exploding_gradients"],
    "lr_too_high": ["lr_too_high"],
    "lr_too_high_muon": ["lr_too_high"],
    "lr_too_low": ["lr_too_low"],
    "data_waits": ["data_waits"],
    "dead_gradients": ["dead_gradients"],
    "exploding_gradients": ["divergence", "exploding_gradients"],
}
HEALTHY = [name for name in EXPECTED if name.startswith("healthy")]


def kinds(seen: Seen) -> list[str]:
    return [advice.kind for advice in advise(seen)]


@pytest.mark.parametrize("name", NAMES)
def test_it_is_right_on_each_recorded_run(name):
    seen = read_recorded(name)
    found = advise(seen)
    assert [advice.kind for advice in found] == EXPECTED[name]
    for advice in found:
        evidence = advice.evidence
        metric = evidence["metric"]
        steps = seen.gradients[metric.removeprefix("gradients/")].steps if "/block" in metric else seen.curve(metric)[0]
        assert steps[0] <= evidence["from"] < evidence["to"] <= steps[-1]
        assert advice.severity == ("info" if advice.kind == "plateau" else "warning")
        assert "nan" not in advice.text


def test_the_recorded_runs_are_all_there_and_small():
    assert sorted(EXPECTED) == NAMES
    assert sum(path.stat().st_size for path in PLACE.iterdir()) <= 200_000


@pytest.mark.parametrize("until", np.linspace(0.05, 0.95, 19).round(2))
@pytest.mark.parametrize("name", HEALTHY)
def test_it_is_silent_on_a_healthy_run_at_every_age(name, until):
    assert kinds(read_recorded(name, until)) == []


def test_overfitting_is_told_in_numbers():
    (advice,) = advise(read_recorded("overfitting"))
    steps, losses = read_recorded("overfitting").curve("eval/loss")
    assert advice.evidence["from"] == steps[losses.argmin()]
    assert advice.evidence["best"] == losses.min()
    assert f"best at step {steps[losses.argmin()]:.0f}, " in advice.text
    more = advice.evidence["last_epoch"] - advice.evidence["best_epoch"]
    assert more > 5
    assert f"{more:.1f} more epochs bought nothing" in advice.text


def test_overfitting_is_told_as_soon_as_it_is_seen_and_not_before():
    told = [until for until in np.linspace(0.05, 1, 20) if "overfitting" in kinds(read_recorded("overfitting", until))]
    steps, losses = read_recorded("overfitting").curve("eval/loss")
    best = steps[losses.argmin()] / steps[-1]
    assert best < told[0] < best + 0.3
    assert told == list(np.linspace(0.05, 1, 20)[-len(told) :])  # and from then on always


def test_the_dead_layer_is_named():
    (advice,) = advise(read_recorded("dead_gradients"))
    assert advice.evidence["groups"] == ["block 2 mlp"]
    assert "block 2 mlp" in advice.text


# What no recorded run has shown: real curves with something put in.


def test_jumps_of_single_steps_speak_of_the_rate():
    steps, loss = read_recorded("healthy_gpt2").curve("train/loss")
    seen = read_recorded("healthy_gpt2")
    for count, expected in ((1, []), (4, ["lr_too_high"])):
        jumping = loss.copy()
        jumping[[100, 180, 260, 340][:count]] *= 1.4
        found = advise(Seen({**seen.curves, "train/loss": (steps, jumping)}, {}, 1.0, 400))
        assert [advice.kind for advice in found] == expected
    assert found[0].evidence["spikes"] == 4


def test_gradients_that_are_always_clipped_far_speak_of_the_rate_too():
    seen = read_recorded("healthy_llama")
    steps, norms = seen.curve("train/grad_norm")
    for times, clip, expected in ((30, 1.0, ["lr_too_high"]), (30, None, []), (3, 1.0, [])):
        curves = {**seen.curves, "train/grad_norm": (steps, norms * times)}
        assert kinds(Seen(curves, {}, clip, 400)) == expected


def test_a_group_whose_gradients_vanish_is_named():
    spreads = {
        group: Spread([100, 200, 300], [0.0] * 3, [1e-6 if group == "block 0 mlp" else 0.5] * 3)
        for group in ("block 0 attention", "block 0 mlp", "block 1 attention", "block 1 mlp", "head")
    }
    (advice,) = advise(Seen({}, spreads))
    assert (advice.kind, advice.evidence["groups"]) == ("vanishing_gradients", ["block 0 mlp"])


def test_of_nothing_and_of_nothing_finite_nothing_is_said():
    steps = np.arange(1.0, 200)
    broken = {metric: (steps, np.full(199, np.nan)) for metric in read_recorded("plateau").curves}
    for seen in (Seen({}), Seen(broken, {}, 1.0, 100), Seen({"train/loss": (steps, np.zeros(199))})):
        assert kinds(seen) == []


def test_ten_thousand_times_as_many_points_say_the_same_soon():
    """A million points; a second of processor time at most."""
    seen = read_recorded("plateau")
    grown = {}
    for metric, (steps, values) in seen.curves.items():
        many = np.linspace(steps[0], steps[-1], 1_000_000)
        grown[metric] = many * 400, np.interp(many, steps, values)
    began = time.process_time()
    assert kinds(Seen(grown, {}, 1.0, 960_000)) == ["plateau"]
    assert time.process_time() - began < 1
