"""Best of n is a free oracle: its KL is known exactly, and the curve through it is known too."""

import math

import numpy as np
import pytest
import torch

from polyana.evaluate import (
    Look,
    beside_length,
    distinct_n,
    divergence,
    fit_curve,
    hacking,
    kl_of_best_of,
    refusals,
    repetition,
)


@pytest.mark.parametrize("n", [1, 2, 3, 5])
def test_the_kl_of_the_best_of_n_is_that_of_its_distribution(n):
    """Of answers with rewards that differ, many and equally likely, the best of n is the r-th worst one with
    probability (r / m)^n - ((r - 1) / m)^n."""
    m = 20_000
    ranks = np.arange(1, m + 1) / m
    best = ranks**n - (ranks - 1 / m) ** n
    exact = float((best * np.log(best * m)).sum())
    assert kl_of_best_of(n) == pytest.approx(exact, abs=1e-3)


@pytest.mark.parametrize(("form", "peak"), [("best_of_n", 2.0**2), ("rl", math.exp(2 / 0.8 - 1) ** 2)])
def test_the_curve_is_found_again_and_its_peak_forecast_before_it_is_passed(form, peak):
    d = np.linspace(0, 1.5, 12)  # the peaks lie at d = 2 and d = 4.5
    bend = d if form == "best_of_n" else np.log(np.where(d > 0, d, 1))
    alpha, beta = (2.0, 0.5) if form == "best_of_n" else (2.0, 0.8)
    curve = fit_curve(d**2, 0.3 + d * (alpha - beta * bend), form)
    assert (curve.origin, curve.alpha, curve.beta) == pytest.approx((0.3, alpha, beta), abs=1e-9)
    assert curve.peak_kl == pytest.approx(peak, rel=1e-6)
    around = [curve.at(peak * share) for share in (0.9, 1.0, 1.1)]
    assert max(around) == around[1]


def test_best_of_n_of_a_proxy_follows_the_curve():
    """Gold and proxy correlate by rho and gold has a tail that the proxy likes: drawn, not assumed to bend."""
    draw = np.random.default_rng(1)
    proxy = draw.normal(size=(4000, 64))
    gold = 0.8 * proxy - 0.25 * np.maximum(proxy, 0) ** 2 + 0.3 * draw.normal(size=proxy.shape)
    ns = [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 64]
    rewards = [float(np.take_along_axis(gold[:, :n], proxy[:, :n].argmax(1)[:, None], 1).mean()) for n in ns]
    early = fit_curve([kl_of_best_of(n) for n in ns[:7]], rewards[:7], "best_of_n")
    whole = fit_curve([kl_of_best_of(n) for n in ns], rewards, "best_of_n")
    highest = kl_of_best_of(ns[int(np.argmax(rewards))])
    assert [whole.at(kl_of_best_of(n)) for n in ns] == pytest.approx(rewards, abs=0.03)
    assert whole.peak_kl == pytest.approx(highest, rel=0.5)
    assert early.peak_kl == pytest.approx(highest, rel=0.6)


def test_a_straight_rise_has_no_peak_and_few_points_no_curve():
    kl = np.linspace(0, 2, 9)
    straight = fit_curve(kl, np.sqrt(kl) + 0.01 * np.random.default_rng(0).normal(size=9), "best_of_n")
    assert straight.peak_kl is None
    assert fit_curve([0, 1, 2], [0, 1, 1], "rl") is None
    assert fit_curve([0] * 9, [1.0] * 9, "rl") is None


def look(step, proxy, gold, seed, noise=0.3, prompts=48):
    draw = np.random.default_rng(seed)
    each = np.random.default_rng(99).normal(size=prompts)  # prompts differ, the same at each step
    return Look(step, proxy + each + noise * draw.normal(size=prompts), gold + each + noise * draw.normal(size=prompts))


def first_alarm(looks, **more):
    return next((n for n in range(1, len(looks) + 1) if hacking(looks[:n], **more) is not None), None)


HACKED = [(0.0, 0.0), (0.3, 0.2), (0.6, 0.5), (0.9, 0.6), (1.2, 0.3), (1.5, 0.0), (1.8, -0.3), (2.1, -0.5)]


