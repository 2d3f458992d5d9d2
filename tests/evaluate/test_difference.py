"""Intervals of differences: how often they hold the truth, and what they say where there is nothing to see."""

import numpy as np
import pytest

from polyana.evaluate import bits_per_byte_difference, mean_and_interval
from polyana.evaluate.difference import _student_t


@pytest.mark.parametrize("freedom", [1, 1.7, 2, 4, 30, 900])
def test_student_t_is_scipys(freedom):
    stats = pytest.importorskip("scipy.stats")
    assert _student_t(freedom) == pytest.approx(stats.t.ppf(0.975, freedom), rel=1e-3)


def models(generator, sizes, seeds, effect=0.0):
    """Bits of documents for two kinds of models; what differs by chance hangs on the seed, the document and both."""
    documents = len(sizes)
    of_both = generator.normal(2.0, 0.5, documents) + generator.normal(0, 0.05, (seeds, 1))

    def kind(shift):
        of_document = generator.normal(shift, 0.08, documents)
        of_seed = generator.normal(0, 0.01, (seeds, 1))
        return (of_both + of_document + of_seed + generator.normal(0, 0.05, (seeds, documents))) * sizes

    return kind(effect), kind(0.0)


@pytest.mark.parametrize(("seeds", "documents"), [(3, 8), (3, 150), (5, 40)])
def test_95_of_100_intervals_hold_the_truth(seeds, documents):
    generator, tries = np.random.default_rng(5), 300
    sizes = generator.integers(200, 3000, documents)
    held = seen = 0
    for _ in range(tries):
        found = bits_per_byte_difference(*models(generator, sizes, seeds, effect=-0.1), sizes)
        held += found.low <= -0.1 <= found.high
        seen += found.is_seen
    assert held / tries >= 0.93  # 0.95, less two standard errors of 300 tries
    if documents > 100:
        assert seen / tries > 0.95  # and it is no use to be so wide that nothing is ever seen


def test_what_is_equal_shows_no_difference():
    sizes = np.array([100, 200, 300])
    bits, _ = models(np.random.default_rng(1), sizes, 3)
    found = bits_per_byte_difference(bits, bits, sizes)
    assert (found.value, found.low, found.high, found.is_seen) == (0, 0, 0, False)


def test_of_one_document_nothing_can_be_said():
    found = bits_per_byte_difference(np.array([[1.0], [1.1]]), np.array([[2.0], [2.1]]), np.array([10]))
    assert found.value == pytest.approx(-0.1)
    assert (found.low, found.high, found.is_seen) == (None, None, False)


def test_the_difference_is_of_all_bytes_and_not_the_mean_of_documents():
    found = bits_per_byte_difference(np.array([[0.0, 900.0]] * 2), np.array([[20.0, 900.0]] * 2), np.array([10, 990]))
    assert found.value == pytest.approx(-20 / 1000)


def test_an_interval_over_seeds_is_that_of_the_t_distribution():
    stats = pytest.importorskip("scipy.stats")
    values = np.array([[1.0, 5.0], [1.2, 5.0], [1.3, 5.0]])
    mean, reach = mean_and_interval(values)
    low, high = stats.t.interval(0.95, 2, values[:, 0].mean(), stats.sem(values[:, 0]))
    assert (mean[0] - reach[0], mean[0] + reach[0]) == pytest.approx((low, high))
    assert reach[1] == 0
