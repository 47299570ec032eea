"""Channels that are divided for one layer are divided by the kernel before it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from layer_scenes import calibrated, converted, error, recipe_of, shown
from program_scenes import assert_same, captured, ops
from torch import nn

from lpot_lightning.quantization.corrections import EQUALIZATION
from lpot_lightning.quantization.kernels.layers import Int8Conv, Int8Linear
from lpot_lightning.quantization.kernels.moving import Divide, MaxPool, Quantize, QuantizeDivided

WHOLE = [Quantize, Int8Conv, Int8Conv]


class Block(nn.Module):
    """Two convolutions whose channels between them differ by four orders."""

    def __init__(self, between: Any, *, norm: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Conv2d(1, 16, 3), nn.Conv2d(16, 4, 1)
        self.norm, self.between = nn.BatchNorm2d(16) if norm else nn.Identity(), between
        scale = 10 ** torch.linspace(-2, 2, 16)
        with torch.no_grad():
            self.second.weight /= scale[None, :, None, None]
            if norm:
                self.norm.running_var.uniform_(0.5, 2)
                self.norm.weight.copy_(scale * torch.linspace(-1, 1, 16).sign())
                self.norm.bias.copy_(scale * torch.randn(16))
            else:
                self.first.weight *= scale.view(-1, 1, 1, 1)
                self.first.bias *= scale

    def forward(self, x):
        return self.second(self.between(self.norm(self.first(x))))


FOLDED = {
    "nothing": (nn.Identity(), WHOLE),
    "relu": (nn.ReLU(), WHOLE),
    "relu in place": (nn.ReLU(inplace=True), WHOLE),
    "leaky relu": (nn.LeakyReLU(0.2), WHOLE),
    "method": (lambda x: x.relu(), WHOLE),
    "pool": (
        nn.Sequential(nn.ReLU(), nn.MaxPool2d((2, 2), (2, 2), (0, 0), (1, 1))),
        [Quantize, Int8Conv, MaxPool, Int8Conv],
    ),
}


def equalized(model: nn.Module, x: torch.Tensor) -> nn.Module:
    prepared = calibrated(model, x)
    int8 = converted(model, prepared, recipe_of(prepared, EQUALIZATION))
    assert error(int8, model, x) < 0.1
    return int8


@pytest.mark.parametrize("norm", [False, True])
@pytest.mark.parametrize("name", FOLDED)
def test_the_kernel_before_gives_the_divided_integers(name, norm):
    between, wanted = FOLDED[name]
    x = shown(4, 1, 9, 9)
    layers = equalized(Block(between, norm=norm).eval(), x)
    fused, graphs = captured(layers)
    for batch in (x, shown(2, 1, 9, 9, seed=1)):
        assert_same(fused, layers, batch)
    assert ops(graphs[0]) == wanted


@pytest.mark.parametrize(
    "between", [nn.ReLU6(), nn.SiLU(), nn.GELU(), nn.Hardtanh(-50, 50), nn.AvgPool2d(2)], ids=str
)
def test_what_gives_something_else_for_divided_channels_is_not_gone_through(between):
    x = shown(4, 1, 9, 9)
    layers = equalized(Block(between).eval(), x)
    fused, graphs = captured(layers)
    assert_same(fused, layers, x)
    assert {Divide, QuantizeDivided} & {*ops(graphs[0])}


def test_what_others_read_is_divided_for_one_alone():
    class Read(Block):
        def forward(self, x):
            y = F.relu(self.first(x))
            return torch.cat([self.second(y), y], 1)

    x = shown(4, 1, 9, 9)
    layers = equalized(Read(None).eval(), x)
    fused, graphs = captured(layers)
    assert_same(fused, layers, x)
    assert {Divide, QuantizeDivided} & {*ops(graphs[0])}


def test_tokens_are_divided_by_the_linear_layer_before():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(1, 16), nn.ReLU(), nn.Linear(16, 4)).eval()
    scale = 10 ** torch.linspace(-2, 2, 16)
    with torch.no_grad():
        model[0].weight *= scale[:, None]
        model[2].weight /= scale
    x = shown(4, 9, 1)
    layers = equalized(model, x)
    fused, graphs = captured(layers)
    assert_same(fused, layers, x)
    assert ops(graphs[0]) == [Quantize, Int8Linear, Int8Linear]


def test_factors_that_are_changed_are_folded_anew():
    x = shown(4, 1, 9, 9)
    layers = equalized(Block(nn.ReLU()).eval(), x)
    fused, _ = captured(layers)
    assert_same(fused, layers, x)
    with torch.no_grad():
        for model in (fused, layers):
            model.second.lpot_int8.factors.mul_(2)
    assert_same(fused, layers, x)
