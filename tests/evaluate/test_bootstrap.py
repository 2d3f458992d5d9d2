"""Intervals against scipy's bootstrap, and on data whose truth is known."""

import numpy as np
import pytest
from scipy import stats

from polyana.evaluate import Item, Scored, metrics_of, paired_tests
from polyana.evaluate.bootstrap import drawn_ratios, in_groups, interval, p_value


def ratio(above, below, axis=-1):
    return above.sum(axis) / below.sum(axis)


@pytest.mark.parametrize("groups", [12, 80])
def test_an_interval_is_scipys_by_percentiles(groups):
    draws = np.random.default_rng(groups)
    below = draws.integers(10, 400, groups).astype(float)
    above = below * draws.normal(3.2, 0.4, groups)
    theirs = stats.bootstrap(
        (above, below), ratio, paired=True, method="percentile", n_resamples=20_000, rng=np.random.default_rng(1)
    ).confidence_interval
    width = theirs.high - theirs.low
    assert interval(above, below) == pytest.approx((theirs.low, theirs.high), abs=0.06 * width)


def test_items_of_one_group_are_drawn_as_one():
    scores = np.random.default_rng(0).integers(0, 2, 30).astype(float)
    alone = interval(*in_groups([str(n) for n in range(30)], np.stack([scores, np.ones(30)])))
    tenfold = np.stack([np.repeat(scores, 10), np.ones(300)])
    groups = [str(n // 10) for n in range(300)]
    assert interval(*in_groups(groups, tenfold)) == pytest.approx(alone)
    as_if_new = interval(*in_groups([str(n) for n in range(300)], tenfold))
    assert as_if_new[1] - as_if_new[0] < 0.5 * (alone[1] - alone[0])


def test_all_right_is_not_sure():
    low, high = interval(np.ones(20), np.ones(20))
    theirs = stats.binomtest(20, 20).proportion_ci(method="wilson")
    assert (low, high) == pytest.approx((theirs.low, theirs.high), abs=1e-6)
    theirs = stats.binomtest(0, 20).proportion_ci(method="wilson")
    assert interval(np.zeros(20), np.ones(20)) == pytest.approx((theirs.low, theirs.high), abs=1e-6)
    assert interval(np.ones(1), np.ones(1)) is None


def test_pairs_see_what_two_intervals_do_not():
    """Two systems that differ by little on questions that differ by much: of 40 pairs the sign is plain."""
    draws = np.random.default_rng(2)
    hardness = draws.normal(3, 1, 40)
    old = [Item(str(n), str(n), {"loss": (value, 1.0)}) for n, value in enumerate(hardness)]
    gain = draws.normal(0.05, 0.05, 40)
    new = [Item(str(n), str(n), {"loss": (value, 1.0)}) for n, value in enumerate(hardness - gain)]
    (found,) = paired_tests(old, list(reversed(new)))
    assert (found.verdict, found.n) == ("better", 40)
    assert found.p_value < 0.01 < stats.ttest_ind(hardness, hardness - gain).pvalue
    assert found.low < found.difference < found.high < 0
    (backwards,) = paired_tests(new, old)
    assert backwards.verdict == "worse"
    before, after = (metrics_of(Scored(items))["loss"] for items in (old, new))
    assert before.low < after.value < before.high
    assert metrics_of(Scored(old))["perplexity"].value == pytest.approx(np.exp(hardness.mean()))


def test_chance_is_called_chance_19_times_of_20():
    draws, wrong = np.random.default_rng(3), 0
    for _ in range(100):
        above = draws.integers(0, 2, (2, 60)).astype(float)
        drawn = drawn_ratios(above, np.ones((2, 60)))
        wrong += p_value(above[1].mean() - above[0].mean(), drawn[1] - drawn[0]) < 0.05
    assert wrong <= 12  # 5 are expected


def test_the_same_answers_differ_by_nothing():
    items = [Item(str(n), "one", {"acc": (1.0, 1.0)}) for n in range(5)]
    (found,) = paired_tests(items, items)
    assert (found.difference, found.p_value, found.verdict) == (0.0, None, "too few to say")
    assert p_value(0.0, np.zeros(10)) == 1.0
