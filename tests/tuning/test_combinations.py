"""One choice from each list, the most uniform first."""

import random
from itertools import islice, product

from lpot_lightning.tuning.strategies.combinations import uniform_first


def by_sorting(options):
    return sorted(product(*options), key=lambda choices: len(set(choices)))


def test_uniform_ones_come_first_then_the_order_of_the_product():
    found = ["".join(choices) for choices in uniform_first(["abc", "abc"])]
    assert found == ["aa", "bb", "cc", "ab", "ac", "ba", "bc", "ca", "cb"]


def test_it_is_the_order_that_sorting_the_whole_product_gives():
    draw = random.Random(5)
    for _ in range(100):
        options = [draw.sample("abcdef", draw.randint(1, 4)) for _ in range(draw.randint(1, 5))]
        assert list(uniform_first(options)) == by_sorting(options)


def test_of_no_lists_there_is_one_empty_choice():
    assert list(uniform_first([])) == [()]


def test_the_first_of_a_product_too_large_to_build_come_at_once():
    shared = list(islice(uniform_first(["abcd"] * 40), 1000))
    assert shared[:4] == [(letter,) * 40 for letter in "abcd"]
    disjoint = [[f"{place}{letter}" for letter in "abcd"] for place in range(40)]
    assert len(list(islice(uniform_first(disjoint), 1000))) == 1000
    apart = list(islice(uniform_first(["abcd"] * 20 + disjoint[:20]), 5))
    assert all(len(set(choices)) == 21 for choices in apart)
    many = list(islice(uniform_first([*["abcd"] * 20, *disjoint[:2]]), 65))
    assert [len(set(choices)) for choices in many] == [3] * 64 + [4]
    mixed = [choices for place in disjoint[:20] for choices in ("abcd", place)]
    assert len(set(next(iter(uniform_first(mixed))))) == 21
