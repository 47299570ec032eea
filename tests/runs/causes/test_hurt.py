"""Which ops are looked at, and which remedy is told: by made-up errors."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest

from lpot_lightning.machine.ranks import Ranks
from lpot_lightning.quantization.capability import ACTIVATIONS, DYNAMIC, WEIGHT, WEIGHT_ONLY
from lpot_lightning.quantization.diagnosing.diagnosis import Diagnosis
from lpot_lightning.recipe import FP32, Op, OpConfig, Recipe
from lpot_lightning.runs.causes.hurt import HARMLESS, MOST, find_causes, hurt_ops
from lpot_lightning.tuning.causes import Cause, CauseKind
from lpot_lightning.tuning.history import History
from lpot_lightning.tuning.sensitivity import Sensitivity

KL, MINMAX = (OpConfig(one, WEIGHT) for one in ACTIVATIONS[:2])
EVENED = OpConfig(ACTIVATIONS[0], WEIGHT, ("cross_layer_equalization",))
CONFIGS = (KL, MINMAX, DYNAMIC, *WEIGHT_ONLY, FP32)
FOUND = Diagnosis(
    error=1.0, of_weights=0.1, without_spread=None, without_outliers=None, without_tail=None,
    channels=64, dead=0, spread=93.0, weight_spread=1.0, reach=41.0, negatives=0.61,
    levels=(9, 256), least=-0.28,
)  # fmt: skip


class MadeUp:
    """Stands for a prepared model with one op, whose error is that of its config."""

    def __init__(self, errors: dict[OpConfig, float], simulated: bool = True, **left: Any) -> None:
        self.errors, self.simulated, self.asked = errors, simulated, 0
        self.found = Diagnosis(**{**vars(FOUND), **left})
        self.diagnoser = self
        self.ops = (Op(name="a", kind="Linear", configs=CONFIGS, corrections=EVENED.corrections),)

    def can_tell(self, op: str, config: OpConfig) -> bool:
        return self.simulated

    def diagnosis(self, op: str, config: OpConfig) -> Diagnosis:
        return self.found

    def error(self, op: Any, config: Any) -> float:
        self.asked += 1
        config = op.as_mapping()["a"] if isinstance(op, Recipe) else config
        return self.errors.get(config, 0.9)


def cause_of(made: MadeUp, damage: float = 1.0, config: OpConfig = KL) -> Cause:
    job: Any = SimpleNamespace(prepared=made, ranks=Ranks())
    found = find_causes(job, History(), Recipe.of({"a": config}), [Sensitivity("a", damage)])
    return found["a"]


def test_the_worst_ops_are_looked_at_and_not_those_that_do_little() -> None:
    ranked = [Sensitivity(f"op{n}", 1.0) for n in range(MOST + 3)]
    assert len(hurt_ops(ranked)) == MOST
    little = Sensitivity("little", 0.9 * HARMLESS)
    assert hurt_ops([Sensitivity("much", 1.0), little]) == ("much",)
    assert hurt_ops([]) == ()


def test_an_op_that_gives_no_numbers_comes_first_and_others_only_if_they_hurt() -> None:
    ranked = [Sensitivity("a", 1e-5), Sensitivity("b", 0.1), Sensitivity("c", math.nan)]
    assert hurt_ops(ranked) == ("c", "b")


def test_unequal_channels_are_evened_out() -> None:
    cause = cause_of(MadeUp({KL: 1.0, EVENED: 0.03}, without_spread=0.01))
    assert cause == Cause(
        kind=CauseKind.UNEQUAL_CHANNELS,
        found="the widest of 64 input channels is 93x as wide as the narrowest; with a scale for"
        " each its error goes from 1 to 0.01",
        remedy="even the channels out against the weights, as strategy `auto` does by itself unless"
        " it is forbidden: `quantization: {recipes: {cross_layer_equalization: true}}` (its error"
        " 1 -> 0.03)",
    )


def test_the_first_remedy_that_helps_clearly_is_told() -> None:
    made = MadeUp({KL: 1.0, MINMAX: 0.6, DYNAMIC: 0.3, WEIGHT_ONLY[0]: 0.01}, without_outliers=0.1)
    cause = cause_of(made)
    assert cause.kind is CauseKind.OUTLIERS
    assert "activation: {quant_mode: dynamic}" in cause.remedy
    assert cause.remedy.endswith("(its error 1 -> 0.3)")


def test_where_none_helps_clearly_it_is_the_best() -> None:
    made = MadeUp({KL: 1.0, MINMAX: 0.6, DYNAMIC: 0.5}, without_tail=0.1)
    cause = cause_of(made)
    assert cause.kind is CauseKind.NEGATIVE_TAIL
    assert cause.found.startswith("61% of the values of its input lie between -0.28 and 0, and get")
    assert cause.remedy.endswith("(its error 1 -> 0.5)")


def test_where_nothing_helps_it_is_fp32() -> None:
    cause = cause_of(MadeUp({KL: 1.0}))
    assert cause.kind is CauseKind.NONE_OF_THESE
    assert "weight: {dtype: fp32}" in cause.remedy
    assert cause.remedy.endswith("(its error 1 -> 0)")


@pytest.mark.parametrize(
    ("of_weights", "told"),
    [(0.9, "its weight makes most"), (0.1, "its input makes most"), (0.5, "its weight makes 50%")],
)
def test_where_it_is_none_of_these_it_is_told_what_is_known(of_weights: float, told: str) -> None:
    assert told in cause_of(MadeUp({KL: 1.0}, of_weights=of_weights)).found


def test_an_op_that_gives_no_numbers_is_told_to() -> None:
    cause = cause_of(MadeUp({KL: math.nan, MINMAX: math.nan, DYNAMIC: 0.1}), damage=math.nan)
    assert cause.found == "what it gives in int8 is not finite"
    assert "quant_mode: dynamic" in cause.remedy
    assert cause.remedy.endswith("(its error inf -> 0.1)")


@pytest.mark.parametrize(
    ("config", "told"), [(DYNAMIC, "its rows have ranges"), (WEIGHT_ONLY[0], "its input is not")]
)
def test_an_op_on_another_rung_is_judged_by_its_own_form(config: OpConfig, told: str) -> None:
    made = MadeUp({config: 1.0, WEIGHT_ONLY[1]: 0.1}, simulated=False)
    cause = cause_of(made, config=config)
    assert told in cause.found
    assert "group_size: 32" in cause.remedy
    assert cause.remedy.endswith("(the error of the output 1 -> 0.1)")


def test_an_op_that_stays_in_floats_has_no_cause() -> None:
    job: Any = SimpleNamespace(prepared=MadeUp({}), ranks=Ranks())
    assert find_causes(job, History(), Recipe.of({"a": FP32}), [Sensitivity("a", 1.0)]) == {}
