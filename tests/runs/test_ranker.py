"""What is measured before trials: once, agreed, kept, shown."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection
from pathlib import Path
from typing import Any

import pytest
from small_run import NO_REPAIR, net, run

from lpot_lightning.conf.reader import read_conf
from lpot_lightning.conf.schema import RecipesConf
from lpot_lightning.quantization.capability import DYNAMIC, WEIGHT_ONLY
from lpot_lightning.quantization.op_profile import OpProfile
from lpot_lightning.recipe import CORRECTIONS, FP32, Op, OpConfig, Recipe, TensorConfig
from lpot_lightning.runs.job import Job
from lpot_lightning.runs.options import Listener, Options
from lpot_lightning.runs.ranker import Ranker, allowed_by, asked_by, table
from lpot_lightning.tuning.history import History
from lpot_lightning.tuning.ladder import usual_share
from lpot_lightning.tuning.sensitivity import Sensitivity
from lpot_lightning.tuning.space import Space

INT8 = OpConfig(
    TensorConfig(dtype="uint8", scheme="asym", granularity="per_tensor", algorithm="kl")
)
TRAINED = OpConfig(dataclasses.replace(INT8.activation, algorithm="trained"))
CAN = ("fast_bias_correction",)
OPS = tuple(
    Op(name=name, kind="Linear", configs=(INT8, FP32), weight_bytes=4, corrections=CAN)
    for name in "abc"
)
RECIPE = Recipe.of(dict.fromkeys("abc", INT8))


MODEL = {"name": "made up", "framework": "pytorch_fx"}


class Made:
    """Stands for a prepared model; each measurement comes out otherwise, as by a clock."""

    ops = OPS

    def __init__(self) -> None:
        self.diagnoser = self
        self.profiles = self.rankings = self.errors = 0
        self.forwards = 0.0

    def profile(self, recipe: Recipe | None = None) -> dict[str, OpProfile]:
        self.profiles += 1
        return {op: OpProfile(2.0**-self.profiles, 8) for op in "abc"}

    def rank(self, recipe: Recipe) -> list[tuple[str, float]]:
        self.rankings += 1
        self.forwards += 1.5
        return [(op, self.rankings + place) for place, op in enumerate(recipe.int8_ops)]

    def can_tell(self, op: str, config: OpConfig) -> bool:
        return False

    def error(self, recipe: Recipe, ops: Collection[str]) -> float:
        self.errors += 1
        mended = [op for op in ops if recipe.as_mapping()[op].corrections]
        return 1.0 - 0.5 * len(mended)


class Timed(Made):
    """Takes seconds by rung; all ops are like that."""

    def __init__(self, **seconds: float) -> None:
        super().__init__()
        self.seconds = seconds

    def profile(self, recipe: Recipe | None = None) -> dict[str, OpProfile]:
        self.profiles += 1
        ops = dict.fromkeys("abc", FP32) if recipe is None else recipe.as_mapping()
        return {op: OpProfile(self.seconds[config.rung.name], 8) for op, config in ops.items()}


def ranker(
    made: Any,
    history: History,
    said: list[str],
    objective: str = "performance",
    ops: tuple[Op, ...] = OPS,
) -> Ranker:
    conf = read_conf({"model": MODEL, "tuning": {"objective": objective}})
    nobody: Any = None
    job = Job(
        conf=conf,
        feed=nobody,
        monitor=nobody,
        options=Options(),
        listener=Listener(said.append),
        backend=nobody,
        model=nobody,
        prepared=made,
        baseline=0.9,
        fp32_passes=1,
        criterion=nobody,
    )
    return Ranker(job, Space(ops), history)


def test_what_a_rung_costs_is_measured_once_and_kept_in_rough_steps() -> None:
    made, history = Timed(STATIC=1.0, DYNAMIC=1.7, FP32=4.0), History()
    found = ranker(made, history, [])
    assert found.share("a", DYNAMIC) == 0.25  # 0.7 of 3 seconds
    assert ranker(Timed(), history, []).share("a", DYNAMIC) == 0.25  # of a run that goes on
    assert found.share("a", FP32) == 1.0
    assert found.share("a", INT8) == 0.0
    assert found.share("a", WEIGHT_ONLY[0]) == 0.9  # no faster, and smaller
    assert made.profiles == 3


def test_where_int8_is_slower_than_fp32_a_rung_costs_what_it_usually_does() -> None:
    made = Timed(STATIC=4.0, DYNAMIC=1.7, FP32=1.0)
    assert ranker(made, History(), []).share("a", DYNAMIC) == usual_share("a", DYNAMIC)


def test_where_nothing_is_static_no_rung_is_measured() -> None:
    ops = tuple(dataclasses.replace(op, configs=(DYNAMIC, FP32)) for op in OPS)
    found = ranker(Timed(), History(), [], ops=ops)
    assert found.share("a", DYNAMIC) == usual_share("a", DYNAMIC)


def test_by_size_a_rung_costs_its_bytes() -> None:
    found = ranker(Timed(), History(), [], "modelsize")
    shares = [found.share("a", one) for one in (INT8, DYNAMIC, *WEIGHT_ONLY[:2], FP32)]
    assert shares == pytest.approx([0.0, 0.001, 0.002, 0.002 + 1 / 24, 1.0])


def test_a_recipe_costs_what_its_ops_cost_on_their_rungs() -> None:
    found = ranker(Timed(STATIC=1.0, DYNAMIC=2.5, FP32=4.0), History(), [])
    assert found.cost(Recipe.of({"a": FP32, "b": DYNAMIC, "c": INT8})) == 4.0 + 4.0 * 0.5


def test_what_was_measured_is_taken_up_by_a_run_that_goes_on() -> None:
    made, history = Made(), History()
    once = ranker(made, history, []).rank(RECIPE)
    spent = made.errors
    again = ranker(made, History.copied(history.known), [])
    assert again.rank(RECIPE) == once
    assert again.causes
    assert made.errors == spent  # causes are taken up, too
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


def test_what_was_repaired_is_taken_up_by_a_run_that_goes_on() -> None:
    made, history, said = Made(), History(), list[str]()
    first = ranker(made, history, said)
    repaired = first.repair(RECIPE, [Sensitivity("a", 5.0), Sensitivity("b", 1e-9)])
    assert repaired.as_mapping()["a"].corrections == CAN
    assert "fast_bias_correction  1.00e+00 -> 5.00e-01" in said[-1]
    spent = made.errors
    again = ranker(made, History.copied(history.known), [])
    assert again.repair(RECIPE, []) == repaired
    assert made.errors == spent
    assert again.repairs_of(repaired) == first.repairs_of(repaired) != ()
    assert again.repairs_of(repaired.with_fp32("a")) == ()


def test_repairs_are_those_of_the_recipe_that_they_were_made_for() -> None:
    found = ranker(Made(), History(), [])
    minmax = OpConfig(
        TensorConfig(dtype="uint8", scheme="asym", granularity="per_tensor", algorithm="minmax")
    )
    one = found.repair(RECIPE, [Sensitivity("a", 5.0)])
    other = found.repair(RECIPE.with_configs({"c": minmax}), [Sensitivity("b", 5.0)])
    assert {repair.op for repair in found.repairs_of(one)} == {"a"}
    assert {repair.op for repair in found.repairs_of(other)} == {"b"}
    assert found.repairs_of(RECIPE) == ()


def test_repairs_are_told_whatever_became_of_other_ops() -> None:
    found = ranker(Made(), History(), [])
    repaired = found.repair(RECIPE, [Sensitivity("a", 5.0), Sensitivity("b", 5.0)])
    lower = repaired.with_configs({"b": DYNAMIC, "c": DYNAMIC})
    assert {repair.op for repair in found.repairs_of(lower)} == {"a"}


def test_errors_and_causes_are_told_of_what_rounds_as_it_was_measured() -> None:
    trained = Recipe.of(dict.fromkeys("abc", TRAINED))
    found = ranker(Made(), History(), [])
    ranked = found.rank(RECIPE)
    assert found.sensitivities_of(RECIPE.with_fp32("a")) == tuple(ranked)
    assert found.causes_of(RECIPE) == found.causes != {}
    assert (found.sensitivities_of(trained), found.causes_of(trained)) == ((), {})
    again = found.rank(trained)
    assert found.sensitivities_of(trained) == tuple(again) != tuple(ranked)


def test_a_recipe_that_the_user_forbids_is_not_taken() -> None:
    assert allowed_by(RecipesConf()) == CORRECTIONS
    assert "weight_correction" not in allowed_by(RecipesConf(weight_correction=False))
    assert asked_by(RecipesConf(weight_correction=True)) == ("weight_correction",)


def test_a_run_that_goes_on_does_not_say_that_it_looked_for_causes(tmp_path: Path) -> None:
    for looks in (True, False):
        said: list[str] = []
        run(net(fragile=True), folder=tmp_path, quantization=NO_REPAIR, said=said)
        assert any(one.startswith("looked for why ops hurt") for one in said) is looks
        assert any(one.startswith("  ") and "error" in one for one in said)
