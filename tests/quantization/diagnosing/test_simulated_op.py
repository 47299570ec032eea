"""An op that rounds in ways that no kernel has."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from layer_scenes import calibrated, shown
from torch import nn

from lpot_lightning.quantization.diagnosing.simulated_op import SimulatedOp, row_error
from lpot_lightning.quantization.kernels.bounds import WHOLE
from lpot_lightning.quantization.kernels.grid import Grid
from lpot_lightning.quantization.observed_layer import ObservedLayer

SHAPES = {
    "Linear": (lambda: nn.Linear(8, 4), (32, 8)),
    "tokens": (lambda: nn.Linear(8, 4, bias=False), (4, 9, 8)),
    "Conv1d": (lambda: nn.Conv1d(8, 4, 3, padding=1), (4, 8, 9)),
    "around": (lambda: nn.Conv2d(8, 4, 3, padding=1, padding_mode="circular"), (4, 8, 6, 6)),
    "groups": (lambda: nn.Conv2d(8, 4, 3, groups=2), (4, 8, 6, 6)),
    "depthwise": (lambda: nn.Conv2d(8, 8, 3, groups=8), (4, 8, 6, 6)),
    "one sample": (lambda: nn.Conv2d(8, 4, 3), (8, 6, 6)),
    "Conv3d": (lambda: nn.Conv3d(8, 4, 2), (2, 8, 3, 4, 5)),
}


def simulated(layer: nn.Module, x: torch.Tensor, low: float, high: float) -> SimulatedOp:
    seen = ObservedLayer(layer)
    seen.count(x)
    return SimulatedOp(seen, x, Grid.over(low, high), None, WHOLE.pair)


@pytest.mark.parametrize("name", SHAPES)
def test_what_is_simulated_is_what_kernels_give(name: str) -> None:
    make, shape = SHAPES[name]
    prepared = calibrated(nn.Sequential(make()).eval(), shown(*shape))
    config = prepared.ops[0].configs[0]
    found = prepared.diagnoser.diagnosis("0", config)
    assert found.error == pytest.approx(prepared.diagnoser.error("0", config), rel=0.05)


def test_each_thing_that_is_left_out_takes_its_own_error_away() -> None:
    torch.manual_seed(0)
    sizes, layer = 10 ** torch.linspace(-2, 2, 8), nn.Linear(8, 4)
    layer.weight.data /= sizes
    uneven = shown(64, 8) * sizes
    one = simulated(layer, uneven, float(uneven.min()), float(uneven.max()))
    assert one.without_spread() < 0.2 * one.error()
    far = shown(2000, 8).clamp(-3, 3)
    far[5, 3] = 500.0
    one = simulated(nn.Linear(8, 4), far, -3.0, 500.0)
    assert one.without_outliers() < 0.01 * one.error()
    assert one.inner_range() == pytest.approx((-3, 3), abs=0.6)
    tailed = torch.where(torch.arange(64)[:, None] % 16 == 0, 30.0, -shown(64, 8).abs() / 10)
    one = simulated(nn.Linear(8, 4), tailed, float(tailed.min()), 30.0)
    assert one.without_tail() < 0.2 * one.error()
    assert one.of_weights() < one.error()


def test_an_equalized_input_is_simulated_as_it_is_rounded() -> None:
    torch.manual_seed(0)
    layer, sizes = nn.Linear(8, 4), 10 ** torch.linspace(-2, 2, 8)
    with torch.no_grad():
        layer.weight /= sizes
    x = shown(64, 8) * sizes
    prepared = calibrated(nn.Sequential(layer).eval(), x)
    op = prepared.ops[0]
    plain = prepared.diagnoser.diagnosis("0", op.configs[0])
    evened = replace(op.configs[0], corrections=("cross_layer_equalization",))
    found = prepared.diagnoser.diagnosis("0", evened)
    assert found.error < 0.05 * plain.error
    assert found.spread < 8 < plain.spread


def test_a_few_great_rows_do_not_hide_what_the_others_lose() -> None:
    exact = torch.cat([torch.ones(9, 4), torch.full((1, 4), 1e4)])
    noisy = torch.cat([torch.zeros(9, 4), torch.full((1, 4), 1e4)])
    assert row_error(noisy, exact, 1) == pytest.approx(0.9)
    assert row_error(noisy.T, exact.T, 0) == pytest.approx(0.9)


def test_rows_of_zeros_are_compared_with_what_is_usual() -> None:
    assert row_error(torch.zeros(3, 4), torch.zeros(3, 4), 1) == 0.0
    exact = torch.cat([torch.zeros(1, 4), torch.ones(3, 4)])
    assert row_error(exact + 1e-4, exact, 1) < 1e-3
