"""Exhaustive: every int8 setting, and nothing else."""

from made_up import FOUR, INT8, linear, proposals, search_for, verdict

from lpot_lightning.recipe import FP32
from lpot_lightning.tuning.space import Space
from lpot_lightning.tuning.strategies.exhaustive import search_exhaustive

SPACE = Space((linear("a", (*FOUR[:2], FP32)), linear("f", [FP32]), linear("b", (*FOUR, FP32))))


def test_all_combinations_come_the_last_op_fastest():
    found = proposals(search_exhaustive, SPACE, search_for(), lambda _: verdict(0.1))
    pairs = [(recipe.as_mapping()["a"], recipe.as_mapping()["b"]) for recipe in found]
    assert pairs == [(a, b) for a in FOUR[:2] for b in FOUR]
    assert {recipe.fp32_ops for recipe in found} == {("f",)}


def test_a_large_model_starts_at_once():
    space = Space(tuple(linear(f"op{number}", FOUR) for number in range(100)))
    assert next(search_exhaustive(space, search_for())) == space.all_int8()


def test_one_setting_is_one_trial():
    space = Space((linear("a", [INT8]),))
    assert len(proposals(search_exhaustive, space, search_for(), lambda _: verdict(0.1))) == 1
