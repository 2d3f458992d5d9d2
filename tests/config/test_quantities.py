import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyana.config import Quantity
from polyana.config.quantity import parse_quantity

DURATION = ("epochs", "steps", "tokens")


@pytest.mark.parametrize(
    ("text", "amount", "unit"),
    [
        ("2B tokens", 2e9, "tokens"),
        ("2 B tokens", 2e9, "tokens"),
        ("1.5M tokens", 1.5e6, "tokens"),
        ("500k steps", 5e5, "steps"),
        ("1 epoch", 1, "epochs"),
        ("0.5 epochs", 0.5, "epochs"),
        ("10,000 steps", 10_000, "steps"),
        ("1e3 steps", 1000, "steps"),
    ],
)
def test_amounts_are_read_with_their_unit(text, amount, unit):
    assert parse_quantity(text, DURATION) == Quantity(amount, unit)


@pytest.mark.parametrize("text", ["", "steps", "5", 5, 5.0, True, None, [], "-3 steps", "0 steps", "2.5 steps", "3 mm"])
def test_what_is_no_amount_is_refused_with_an_example(text):
    with pytest.raises(ValueError, match=r"2 epochs|more than nothing|whole number"):
        parse_quantity(text, DURATION)


@given(st.integers(1, 10**15), st.sampled_from(DURATION))
def test_what_is_printed_reads_back(amount, unit):
    quantity = Quantity(float(amount), unit)
    assert parse_quantity(str(quantity), DURATION) == quantity


def test_seconds_and_bytes():
    assert parse_quantity("1.5 hours", ("hours",)).seconds == 5400
    assert parse_quantity("20 GB", ("GB",)).bytes == 20 * 10**9
    assert parse_quantity("2 KiB", ("KiB",)).bytes == 2048
