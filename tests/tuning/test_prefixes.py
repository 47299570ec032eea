"""Recipes with more and more ops in fp32."""

import math

import pytest
from made_up import INT8, linear, space_of

from lpot_lightning.tuning.sensitivity import Sensitivity
from lpot_lightning.tuning.space import Space
from lpot_lightning.tuning.strategies.prefixes import Prefixes
from lpot_lightning.tuning.strategies.ranking import Ranking


def prefixes(space, damages, costs=None, forced=()):
    base = space.all_int8().with_fp32(forced)
    found = [Sensitivity(op, value, (costs or {}).get(op, 1.0)) for op, value in damages.items()]
    return Prefixes(base, Ranking.of(found, among=list(damages)))


def fp32_of(found):
    return ["".join(found.recipe(found.picked(size)).fp32_ops) for size in range(found.end)]


def test_each_size_has_one_more_op_in_fp32_and_the_last_leaves_one():
    found = prefixes(space_of("abc"), {"a": 1.0, "b": 4.0, "c": 2.0})
    assert fp32_of(found) == ["", "b", "bc"]


def test_what_is_left_and_what_it_costs():
    found = prefixes(space_of("abc"), {"a": 1.0, "b": 8.0, "c": 3.0}, {"b": 2.0, "c": 0.5})
    assert found.damages == pytest.approx((12 / 8, 9 / 8, 1 / 8))
    assert found.costs == pytest.approx((0.0, 0.5, 2.5))
    assert found.cost == 3.5


def test_all_of_the_ranking_is_a_size_where_another_op_stays_int8():
    space = Space((*space_of("ab").ops, linear("stub", [INT8])))
    assert fp32_of(prefixes(space, {"a": 1.0, "b": 2.0})) == ["", "b", "ab"]


def test_what_is_fp32_in_the_base_stays_so():
    found = prefixes(space_of("abcd"), {"a": 1.0, "b": 2.0, "d": 0.5}, forced="c")
    assert fp32_of(found) == ["c", "bc", "abc"]


def test_nothing_is_known_of_a_size_with_an_op_out_of_measure_in_int8():
    found = prefixes(space_of("abcd"), {"a": math.inf, "b": math.nan, "c": 2.0, "d": 1.0})
    assert list(map(math.isnan, found.damages)) == [True, True, False, False]
    assert found.damages[2:] == (1.5, 0.5)


def test_a_ranking_without_an_op_has_one_size():
    found = prefixes(Space((linear("stub", [INT8]),)), {})
    assert (found.end, found.costs, found.damages) == (1, (0.0,), (0.0,))


def test_a_cliff_is_looked_for_between_two_sizes_in_any_order():
    found = prefixes(space_of("abcd"), {"a": 9.0, "b": 8.0, "c": 7.0, "d": 6.0})
    assert found.cliff(3, 1) is None
    found = prefixes(space_of("abcd"), {"a": 9.0, "b": 8.0, "c": 0.7, "d": 0.6})
    assert found.cliff(1, 3) == found.cliff(3, 1) == 2
