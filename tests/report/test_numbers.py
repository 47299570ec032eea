"""Numbers as people read them."""

import math

import pytest

from lpot_lightning.report.numbers import accuracy, duration, error, ms, objective


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.99163, "0.9916"), (None, "–"), (0.0, "0.0000"), (1e-7, "1e-07"), (1234567.0, "1.235e+06")],
)
def test_accuracies(value, shown):
    assert accuracy(value) == shown


def test_milliseconds_have_three_digits():
    assert [ms(one) for one in (0.011, 0.12, 1.23456, None)] == ["11.0", "120", "1.23e+03", "–"]


def test_objectives_have_their_unit():
    assert objective(0.01, "performance") == "10.0 ms"
    assert objective(2e6, "modelsize") == "2 MB"


def test_the_error_of_a_broken_op_is_a_word():
    assert [error(one) for one in (0.5, math.nan, None)] == ["5.00e-01", "not finite", "–"]


def test_durations():
    assert [duration(one) for one in (3, 600, 8000)] == ["3.0 s", "10 min", "2.2 h"]
