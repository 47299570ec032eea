"""What was repaired is told with its cause."""

from __future__ import annotations

import dataclasses

from made_up import INT8

from lpot_lightning.quantization.capability import DYNAMIC
from lpot_lightning.recipe import FP32, OpConfig, Recipe
from lpot_lightning.runs.causes.all_causes import with_repairs, with_what_was_done
from lpot_lightning.tuning.causes import Cause, CauseKind, recipe_yaml, setting_yaml
from lpot_lightning.tuning.repair import EQUALIZATION, Repair
from lpot_lightning.tuning.score import Score
from lpot_lightning.tuning.trial import Trial

FAR = Cause(kind=CauseKind.OUTLIERS, found="far out", remedy="kl")


def test_repairs_are_told_in_their_order_of_the_op_that_they_are_of() -> None:
    repairs = [Repair("a", "asym kl", 0.21, 0.03), Repair("a", "weight_correction", 0.03, 0.02)]
    found = with_repairs({"a": FAR, "b": FAR}, repairs)
    assert (
        found["a"].repaired == "asym kl, error of the output 0.21 -> 0.03;"
        " weight_correction, error of the output 0.03 -> 0.02"
    )
    assert found["b"] == FAR


def advised(config: OpConfig) -> Cause:
    return dataclasses.replace(FAR, remedy=f"do: `{setting_yaml('a', config)}` (its error 1 -> 0)")


def after(cause: Cause, *configs: OpConfig) -> Cause:
    """Return what is told of ``a``, which each trial had otherwise; the last one is taken."""
    recipes = [Recipe.of({"a": one}) for one in configs]
    trials = [Trial(n, one, Score.of(0.9, seconds=1.0)) for n, one in enumerate(recipes, 1)]
    return with_what_was_done({"a": cause}, trials, recipes[-1])["a"]


def test_a_remedy_that_the_model_has_already_is_not_advised() -> None:
    found = after(advised(DYNAMIC), INT8, DYNAMIC)
    assert (found.found, found.remedy) == ("far out; it is dynamic int8 now", "")
    assert after(advised(FP32), INT8, FP32).found == "far out; it is in fp32 now"


def test_a_remedy_that_was_tried_and_rejected_is_not_advised() -> None:
    found = after(advised(DYNAMIC), INT8, DYNAMIC, FP32)
    tried = "far out; trial 2 had it as dynamic int8, which was not taken"
    assert (found.found, found.remedy) == (f"{tried}; it is in fp32 now", "")
    assert after(advised(DYNAMIC), INT8, DYNAMIC, INT8).found == tried


def test_a_remedy_that_the_run_has_not_tried_is_advised() -> None:
    assert after(advised(DYNAMIC), INT8, FP32) == advised(DYNAMIC)
    assert after(advised(FP32), INT8, INT8) == advised(FP32)


def test_a_correction_that_was_tried_is_not_advised() -> None:
    asked = dataclasses.replace(FAR, remedy=f"even out: `{recipe_yaml(EQUALIZATION)}` (…)")
    even = dataclasses.replace(INT8, corrections=(EQUALIZATION,))
    repaired = dataclasses.replace(asked, repaired=f"{EQUALIZATION}, error 1 -> 0")
    assert after(repaired, INT8, even) == dataclasses.replace(repaired, remedy="")
    assert after(asked, even, even).found == "far out; what helps is in this model"
    assert after(asked, INT8, even, INT8).found.endswith("had it repaired, which was not taken")
