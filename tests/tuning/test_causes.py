"""Which cause is told, and the YAML of its remedies."""

from __future__ import annotations

import math
from typing import Any

import pytest
import yaml

from lpot_lightning.conf.reader import read_conf
from lpot_lightning.quantization.capability import ACTIVATIONS, BF16, DYNAMIC, WEIGHT, WEIGHT_ONLY
from lpot_lightning.recipe import CORRECTIONS, FP32, Op, OpConfig
from lpot_lightning.tuning.causes import Cause, CauseKind, cause_of, recipe_yaml, setting_yaml
from lpot_lightning.tuning.space import build_space

UNEQUAL, OUTLIERS = CauseKind.UNEQUAL_CHANNELS, CauseKind.OUTLIERS
TAIL, NONE = CauseKind.NEGATIVE_TAIL, CauseKind.NONE_OF_THESE
STATIC = tuple(OpConfig(one, WEIGHT) for one in ACTIVATIONS)
ALL = (*STATIC, DYNAMIC, *WEIGHT_ONLY, BF16, FP32)
MODEL = {"model": {"name": "made up", "framework": "pytorch"}}


@pytest.mark.parametrize(
    ("without", "told"),
    [
        ({UNEQUAL: None, OUTLIERS: 0.1, TAIL: 0.6}, OUTLIERS),
        ({UNEQUAL: 0.5, OUTLIERS: 0.01, TAIL: None}, OUTLIERS),
        ({UNEQUAL: 0.015, OUTLIERS: 0.01, TAIL: 0.01}, UNEQUAL),  # as good as the best, and first
        ({UNEQUAL: 0.7, OUTLIERS: 0.9, TAIL: None}, NONE),  # less than a third goes
        ({UNEQUAL: math.nan, OUTLIERS: None, TAIL: 0.2}, TAIL),
        ({UNEQUAL: None, OUTLIERS: None, TAIL: None}, NONE),
    ],
)
def test_the_cause_is_what_the_error_goes_with(without: Any, told: CauseKind) -> None:
    assert cause_of(1.0, without) is told


@pytest.mark.parametrize("error", [0.0, math.nan])
def test_an_error_that_is_none_has_no_cause(error: float) -> None:
    assert cause_of(error, {OUTLIERS: 0.0}) is NONE


@pytest.mark.parametrize("name", ["a\nb\\c(\"d'", "net.0", "net.stem#conv2d_0", "net.one's own"])
@pytest.mark.parametrize("config", ALL, ids=str)
def test_the_yaml_of_a_setting_asks_for_it(config: OpConfig, name: str) -> None:
    asked = yaml.safe_load(setting_yaml(name, config))
    wishes = read_conf({**MODEL, **asked}).quantization.op_wise
    ops = [Op(name=one, kind="Linear", configs=ALL) for one in (name, "other")]
    space = build_space(ops, None, wishes)
    assert space.ops[0].configs[0] == config
    assert space.ops[1].configs[0] == STATIC[0]


@pytest.mark.parametrize("correction", CORRECTIONS)
def test_the_yaml_of_a_correction_asks_for_it(correction: str) -> None:
    asked = read_conf({**MODEL, **yaml.safe_load(recipe_yaml(correction))})
    assert getattr(asked.quantization.recipes, correction) is True


def test_a_cause_goes_through_plain_values() -> None:
    cause = Cause(kind=OUTLIERS, found="far out", remedy="kl", repaired="kl, error 1 -> 0.1")
    assert Cause.from_dict(cause.to_dict()) == cause
    assert (cause.in_short, cause.told) == ("outliers, repaired", "outliers: far out")
    nothing = Cause(kind=NONE, found="8 bits are too few", remedy="fp32")
    assert (nothing.in_short, nothing.told) == ("", "8 bits are too few")
    with pytest.raises(ValueError, match="bad luck"):
        Cause.from_dict({**cause.to_dict(), "kind": "bad luck"})