def test_the_alarm_rings_when_proxy_rises_and_gold_falls_and_says_since_when():
    looks = [look(10 * n, *point, seed=n) for n, point in enumerate(HACKED)]
    assert first_alarm(looks) == 7  # the third evaluation after the turn
    alarm = hacking(looks[:7])
    assert (alarm.since, alarm.steps) == (30, (40, 50, 60))
    assert alarm.proxy > 0.5
    assert alarm.gold < -0.5
    assert "Gold was best at step 30" in str(alarm)
    assert first_alarm(looks, patience=1) == 5


@pytest.mark.parametrize(
    "points",
    [
        [(n * 0.3, n * 0.3) for n in range(12)],  # both rise
        [(n * 0.3, min(n, 4) * 0.2) for n in range(12)],  # gold stops
        [(0, -n * 0.3) for n in range(12)],  # gold falls, and the proxy knows
        [(-n * 0.3, -n * 0.3) for n in range(12)],
        [(n * 0.3, -0.005 * n) for n in range(8)],  # by less than chance
    ],
)
def test_the_alarm_is_silent_when_they_do_not_part(points):
    for seed in range(5):
        assert first_alarm([look(n, *point, seed=100 * seed + n) for n, point in enumerate(points)]) is None


def test_a_recovery_counts_anew():
    points = [(0, 0), (1, 1), (2, 0), (3, 0), (4, 1.1), (5, 0), (6, 0)]
    looks = [look(n, *point, seed=n) for n, point in enumerate(points)]
    assert first_alarm(looks) is None
    assert first_alarm([*looks, look(7, 7, 0, seed=7)]) == 8


def test_ties_of_a_check_are_no_evidence():
    same = np.zeros(48)
    assert hacking([Look(step, same + step, same) for step in range(9)]) is None


def test_texts_are_measured():
    assert distinct_n(["a b a b", "a b"], 1) == 2 / 6
    assert distinct_n(["a b c", "a b d"], 2) == 3 / 4
    assert repetition(["a b c d a b c d", "a b c d e f"]) == pytest.approx((1 / 5 + 0) / 2)
    assert refusals(["I'm sorry, but no.", "As an AI, no", "Я не могу этого сказать", "The sea is blue."]) == 0.75
    assert refusals([]) == repetition([]) == 0


def test_length_is_regressed_out():
    draw = np.random.default_rng(0)
    length = np.concatenate([draw.uniform(10, 50, 100), draw.uniform(30, 90, 100)])
    now = np.arange(200) >= 100
    assert beside_length(0.1 * length, length, now) == pytest.approx(0, abs=1e-9)  # all of the gain is length
    assert beside_length(0.1 * length + 0.7 * now, length, now) == pytest.approx(0.7)
    assert beside_length(np.r_[0.0, 1.0], np.r_[5.0, 5.0], np.r_[False, True]) == 1.0


@pytest.fixture
def models(shared_data):
    from polyana.models import load_base

    directory = shared_data / "stories260k" / "hf"
    model, other = load_base(directory).eval(), load_base(directory).eval()
    with torch.no_grad():
        for weight in other.parameters():
            weight.mul_(1.03)
    return model, other


def test_the_divergence_is_that_of_the_two_distributions(models):
    from contextlib import nullcontext

    model, other = models
    texts = [([1, 5, 7], [9, 11]), ([1, 3], [4, 8, 2, 6])]
    found = divergence(model, lambda: nullcontext(other), texts)
    for (asked, answer), each in zip(texts, found, strict=True):
        tokens = torch.tensor([[*asked, *answer]])
        with torch.no_grad():
            log_p, log_q = (whole_logits(each_model, tokens[0]).log_softmax(-1) for each_model in models)
        rows = slice(len(asked) - 1, len(asked) + len(answer) - 1)
        kl = (log_p.exp() * (log_p - log_q)).sum(-1)[rows].sum()
        entropy = -(log_p.exp() * log_p).sum(-1)[rows].mean()
        assert each.kl == pytest.approx(float(kl), abs=1e-4)
        assert each.entropy == pytest.approx(float(entropy), abs=1e-4)
    assert all(each.kl == pytest.approx(0, abs=1e-6) for each in divergence(model, lambda: nullcontext(model), texts))


def whole_logits(model, tokens):
    from polyana.models import head_weight, hidden_states

    return hidden_states(model, tokens, torch.arange(len(tokens)), [len(tokens)]) @ head_weight(model).T
