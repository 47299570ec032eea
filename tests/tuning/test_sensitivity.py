"""What is known of an op before any trial, and its way to a file and back."""

import json
import math

import pytest

from lpot_lightning.tuning.sensitivity import Sensitivity


def test_what_is_dear_in_fp32_scores_lower():
    assert Sensitivity("a", 0.2, cost=4.0).score < Sensitivity("b", 0.2, cost=1.0).score


@pytest.mark.parametrize("damage", [1 / 3, math.inf, math.nan])
def test_it_survives_json_that_knows_no_nan(damage):
    one = Sensitivity("a", damage, cost=0.5)
    again = Sensitivity.from_dict(json.loads(json.dumps(one.to_dict(), allow_nan=False)))
    assert (again.op, again.cost, again.is_finite) == ("a", 0.5, one.is_finite)
    assert again == one or not one.is_finite
