"""What each kind of op can be."""

from __future__ import annotations

import pytest

from lpot_lightning.quantization.capability import RECURRENT, TABLES, configs_of
from lpot_lightning.recipe import Rung

ALL = list(Rung)


@pytest.mark.parametrize("kind", ["Linear", "Conv1D"])
def test_a_linear_layer_can_be_on_all_rungs(kind):
    assert list(dict.fromkeys(one.rung for one in configs_of(kind))) == ALL


@pytest.mark.parametrize("kind", ["Conv1d", "Conv2d", "Conv3d"])
def test_a_convolution_is_not_dynamic(kind):
    rungs = list(dict.fromkeys(one.rung for one in configs_of(kind)))
    assert rungs == [one for one in ALL if one is not Rung.DYNAMIC]


@pytest.mark.parametrize("kind", RECURRENT)
def test_a_recurrent_layer_is_not_static(kind):
    rungs = list(dict.fromkeys(one.rung for one in configs_of(kind)))
    assert rungs == [Rung.DYNAMIC, Rung.WEIGHT_ONLY, Rung.FP32]


@pytest.mark.parametrize("kind", TABLES)
def test_a_table_is_kept_by_rows_or_groups(kind):
    *held, last = configs_of(kind)
    assert last.is_fp32
    assert all(one.is_table for one in held)
    sizes = [one.weight.group_size for one in held if one.weight is not None]
    assert sizes == [None, 32, 64, 128]


def test_lpots_choices_come_first():
    first = [one.activation for one in configs_of("Linear")[:4]]
    assert [(one.scheme, one.algorithm) for one in first] == [
        ("asym", "kl"),
        ("asym", "minmax"),
        ("sym", "kl"),
        ("sym", "minmax"),
    ]
