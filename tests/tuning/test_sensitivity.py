"""What is known of an op before any trial, and its way to a file and back."""

import json
import math

import pytest

from lpot_lightning.tuning.sensitivity import Sensitivity


def test_the_score_is_damage_by_cost():
    assert Sensitivity("a", damage=3.0, cost=1.5).score == 2.0


def test_what_is_dear_in_fp32_scores_lower():
    assert Sensitivity("a", 0.2, cost=4.0).score < Sensitivity("b", 0.2, cost=1.0).score


@pytest.mark.parametrize("damage", [math.nan, math.inf])
def test_a_damage_that_is_no_number_is_told(damage):
    assert not Sensitivity("a", damage).is_finite
    assert Sensitivity("a", 0.0).is_finite


@pytest.mark.parametrize("cost", [0.0, -1.0, math.nan, math.inf])
def test_a_cost_is_a_finite_number_above_0(cost):
    with pytest.raises(ValueError, match="the cost of `a` is .*; allowed: a finite number above 0"):
        Sensitivity("a", 1.0, cost)


@pytest.mark.parametrize("damage", [1 / 3, math.inf, math.nan])
def test_it_survives_json_that_knows_no_nan(damage):
    one = Sensitivity("a", damage, cost=0.5)
    again = Sensitivity.from_dict(json.loads(json.dumps(one.to_dict(), allow_nan=False)))
    assert (again.op, again.cost, again.is_finite) == ("a", 0.5, one.is_finite)
    assert again == one or not one.is_finite
