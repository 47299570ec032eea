"""In which order ops go to fp32, and where the order falls."""

import math

import pytest

from lpot_lightning.tuning.sensitivity import Sensitivity
from lpot_lightning.tuning.strategies.ranking import Ranking


def ranked(damages, among=None, **costs):
    found = [Sensitivity(op, damage, costs.get(op, 1.0)) for op, damage in damages.items()]
    return Ranking.of(found, among=among or list(damages))


def ranking(*values):
    return ranked({f"op{place:03d}": value for place, value in enumerate(values)})


def damages(found):
    return [one.damage for one in found.sensitivities]


def test_ops_come_most_harmful_first_and_ties_by_name():
    assert ranked({"b": 1.0, "a": 1.0, "c": 2.0}).order == ("c", "a", "b")


def test_what_is_dear_comes_later_and_keeps_its_damage():
    found = ranked({"a": 4.0, "b": 2.0, "c": 1.0}, a=8.0)
    assert found.order == ("b", "c", "a")
    assert damages(found) == [0.5, 0.25, 1.0]


def test_ops_out_of_measure_come_first_the_cheap_ones_before_the_dear():
    found = ranked({"a": 2.0, "b": math.nan, "c": math.inf}, b=3.0)
    assert found.order == ("c", "b", "a")
    assert found.not_finite == ("c", "b")


def test_nothing_is_out_of_measure_where_all_are_numbers():
    assert ranking(1.0, 0.0).not_finite == ()


def test_an_op_that_was_not_measured_comes_last():
    found = ranked({"a": 2.0, "c": -1.0}, among=["a", "c", "b"])
    assert found.order == ("a", "b", "c")
    assert damages(found) == [1.0, 0.0, 0.0]


def test_the_cost_of_an_op_that_was_not_measured_is_the_usual_one():
    found = ranked({"a": 2.0, "b": 1.0}, among=["a", "b", "c"], a=3.0, b=5.0)
    assert {one.op: one.cost for one in found.sensitivities}["c"] == 4.0


def test_an_op_that_nobody_may_choose_is_left_out():
    assert ranked({"a": 2.0, "stub": 9.0}, among=["a"]).order == ("a",)


def test_huge_values_do_not_overflow():
    assert damages(ranking(1e308, 1e308, 1.0)) == [1.0, 1.0, 1e-308]


@pytest.mark.parametrize("rest", [1.0, 1e-3, 0.0])
@pytest.mark.parametrize("planted", [1, 2, 4, 9])
def test_planted_ops_are_the_cliff(planted, rest):
    values = [100.0 / (place + 1) for place in range(planted)] + [rest] * (23 - planted)
    assert ranking(*values).steepest(range(max(planted - 1, 1), 23)) == planted


def test_only_the_sizes_that_are_asked_for_count():
    found = ranking(100.0, 10.0, 1.0, 0.3)
    assert found.steepest([2, 3]) == 2
    assert found.steepest([3]) == 3


@pytest.mark.parametrize("sizes", [[], [0], [4], [1, 2], range(5)])
def test_where_nothing_falls_to_a_half_there_is_no_cliff(sizes):
    assert ranking(3.0, 2.9, 2.8, 2.7).steepest(sizes) is None


def test_the_first_of_two_equal_cliffs_is_taken():
    assert ranking(4.0, 2.0, 1.0).steepest([1, 2]) == 1


def test_the_end_of_what_is_out_of_measure_is_a_cliff():
    found = ranking(math.inf, math.inf, 2.0, 1.0, 0.0, 0.0)
    assert found.steepest(range(1, 4)) == 2
    assert found.steepest([1, 3]) == 3
    assert ranking(*[math.nan] * 3).steepest([1, 2]) is None


def test_it_falls_in_damage_by_cost():
    assert ranked({"a": 4.0, "b": 2.0, "c": 3.0}, a=4.0, c=10.0).steepest([1, 2]) == 2
