"""Random: drawn int8 settings, none twice."""

import dataclasses
from itertools import islice

from made_up import FOUR, linear, proposals, search_for, verdict

from lpot_lightning.recipe import FP32
from lpot_lightning.tuning.space import Space
from lpot_lightning.tuning.strategies.random import search_random

SPACE = Space((linear("a", (*FOUR, FP32)), linear("b", (*FOUR, FP32)), linear("f", [FP32])))


def drawn(seed):
    search = dataclasses.replace(search_for(), seed=seed)
    return proposals(search_random, SPACE, search, lambda _: verdict(0.1))


def test_every_combination_of_settings_comes_once():
    found = drawn(seed=1)
    assert len({recipe.key for recipe in found}) == len(found) == 16
    assert {recipe.fp32_ops for recipe in found} == {("f",)}


def test_the_seed_decides_and_all_int8_comes_first():
    assert drawn(seed=1) == drawn(seed=1) != drawn(seed=2)
    assert drawn(seed=1)[0] == drawn(seed=2)[0] == SPACE.all_int8()


def test_a_large_model_goes_on_and_on():
    space = Space(tuple(linear(f"op{number}", FOUR) for number in range(100)))
    generator = search_random(space, search_for())
    recipes = [next(generator), *(generator.send(verdict(0.1)) for _ in range(200))]
    assert len({recipe.key for recipe in islice(recipes, 201)}) == 201
