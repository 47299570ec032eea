"""What gives floats to be quantized quantizes them: the integers are the same."""

from __future__ import annotations

import copy

import pytest
import torch
from grid_scenes import HIGH, grid_over
from program_scenes import assert_same, captured, in_int8, ops
from torch import nn

from lpot_lightning.quantization.kernels.grid import Grid
from lpot_lightning.quantization.kernels.layers import Int8Linear
from lpot_lightning.quantization.kernels.moving import (
    Divide,
    Quantize,
    QuantizeProduct,
)


class Behind(nn.Module):
    """A linear layer behind what gives its floats."""

    def __init__(self, before, inputs: int = 6) -> None:
        super().__init__()
        self.before, self.layer = before, nn.Linear(inputs, 4)

    def forward(self, *given):
        return self.layer(self.before(*given))


class Gate(nn.Module):
    def forward(self, x, gate):
        return x * torch.sigmoid(gate)


def shown(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("gate", [(64, 6), (6,), (64, 1)])
def test_a_product_gives_integers(gate):
    layers = in_int8(Behind(Gate()))
    fused, graphs = captured(layers)
    assert_same(fused, layers, 3 * shown(64, 6), shown(*gate))
    assert ops(graphs[0]) == [torch.sigmoid, QuantizeProduct, Int8Linear]


def test_a_product_of_which_more_is_read_stays_floats():
    class Kept(Gate):
        def forward(self, x, gate):
            x *= gate  # the caller sees it
            return x

    layers = in_int8(Behind(Kept()))
    fused, _ = captured(layers)
    x, same = shown(64, 6), shown(64, 6)
    with torch.no_grad():
        wanted, found = layers(x, shown(6)), fused(same, shown(6))
    torch.testing.assert_close(found, wanted)
    assert torch.equal(same, x)


def test_a_product_of_integers_of_the_users_is_no_product_of_floats():
    class Masked(nn.Module):
        def forward(self, x, mask):
            return x * mask

    layers = in_int8(Behind(Masked()))
    fused, graphs = captured(layers)
    assert_same(fused, layers, shown(64, 6), torch.arange(6) % 2)
    assert Quantize in ops(graphs[0])


@pytest.mark.parametrize("before", [nn.Softplus(), nn.LayerNorm(6)])
def test_channels_are_divided_where_they_are_quantized(before):
    factors = torch.tensor([1.0, 2.0, 0.5, 4.0, 1.0, 0.25])
    layers = in_int8(Behind(before), factors={"layer": factors})
    fused, graphs = captured(layers)
    assert_same(fused, layers, shown(64, 6))
    assert Divide not in ops(graphs[0])


def test_products_are_those_of_quantize_but_for_ties():
    grid, x, other = grid_over(-2, 2), shown(512, 6), shown(6)
    beside = grid.quantize_product(x, other).int() - grid.quantize(x * other).int()
    assert int(beside.abs().max()) <= 1
    assert float((beside != 0).float().mean()) < 1e-3


def test_what_is_added_to_integers_of_the_same_grid():
    grid, y = grid_over(-2, 2), shown(512)
    integers = grid.quantize(shown(512).flip(0))
    wanted = grid.quantize(grid.dequantize(integers) + y)
    assert int((grid.quantize_sum(integers, y).int() - wanted.int()).abs().max()) <= 1
    assert integers.equal(grid.quantize(shown(512).flip(0)))


def test_values_beyond_the_grid_are_clipped():
    grid = grid_over(-2, 2)
    far = torch.tensor([1e6, -1e6])
    assert grid.quantize_product(far, torch.ones(2)).tolist() == [HIGH, 0]
    assert grid.quantize_sum(grid.quantize(torch.zeros(2)), far).tolist() == [HIGH, 0]


def test_what_all_share_is_never_written_to():
    grid = Grid(0.5, 3)
    for _ in range(2):
        assert grid.quantize(torch.tensor([1.0])).tolist() == [5]
    assert copy.deepcopy(grid) == grid
