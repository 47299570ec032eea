"""Weights and biases that are changed so that rounding does less."""

from __future__ import annotations

import pytest
import torch
from grid_scenes import STEP
from layer_scenes import calibrated, converted, error_with, recipe_of, shown
from torch import nn

from lpot_lightning.quantization.corrections import BIAS, EQUALIZATION, WEIGHT, same_spread
from lpot_lightning.quantization.kernels.arithmetic import Int8Weight
from lpot_lightning.recipe import CORRECTIONS


def outliers(layer: nn.Module) -> nn.Module:
    """Return a layer of whose weights most are below a step of the greatest."""
    torch.manual_seed(0)
    with torch.no_grad():
        layer.weight.uniform_(0, 0.7 / 127)
        layer.weight.flatten(1)[:, 0] = 1.0
    return nn.Sequential(layer).eval()


SCENES = {
    "Linear": (lambda: outliers(nn.Linear(256, 6)), (32, 256)),
    "no bias": (lambda: outliers(nn.Linear(256, 6, bias=False)), (32, 256)),
    "groups": (lambda: outliers(nn.Conv2d(32, 6, 3, groups=2)), (4, 32, 6, 6)),
}

LEFT = 1e-3 * STEP
"""Of the offset of the means, from the rounding of the inputs, which no correction knows."""


def offset(int8: nn.Module, model: nn.Module, x: torch.Tensor) -> float:
    """Return how far the means of the outputs are apart, relative to their size."""
    with torch.no_grad():
        found, wanted = int8(x).mean(0), model(x).mean(0)
    return float((found - wanted).norm() / wanted.norm())


@pytest.mark.parametrize("correction", [WEIGHT, BIAS])
@pytest.mark.parametrize("name", SCENES)
def test_it_lowers_the_error_of_a_layer_that_reads_what_is_positive(name, correction):
    made, shape = SCENES[name]
    model, x = made(), shown(*shape).abs()
    prepared = calibrated(model, x)
    plain, corrected = (error_with(model, prepared, x, *each) for each in ((), (correction,)))
    assert corrected < 0.7 * plain


def test_all_of_them_go_together():
    scale = 10 ** torch.linspace(-2, 2, 256)
    model, x = outliers(nn.Linear(256, 6)), shown(32, 256).abs() * scale
    with torch.no_grad():
        model[0].weight /= scale
    prepared = calibrated(model, x)
    assert prepared.ops[0].corrections == CORRECTIONS == (EQUALIZATION, WEIGHT, BIAS)
    int8 = converted(model, prepared, recipe_of(prepared, *CORRECTIONS))
    assert offset(int8, model, x) < LEFT


def test_the_bias_is_corrected_for_the_weights_as_they_are_then():
    model, x = outliers(nn.Linear(256, 6)), shown(64, 256).abs()
    prepared = calibrated(model, x)
    for corrections in ((BIAS,), (WEIGHT, BIAS)):
        int8 = converted(model, prepared, recipe_of(prepared, *corrections))
        assert offset(int8, model, x) < LEFT


def test_weights_keep_their_mean_when_they_are_rounded():
    weight = outliers(nn.Linear(512, 4))[0].weight.detach().double()
    held = Int8Weight.of(weight).dequantize()
    again = Int8Weight.of(same_spread(weight, held)).dequantize()
    off, corrected = ((one.mean(1) - weight.mean(1)).abs().sum() for one in (held, again))
    assert corrected < 0.7 * off


def test_weights_that_were_pruned_stay_zero():
    weight = shown(4, 64).double()
    weight[:, 16:] = 0
    found = same_spread(weight, Int8Weight.of(weight).dequantize())
    assert not found[:, 16:].any()
    assert bool(found[:, :16].all())


def test_a_channel_of_equal_weights_is_left_alone():
    weight = torch.tensor([[0.0] * 4, [0.25] * 4]).double()
    torch.testing.assert_close(same_spread(weight, weight), weight)


def test_an_embedding_has_no_corrections():
    model = nn.Sequential(nn.Embedding(9, 4), nn.Linear(4, 2)).eval()
    prepared = calibrated(model, torch.arange(9))
    assert [bool(op.corrections) for op in prepared.ops] == [False, True]
