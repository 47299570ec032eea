"""Recipes: frozen, checked at birth, to and from plain dict."""

import dataclasses
import json
from typing import Any

import pytest

from lpot_lightning.errors import ConfError
from lpot_lightning.recipe import (
    FP32,
    Op,
    OpConfig,
    Recipe,
    Rung,
    TensorConfig,
    config_of,
)

INT8 = OpConfig(
    TensorConfig(dtype="uint8", scheme="asym", granularity="per_tensor", algorithm="kl"),
    TensorConfig(dtype="int8", scheme="sym", granularity="per_channel", algorithm="minmax"),
)
ADD = OpConfig(
    TensorConfig(dtype="uint8", scheme="asym", granularity="per_tensor", algorithm="minmax")
)
RECIPE = Recipe.of({"net.conv": INT8, "net.fc": FP32, "net#add_0": ADD})


def test_a_recipe_survives_json():
    assert Recipe.from_dict(json.loads(json.dumps(RECIPE.to_dict()))) == RECIPE


def test_a_plain_dict_holds_only_what_is_given():
    assert RECIPE.to_dict()["net.fc"] == {"activation": {"dtype": "fp32"}}
    assert "weight" not in RECIPE.to_dict()["net#add_0"]


def test_ops_are_told_apart_by_what_they_are():
    assert RECIPE.fp32_ops == ("net.fc",)
    assert RECIPE.int8_ops == ("net.conv", "net#add_0")


def test_a_change_is_a_copy():
    changed = RECIPE.with_fp32(["net.conv"])
    assert changed.fp32_ops == ("net.conv", "net.fc")
    assert RECIPE.fp32_ops == ("net.fc",)
    with pytest.raises(dataclasses.FrozenInstanceError):
        RECIPE.ops = ()


def test_a_generator_of_names_is_read_once():
    assert RECIPE.with_fp32(name for name in ["net.conv", "net#add_0"]).int8_ops == ()


def test_the_key_is_equal_exactly_for_equal_choices():
    backward = Recipe(tuple(reversed(RECIPE.ops)))
    assert backward.key == RECIPE.key
    assert RECIPE.with_fp32(["net.conv"]).key != RECIPE.key
    assert Recipe.of({"net.conv": INT8}).key != Recipe.of({"net.conw": INT8}).key


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"dtype": "int4"}, "`dtype` is `int4`; allowed: `int8`, `uint8`, `bf16`, `fp32`"),
        ({"dtype": "int8", "scheme": "odd"}, "`scheme` is `odd`"),
        ({"dtype": "int8", "granularity": "per_group"}, "`granularity` is `per_group`"),
        ({"dtype": "int8", "algorithm": "mse"}, "`algorithm` is `mse`; allowed: `minmax`, `kl`"),
    ],
)
def test_a_tensor_is_checked_at_birth(given, message):
    with pytest.raises(ConfError, match=message):
        TensorConfig(**given)


@pytest.mark.parametrize(
    "plain",
    [
        {},
        {"weight": {"dtype": "int8"}},
        {"activation": {"dtype": "int8"}, "bias": {}},
        {"activation": {"scheme": "sym"}},
        {"activation": {"dtype": "int8", "bit": 7}},
    ],
)
def test_a_plain_dict_with_other_keys_is_refused(plain):
    with pytest.raises(ConfError, match="needs `"):
        OpConfig.from_dict(plain)


def test_an_op_tells_whether_it_may_fall_back():
    assert Op(name="a", kind="Linear", configs=(INT8, FP32)).may_fall_back
    assert not Op(name="a", kind="Linear", configs=(INT8,)).may_fall_back
    assert not Op(name="a", kind="Linear", configs=(FP32,)).may_fall_back
    assert Op(name="a", kind="Linear", configs=(INT8, FP32)).int8_configs == (INT8,)


def wide(dtype: str, **given: Any) -> TensorConfig:
    return TensorConfig(dtype=dtype, **given)


@pytest.mark.parametrize(
    ("config", "rung", "bits"),
    [
        (INT8, Rung.STATIC, 8),
        (OpConfig(wide("uint8", quant_mode="dynamic"), wide("int8")), Rung.DYNAMIC, 8),
        (OpConfig(wide("fp32"), wide("int8")), Rung.WEIGHT_ONLY, 8),
        (OpConfig(wide("uint8", scheme="placeholder"), wide("uint8")), Rung.WEIGHT_ONLY, 8),
        (OpConfig(wide("bf16"), wide("bf16")), Rung.BF16, 16),
        (FP32, Rung.FP32, 32),
        (OpConfig(wide("fp32"), wide("fp32")), Rung.FP32, 32),
    ],
)
def test_the_rung_of_a_config(config, rung, bits):
    assert (config.rung, config.rung.bits) == (rung, bits)
    assert config_of({**config.to_dict(), "kind": "Linear"}).rung is rung


def test_a_recipe_tells_who_is_where():
    kept = OpConfig(wide("fp32"), wide("int8"))
    table = OpConfig(wide("uint8", scheme="placeholder"), wide("uint8"))
    recipe = Recipe.of({"a": kept, "b": FP32, "c": OpConfig(wide("bf16")), "d": table})
    assert recipe.int8_ops == ("a", "d")
    assert recipe.reduced_ops == ("a", "c", "d")
    assert recipe.on(Rung.BF16) == ("c",)
    assert recipe.rungs["d"] is Rung.STATIC


@pytest.mark.parametrize("given", [{"granularity": "per_group"}, {"group_size": 32}])
def test_groups_have_a_size_and_a_size_is_of_groups(given):
    with pytest.raises(ConfError, match="both `per_group` and a size, or none"):
        wide("int8", **given)
