"""What ops cost alone, and what it costs to know."""

from dataclasses import replace

import pytest
from int8_scenes import all_int8, calibrated, int8_ops, only
from zoo import calibrated_made, made

from lpot_lightning.quantization.fx.correction import WEIGHT


def test_the_error_of_one_op_is_its_rank():
    *_, found = calibrated_made("functions")
    recipe = all_int8(found)
    assert dict(found.rank(recipe)) == {op: found.error(recipe, [op]) for op in recipe.int8_ops}


def test_ops_that_the_recipe_leaves_in_fp32_hurt_nobody():
    *_, found = calibrated_made("residual")
    recipe = only(found, "c1")
    assert found.error(recipe, ["c2"]) == 0.0
    assert found.error(recipe, int8_ops(found)) == found.error(recipe, ["c1"]) > 0


def test_settings_and_corrections_of_the_recipe_count():
    model, batches = made("conv2d")
    found = calibrated(model, *batches)
    recipe = all_int8(found)
    plain = found.error(recipe, ["2"])
    for other in (found.ops[1].configs[3], replace(found.ops[1].configs[0], corrections=(WEIGHT,))):
        assert found.error(recipe.with_configs({"2": other}), ["2"]) != plain


def test_forwards_are_counted_in_shares():
    model, batches = made("conv2d")  # two convs, the first one fused with its relu
    found = calibrated(model, *batches)
    recipe = all_int8(found)
    assert found.forwards == 0
    found.error(recipe, ["2"])
    assert found.forwards == pytest.approx(1 + 1 / 2)
    found.error(recipe, ["0"])
    assert found.forwards == pytest.approx(1 + 1 / 2 + 1)


def test_a_trial_lets_go_of_what_was_kept_and_the_count_goes_on():
    model, batches = made("conv2d")
    found = calibrated(model, *batches)
    recipe = all_int8(found)
    found.rank(recipe)
    assert found._damage._runs
    before = found.forwards
    found.convert(recipe)
    assert not found._damage._runs
    assert found.forwards == before
