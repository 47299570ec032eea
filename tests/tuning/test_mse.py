"""Mse: the way of basic, in the order of the error that ops cause."""

from dataclasses import replace

from made_up import FOUR, Damaged, linear, proposals, search_for, space_of, verdict

from lpot_lightning.recipe import FP32
from lpot_lightning.tuning.sensitivity import Sensitivity
from lpot_lightning.tuning.space import Space
from lpot_lightning.tuning.strategies.mse import search_mse


def proposed(damages, ranked):
    model = Damaged(damages)
    found = proposals(
        search_mse, space_of(damages), search_for(ranked), lambda r: verdict(model(r).accuracy)
    )
    return ["".join(recipe.fp32_ops) for recipe in found]


def test_the_most_harmful_comes_first_and_no_op_is_tried_alone():
    damages = {"a": 0.1, "b": -0.1, "c": 0.3}
    found = proposed(damages, {"a": 1.0, "b": 2.0, "c": 3.0})
    assert found == ["", "c", "bc", "ac", "c", "bc"]  # b does not help and is int8 again


def test_settings_come_first_and_the_best_of_them_is_ranked():
    asked = []

    def rank(recipe):
        asked.append(recipe)
        return [Sensitivity("a", 1.0), Sensitivity("b", 2.0)]

    search = replace(search_for(), rank=rank)
    space = Space((linear("a", (*FOUR, FP32)), linear("b", (*FOUR, FP32))))
    worth = dict(zip(FOUR, (0.1, 0.2, 0.4, 0.3), strict=True))
    found = proposals(
        search_mse,
        space,
        search,
        lambda recipe: verdict(max(worth.get(config, 0.0) for _, config in recipe.ops)),
    )
    assert [recipe.as_mapping()["a"] for recipe in found[:4]] == list(FOUR)
    assert asked == [found[2]]
    assert found[4].as_mapping() == {"a": FOUR[2], "b": FP32}
