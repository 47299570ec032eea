"""Where the ranking falls, and where it only seems to."""

import math
import random

import pytest

from lpot_lightning.tuning.sensitivity import Sensitivity
from lpot_lightning.tuning.strategies.ranking import Ranking


def ranking(*values):
    names = [f"op{place:03d}" for place in range(len(values))]
    return ranked(zip(names, values, strict=True), among=names)


def ranked(damages, among):
    return Ranking.of([Sensitivity(name, damage) for name, damage in damages], among)


def test_ops_come_most_harmful_first_and_ties_by_name():
    found = ranked([("b", 1.0), ("a", 1.0), ("c", 2.0)], among=["b", "a", "c"])
    assert found.order == ("c", "a", "b")


def test_an_op_out_of_measure_comes_first_and_one_not_measured_last():
    found = ranked([("a", 2.0), ("b", math.nan), ("c", -1.0)], among=["a", "b", "c", "d"])
    assert found.order == ("b", "a", "c", "d")
    assert found.damages == (1.0, 1.0, 0.0, 0.0)


def test_an_op_that_nobody_may_choose_is_left_out():
    assert ranked([("a", 2.0), ("stub", 9.0)], among=["a"]).order == ("a",)


@pytest.mark.parametrize("rest", [1.0, 1e-3, 1e-9, 0.0])
@pytest.mark.parametrize("planted", [1, 2, 4, 9])
def test_planted_ops_are_the_cliff(planted, rest):
    values = [1000.0 / (place + 1) for place in range(planted)] + [rest] * (23 - planted)
    assert ranking(*values).cliff(last=22) == planted


def test_planted_ops_over_a_spread_out_rest_are_the_cliff():
    draw = random.Random(3)
    for _ in range(50):
        rest = [draw.lognormvariate(0, 1) for _ in range(40)]
        assert ranking(1e4, 8e3, 5e3, *rest).cliff(last=42) == 3


def test_a_cliff_in_a_tail_of_next_to_nothing_does_not_count():
    values = [8.0, 7.0, 6.0, 1.0, 0.9, 0.8, 1e-7, 1e-13, 1e-19, 0.0]
    assert ranking(*values).cliff(last=9) == 6
    assert ranking(8.0, 7.0, 6.0, 0.1, 0.001, 1e-5, 1e-30, 0.0).cliff(last=7) == 3


def test_a_single_op_at_the_head_of_a_smooth_ranking_does_not_count():
    values = [3.0] + [0.97**place for place in range(50)]
    assert ranking(*values).cliff(last=50) > 5


def test_equal_ops_are_halved():
    assert ranking(*[1.0] * 20).cliff(last=19) == 10
    assert ranking(*[0.0] * 20).cliff(last=19) == 10


@pytest.mark.parametrize("values", [(1.0,), (0.0,), (5.0, 1.0), (1.0, 1e9, 0.0), (math.inf,) * 3])
def test_the_cliff_is_always_a_probe(values):
    for last in range(1, len(values) + 1):
        assert 1 <= ranking(*values).cliff(last) <= last


def test_the_end_is_no_cliff():
    assert ranking(9.0, 9.0, 1.0, 1.0).cliff(last=4) == 2


def test_huge_values_do_not_overflow():
    assert ranking(1e308, 1e308, 1e308, 1.0).cliff(last=3) == 3


def test_a_cliff_is_steep_where_harm_halves():
    ranking = ranked([("a", 9.0), ("b", 8.0), ("c", 3.0), ("d", 0.0)], among="abcd")
    assert [ranking.is_steep(size) for size in (1, 2, 3, 4)] == [False, True, True, False]
