"""Which combinations the zoos run in `make test`."""

from __future__ import annotations

import itertools

import pytest
from pairs import all_pairs, paired

SIZES = [(2, 2), (3, 2, 2), (2, 3, 5, 3, 2), (1, 4, 1), (2,) * 12]


def named(sizes):
    return [[f"{number}.{value}" for value in range(size)] for number, size in enumerate(sizes)]


@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_each_value_meets_each_of_the_others(sizes):
    met = {pair for row in all_pairs(*named(sizes)) for pair in itertools.combinations(row, 2)}
    for one, other in itertools.combinations(named(sizes), 2):
        assert met >= set(itertools.product(one, other))


@pytest.mark.parametrize(
    ("sizes", "most"), [((3, 2, 2), 6), ((2, 3, 5, 3, 2), 18), ((2,) * 12, 10)], ids=str
)
def test_they_are_few_and_the_same_each_time(sizes, most):
    rows = list(all_pairs(*named(sizes)))
    assert len(rows) == len(set(rows)) <= most
    assert rows == list(all_pairs(*named(sizes)))


def test_of_two_dimensions_all_are_needed():
    assert sorted(all_pairs("ab", "xyz")) == list(itertools.product("ab", "xyz"))


def test_a_dimension_alone_is_whole():
    assert list(all_pairs("abc")) == [("a",), ("b",), ("c",)]


def test_the_others_are_for_soak():
    given = paired("ab", "xy", "12", "+-")
    assert [one.values for one in given] == list(itertools.product("ab", "xy", "12", "+-"))
    plain = [one.values for one in given if not one.marks]
    assert sorted(plain) == sorted(all_pairs("ab", "xy", "12", "+-"))
    assert {mark.name for one in given for mark in one.marks} == {"soak"}
