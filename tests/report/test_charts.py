"""Axes that are honest and round, marks where their values are."""

import math

import pytest

from lpot_lightning.report.charts import Axis, Frame, bar, steps, ticks


@pytest.mark.parametrize(
    ("low", "high"), [(0, 1), (0.9412, 0.9481), (-3e5, 7e5), (1e-7, 2e-7), (0, 1185)]
)
def test_ticks_are_few_round_and_inside(low, high):
    found = ticks(low, high)
    assert 3 <= len(found) <= 7
    assert all(low - 1e-9 <= one <= high + 1e-9 for one in found)
    step = found[1] - found[0]
    assert round(step / 10 ** math.floor(math.log10(step) + 1e-9), 6) in (1, 2, 2.5, 5, 10)


@pytest.mark.parametrize(
    "values", [(0.9412, 0.9481), (0.94, 0.94000003), (1e-14, 2e-14), (12345678, 12345679)]
)
def test_names_of_ticks_tell_them_apart(values):
    axis = Axis.of(values, "acc")
    names = [name for _, name in axis.ticks]
    assert len(set(names)) == len(names) > 2


def test_trials_are_counted_in_whole_numbers():
    assert [name for _, name in Axis.of([1, 2, 3], "trial", whole=True).ticks] == ["1", "2", "3"]
    assert [name for _, name in Axis.of([1], "trial", whole=True).ticks] == ["1"]


@pytest.mark.parametrize("values", [[], [0.0], [math.nan], [math.inf, 1.0], [1.0, 1.0], [1e300]])
def test_whatever_comes_there_is_an_axis(values):
    axis = Axis.of(values, "loss")
    assert axis.low < axis.high
    assert 0 <= axis.part(1e9) <= 1


def test_a_better_value_lies_higher_and_a_later_one_further_right():
    frame = Frame(Axis.of([1, 9], "trial", whole=True), Axis.of([0.1, 0.9], "acc"))
    assert frame.down(0.9) < frame.down(0.1)
    assert float(frame.across(9)[:-1]) > float(frame.across(1)[:-1])


def test_a_trial_without_an_accuracy_lies_at_the_bottom():
    frame = Frame(Axis.of([1], "trial", whole=True), Axis.of([0.1, 0.9], "acc"))
    assert 'class="at tip"' in frame.mark(1, None, "cross failed", "failed")
    assert frame.down(0.1) < 212


def test_a_bar_begins_at_nothing():
    assert 'width="0.0%"' in bar(0.0)
    assert 'width="25.0%"' in bar(0.25)
    assert 'width="100.0%"' in bar(7.0)


def test_stairs_go_up_when_more_is_zero():
    assert "M0 20H0.0V20.0H50.0V11.0H100" in steps([(0, 0), (0.5, 0.5)])
