"""Layers below static int8."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from lpot_lightning.quantization.capability import BF16, DYNAMIC, WEIGHT_ONLY
from lpot_lightning.quantization.kernels.bounds import PAIRED
from lpot_lightning.quantization.kernels.rows import Rows
from lpot_lightning.quantization.rungs import DynamicLayer, WeightOnlyLayer, on_rung

LAYERS = {
    "linear": (nn.Linear(12, 4), (3, 12)),
    "tokens": (nn.Linear(12, 4, bias=False), (2, 3, 12)),
    "conv1d": (nn.Conv1d(6, 4, 3, padding=1), (2, 6, 9)),
    "reflected": (nn.Conv2d(6, 4, 3, padding=1, padding_mode="reflect"), (2, 6, 5, 5)),
    "same": (nn.Conv1d(6, 4, 3, padding="same", dilation=2), (2, 6, 9)),
    "groups": (nn.Conv2d(6, 4, (3, 1), padding=(1, 0), stride=(1, 2), groups=2), (2, 6, 5, 6)),
    "3d": (nn.Conv3d(6, 4, 2), (2, 6, 3, 4, 5)),
    "one sample": (nn.Conv2d(6, 4, 3), (6, 5, 5)),
}


def shown(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def error(found, expected):
    return float(((found - expected).norm() / expected.norm()).detach())


@pytest.mark.parametrize("config", WEIGHT_ONLY[:2], ids=["rows", "groups"])
@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_computes_with_the_weight_that_it_keeps(name, config):
    layer, shape = copy.deepcopy(LAYERS[name])
    made = on_rung(layer, config, bounds=PAIRED)
    x = shown(*shape)
    found = made(x)
    assert isinstance(made, WeightOnlyLayer)
    assert 0 < error(found, layer(x)) < 0.01
    with torch.no_grad():
        layer.weight.copy_(made.kernel.floats)
    torch.testing.assert_close(found, layer(x), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["linear", "tokens"])
def test_a_dynamic_layer_computes_with_rows_as_they_come(name):
    layer, shape = LAYERS[name]
    made, x = on_rung(layer, DYNAMIC, bounds=PAIRED), shown(*shape)
    assert isinstance(made, DynamicLayer)
    assert error(made(x), layer(x)) < 0.02
    assert error(made(x * 1000), layer(x * 1000)) < 0.02  # no range was found before
    assert torch.equal(made(x), made.kernel.product(Rows.of(x, PAIRED.high)))


def test_integers_of_rows_have_no_gradient():
    made, x = on_rung(nn.Linear(8, 4), DYNAMIC, bounds=PAIRED), shown(2, 8).requires_grad_()
    assert not made(x).requires_grad  # scales alone would give a wrong one


@pytest.mark.parametrize("config", [DYNAMIC, WEIGHT_ONLY[0]], ids=["dynamic", "weight only"])
def test_the_output_is_of_the_type_of_the_input(config):
    made = on_rung(nn.Linear(8, 4), config, bounds=PAIRED)
    assert made(shown(2, 8).bfloat16()).dtype == torch.bfloat16


@pytest.mark.parametrize("config", [DYNAMIC, *WEIGHT_ONLY[:2]])
def test_one_that_is_to_be_filled_takes_the_tensors_of_another(config):
    layer, x = nn.Linear(40, 4), shown(3, 40)
    made = on_rung(layer, config, bounds=PAIRED)
    other = on_rung(layer, config, bounds=PAIRED, empty=True)
    other.load_state_dict(made.state_dict())
    assert torch.equal(other(x), made(x))


def test_a_weight_of_two_sizes_is_held_better_in_groups():
    layer = nn.Linear(64, 4)
    with torch.no_grad():
        layer.weight[:, 32:] *= 1e-3
    x = shown(5, 64)
    x[:, :32] *= 1e-3
    rows, groups = (
        error(on_rung(layer, one, bounds=PAIRED)(x), layer(x)) for one in WEIGHT_ONLY[:2]
    )
    assert groups < rows / 10


@pytest.mark.parametrize("config", [*WEIGHT_ONLY[:2], BF16], ids=["rows", "groups", "bf16"])
def test_a_model_of_half_precision_keeps_small_weights(config):
    layer, x = nn.Linear(40, 4, bias=False), shown(3, 40)
    with torch.no_grad():
        layer.weight *= 1e-5  # in float16 scales of it would be 0
    made = on_rung(layer, config, bounds=PAIRED)
    assert torch.equal(copy.deepcopy(made).half().float()(x), made(x))
