"""Pairs compute what ONNX's ops do, and what kernels of integers do."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from lpot_lightning.deploy.onnx.pairs import (
    Between,
    Cut,
    PairedConv,
    PairedLinear,
    QuantizePair,
    ToIntegers,
    ToRows,
)
from lpot_lightning.quantization.kernels.arithmetic import ConvGeometry, Int8Weight
from lpot_lightning.quantization.kernels.grid import Grid
from lpot_lightning.quantization.kernels.layers import Int8Conv, Int8Linear
from lpot_lightning.quantization.kernels.post_op import PostOp
from lpot_lightning.quantization.kernels.rows import Rows

WIDE, NARROW = Grid.over(-1.0, 2.0), Grid.over(-1.0, 2.0, high=127)


def values(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0)) * 2


def conv(out=None, post_op="none", x=WIDE, factor=1.0):
    torch.manual_seed(0)
    fp32 = nn.Conv2d(3, 4, 3, padding=1)
    weight = Int8Weight.of(fp32.weight * factor, fp32.bias)
    geometry = ConvGeometry((1, 1), (1, 1), (1, 1))
    return Int8Conv(weight, x, geometry, out, PostOp(post_op))


@pytest.mark.parametrize("grid", [WIDE, NARROW, Grid.symmetric(2.0)])
def test_a_pair_gives_the_integers_of_its_grid(grid):
    integers = ToIntegers(grid)(values(1000))
    assert integers.dtype is grid.dtype
    assert torch.equal(integers, grid.quantize(values(1000)))
    assert torch.equal(QuantizePair(grid)(values(1000)), grid.dequantize(integers))


@pytest.mark.parametrize("x", [WIDE, NARROW])
@pytest.mark.parametrize("whole_bias", [False, True])
def test_layers_compute_as_their_kernels_do(x, whole_bias):
    layer = conv(x=x)
    layer.exact = True
    integers = x.quantize(values(2, 3, 6, 6))
    found = PairedConv(layer, whole_bias=whole_bias)(integers)
    steps = x.scale * layer.scales.view(-1, 1, 1)  # a whole bias is one to half of them
    most = 0.51 * steps if whole_bias else torch.tensor(0.0)
    assert ((found - layer(integers)).abs() <= most + 1e-6).all()


def test_a_linear_layer_has_its_inputs_first():
    torch.manual_seed(0)
    fp32 = nn.Linear(8, 5)
    layer = Int8Linear(Int8Weight.of(fp32.weight, fp32.bias), WIDE)
    layer.exact = True
    paired = PairedLinear(layer)
    assert paired.weight.shape == (8, 5)
    integers = WIDE.quantize(values(2, 7, 8))
    torch.testing.assert_close(paired(integers), layer(integers))


@pytest.mark.parametrize(
    ("post_op", "out", "left"),
    [
        ("relu", Grid.over(0.0, 2.0), "none"),
        ("relu", WIDE, "relu"),
        ("hardswish", Grid.over(-0.4, 2.0), "hardswish"),
    ],
)
def test_what_cuts_off_is_left_to_the_grid(post_op, out, left):
    assert PairedConv(conv(out, post_op)).post_op.name == left


def test_a_bias_has_room_in_32_bits():
    """A channel that hardly has a weight has a scale on which its bias is cut off."""
    layer = conv(factor=torch.tensor([1.0, 1e-9, 1.0, 1.0]).view(-1, 1, 1, 1))
    layer.exact = True
    integers = WIDE.quantize(values(2, 3, 6, 6))
    torch.testing.assert_close(
        PairedConv(layer, whole_bias=True)(integers), layer(integers), rtol=1e-3, atol=1e-3
    )


@pytest.mark.parametrize("high", [127, 255])
def test_rows_are_those_of_the_engine(high):
    x = torch.cat([values(7, 2, 33), torch.full((1, 2, 33), 0.5)])
    assert all(map(torch.equal, ToRows(high)(x), Rows.of(x, high)))
    assert torch.equal(ToRows(high)(x.bfloat16())[0], Rows.of(x.bfloat16(), high).values)


def test_a_pair_between_takes_the_grid_of_what_passed():
    between = Between()
    for some in (torch.tensor([-1.0, 0.0]), torch.tensor([3.0])):
        assert torch.equal(between(some), some)
    between.settle()
    assert between.pair is not None
    assert between.pair.grid == Grid.over(-1.0, 3.0)
    assert between(torch.tensor([9.0])).item() == pytest.approx(3.0, abs=0.03)


@pytest.mark.parametrize("grid", [NARROW, Grid.symmetric(2.0)])
def test_floats_are_cut_off_as_integers_are(grid):
    pair = ToIntegers(grid)
    assert pair.cut is Cut.INTEGERS
    wanted = pair(values(1000))
    pair.cut = Cut.FLOATS
    assert torch.equal(pair(values(1000)), wanted)


def test_a_grid_of_8_bits_cuts_nothing_off_by_itself():
    assert QuantizePair(WIDE).cut is Cut.NOWHERE


def test_what_is_beyond_a_grid_is_counted():
    pair = ToIntegers(NARROW)
    pair.beyond = 0, 0
    pair(torch.tensor([0.0, 1.9, 2.1, 9.0]))
    pair(torch.tensor([-9.0, 2.5]))
    assert pair.beyond == (3, 6)
