"""The shuffled order: every number once, another order for every epoch and seed, no order likelier than others."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from polyana.data import ShuffledOrder


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 5000), st.integers(0, 2**40), st.integers(0, 10_000))
@example(1, 0, 0)
@example(2, 0, 0)
@example(3, 0, 0)
@example(4096, 1, 1)
@example(4097, 1, 1)
def test_every_number_comes_once(size, seed, epoch):
    order = ShuffledOrder(size, seed, epoch)[np.arange(size)]
    assert order.dtype == np.int64
    assert (np.sort(order) == np.arange(size)).all()


@given(st.integers(1, 5000), st.integers(0, 100), st.data())
def test_one_position_gives_what_all_positions_give(size, seed, data):
    position = data.draw(st.integers(0, size - 1))
    order = ShuffledOrder(size, seed, 0)
    assert order[np.array([position])][0] == order[np.arange(size)][position]


def test_positions_are_left_as_they_were():
    positions = np.arange(1000)
    ShuffledOrder(1000, 0, 0)[positions]
    assert (positions == np.arange(1000)).all()


def test_large_sizes_are_in_range_and_without_repeats():
    for size in (10**9, 2**40 + 1):
        order = ShuffledOrder(size, 5, 0)[np.arange(10_000)]
        assert ((order >= 0) & (order < size)).all()
        assert len(np.unique(order)) == 10_000
        assert abs(order.mean() / size - 0.5) < 0.02


def test_each_epoch_and_each_seed_has_its_own_order():
    orders = [ShuffledOrder(500, seed, epoch)[np.arange(500)] for seed in range(10) for epoch in range(10)]
    for index, order in enumerate(orders):
        for other in orders[:index]:
            assert (order == other).sum() < 10  # by chance one place agrees
    assert (orders[0] == ShuffledOrder(500, 0, 0)[np.arange(500)]).all()


@pytest.mark.parametrize("size", [2, 3, 5, 17])
def test_every_number_is_as_likely_at_every_position(size):
    """Over 2,000 epochs each of size x size counts is within 5 standard deviations of its mean."""
    epochs = 2000
    seen = np.zeros((size, size))
    for epoch in range(epochs):
        seen[np.arange(size), ShuffledOrder(size, 11, epoch)[np.arange(size)]] += 1
    expected = epochs / size
    assert (abs(seen - expected) < 5 * (expected * (1 - 1 / size)) ** 0.5).all()


def test_neighbours_are_torn_apart():
    """In a random order of n numbers two in a row follow each other about once."""
    following = [int((np.diff(ShuffledOrder(2000, seed, 0)[np.arange(2000)]) == 1).sum()) for seed in range(100)]
    assert 0.5 < np.mean(following) < 1.5


def test_the_order_is_a_fixed_function():
    """Were it another, no run begun before could go on exactly."""
    assert ShuffledOrder(10, 7, 0)[np.arange(10)].tolist() == [4, 0, 7, 6, 3, 9, 8, 1, 5, 2]
