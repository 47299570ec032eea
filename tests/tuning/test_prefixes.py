"""Recipes with more and more ops in fp32."""

import math

import pytest
from made_up import INT8, int8, linear, space_of

from lpot_lightning.recipe import FP32, Op
from lpot_lightning.tuning.islands import Islands
from lpot_lightning.tuning.sensitivity import Sensitivity
from lpot_lightning.tuning.space import Space
from lpot_lightning.tuning.strategies.prefixes import Prefixes
from lpot_lightning.tuning.strategies.ranking import Ranking


def layer(name, *reads):
    return Op(name=name, kind="Conv2d", configs=(INT8, FP32), weight_bytes=100, reads=reads)


def add(name, *reads):
    return Op(name=name, kind="add", configs=(int8(weight=None), FP32), weight_bytes=0, reads=reads)


def prefixes(space, damages, costs=None, forced=()):
    base = space.all_int8().with_fp32(forced)
    found = [Sensitivity(op, value, (costs or {}).get(op, 1.0)) for op, value in damages.items()]
    return Prefixes(base, Ranking.of(found, among=list(damages)), Islands(space))


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


TWO = Space(
    (layer("a"), layer("b", "a"), add("x", "a", "b"), layer("c", "x"), add("y", "c"), layer("d"))
)


def test_islands_go_along_and_have_no_size_of_their_own():
    order = {"a": 9.0, "b": 8.0, "c": 7.0, "x": 6.0, "y": 5.0, "d": 4.0}
    found = prefixes(TWO, order)
    assert fp32_of(found) == ["", "a", "ab", "abxcy"]
    assert found.damages == pytest.approx([39 / 9, 30 / 9, 22 / 9, 4 / 9])
    assert found.costs == (0, 1, 2, 5)
    assert found.picked(3) == ("a", "b", "c")


def test_a_light_op_with_int8_neighbours_has_a_size_like_any_other():
    found = prefixes(TWO, {"x": 9.0, "a": 8.0, "b": 7.0, "c": 6.0, "d": 5.0, "y": 1.0})
    assert fp32_of(found) == ["", "x", "ax", "abx", "abxcy"]


def test_an_island_next_to_what_the_base_has_in_fp32_goes_along():
    found = prefixes(TWO, {"b": 9.0, "c": 8.0, "d": 4.0, "x": 2.0, "y": 1.0}, forced="a")
    assert fp32_of(found) == ["a", "ab", "abxcy"]


def test_an_island_comes_back_with_its_neighbour():
    found = prefixes(TWO, {"a": 9.0, "b": 8.0, "c": 7.0, "d": 4.0, "x": 2.0, "y": 1.0})
    assert found.recipe("ac").fp32_ops == ("a", "c", "y")


def test_nothing_is_known_of_a_size_with_an_op_out_of_measure_in_int8():
    found = prefixes(space_of("abcd"), {"a": math.inf, "b": math.nan, "c": 2.0, "d": 1.0})
    assert list(map(math.isnan, found.damages)) == [True, True, False, False]
    assert found.damages[2:] == (1.5, 0.5)


def test_a_ranking_without_an_op_has_one_size():
    found = prefixes(Space((linear("stub", [INT8]),)), {})
    assert (found.end, found.costs, found.damages) == (1, (0.0,), (0.0,))


def test_a_cliff_is_looked_for_between_two_sizes_in_any_order():
    found = prefixes(TWO, {"a": 9.0, "b": 8.0, "c": 7.0, "x": 6.0, "y": 5.0, "d": 0.4})
    assert found.cliff(3, 1) is None
    found = prefixes(space_of("abcd"), {"a": 9.0, "b": 8.0, "c": 0.7, "d": 0.6})
    assert found.cliff(1, 3) == found.cliff(3, 1) == 2
