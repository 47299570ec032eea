"""What is measured before trials: once, agreed, kept, shown."""

from __future__ import annotations

import math
from typing import Any

from lpot_lightning.api.ranking import Ranker, table
from lpot_lightning.api.ranks import Ranks
from lpot_lightning.quantization.fx.profile import OpProfile
from lpot_lightning.recipe import FP32, Op, OpConfig, Recipe, TensorConfig
from lpot_lightning.tuning.history import History
from lpot_lightning.tuning.sensitivity import Sensitivity

INT8 = OpConfig(TensorConfig("uint8", "asym", "per_tensor", "kl"))
OPS = tuple(Op(name, "Linear", (INT8, FP32), weight_bytes=4) for name in "abc")
RECIPE = Recipe.of(dict.fromkeys("abc", INT8))


class Made:
    """Stands for a prepared model; each measurement comes out otherwise, as by a clock."""

    def __init__(self) -> None:
        self.profiles = self.rankings = 0

    def profile(self) -> dict[str, OpProfile]:
        self.profiles += 1
        return {op: OpProfile(2.0**-self.profiles, 8) for op in "abc"}

    def rank(self, recipe: Recipe) -> list[tuple[str, float]]:
        self.rankings += 1
        return [(op, self.rankings + place) for place, op in enumerate(recipe.int8_ops)]


def ranker(made: Any, history: History, said: list[str], objective: str = "performance") -> Ranker:
    return Ranker(made, OPS, objective, history, Ranks(), said.append)


def test_what_was_measured_is_taken_up_by_a_run_that_goes_on() -> None:
    made, history = Made(), History()
    once = ranker(made, history, []).rank(RECIPE)
    again = ranker(made, History.copied(history.known), [])
    assert again.rank(RECIPE) == once
    assert again.cost(RECIPE.with_fp32("ab")) == 1.0
    assert (made.profiles, made.rankings) == (1, 1)


def test_another_recipe_is_ranked_anew_at_the_same_costs() -> None:
    made = Made()
    found = ranker(made, History(), [])
    first, second = found.rank(RECIPE), found.rank(RECIPE.with_fp32("a"))
    assert [one.op for one in second] == ["b", "c"]
    assert {one.cost for one in (*first, *second)} == {0.5}
    assert found.first == tuple(first)


def test_the_size_of_a_model_needs_no_clock() -> None:
    made = Made()
    assert ranker(made, History(), [], "modelsize").cost(RECIPE.with_fp32("ab")) == 8.0
    assert made.profiles == 0


def test_the_table_shows_the_worst_and_sums_up_the_rest() -> None:
    found = [Sensitivity(f"op{n}", float(n), cost=0.001) for n in range(12)]
    lines = table([*found, Sensitivity("broken", math.nan)], "performance")
    assert lines[1].split() == ["op11", "1.10e+01", "16.7%", "1.000", "ms"]
    assert lines[9].split() == ["and", "4", "more", "9.1%"]
    assert lines[10] == "  broken: its error is not finite"
    assert len({len(line) for line in lines[:9]}) == 1
