"""What was repaired is told with its cause."""

from __future__ import annotations

import dataclasses

from lpot_lightning.quantization.capability import DYNAMIC
from lpot_lightning.recipe import FP32, Recipe
from lpot_lightning.runs.causes.all_causes import with_repairs, with_what_is_so
from lpot_lightning.tuning.causes import Cause, CauseKind, setting_yaml
from lpot_lightning.tuning.repair import Repair

FAR = Cause(kind=CauseKind.OUTLIERS, found="far out", remedy="kl")


def test_repairs_are_told_in_their_order_of_the_op_that_they_are_of() -> None:
    repairs = [Repair("a", "asym kl", 0.21, 0.03), Repair("a", "weight_correction", 0.03, 0.02)]
    found = with_repairs({"a": FAR, "b": FAR}, repairs)
    assert (
        found["a"].repaired == "asym kl, error 0.21 -> 0.03; weight_correction, error 0.03 -> 0.02"
    )
    assert found["b"] == FAR


def test_a_remedy_that_the_model_has_already_is_not_told_as_news() -> None:
    asked = {op: f"let rows have ranges: `{setting_yaml(op, DYNAMIC)}`" for op in ("a", "b")}
    hurt = {op: dataclasses.replace(FAR, remedy=one) for op, one in asked.items()}
    found = with_what_is_so(hurt, Recipe.of({"a": DYNAMIC, "b": FP32}))
    assert found["a"].remedy == f"{asked['a']}; so it is in this model"
    assert found["b"].remedy == asked["b"]
