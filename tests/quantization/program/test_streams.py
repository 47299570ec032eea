"""What convolutions give is integers for all who read it, where they can read one grid."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from grid_scenes import grid_over
from program_scenes import captured, in_int8, ops
from torch import nn

from lpot_lightning.quantization.kernels.layers import Int8Conv
from lpot_lightning.quantization.kernels.moving import (
    Dequantize,
    MaxPool,
    Quantize,
    QuantizeSum,
)


def shown(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def conv(taken: int, given: int, size: int = 1) -> nn.Conv2d:
    return nn.Conv2d(taken, given, size, padding=size // 2)


class Split(nn.Module):
    """The block of YOLO's C2f: parts of what a convolution gives, and all of them side by side."""

    def __init__(self, act=F.silu) -> None:
        super().__init__()
        self.first, self.last, self.act = conv(3, 8), conv(12, 4), act
        self.one, self.two = conv(4, 4, 3), conv(4, 4, 3)

    def forward(self, x):
        whole = self.act(self.first(x))
        kept, moved = whole.chunk(2, 1)
        added = moved + self.act(self.two(self.act(self.one(moved))))
        return self.last(torch.cat([kept, moved, added], 1))


def assert_near(fused: nn.Module, model: nn.Module, *inputs: torch.Tensor, bound: float) -> None:
    with torch.no_grad():
        found, wanted = fused(*inputs), model(*inputs)
    assert float((found - wanted).norm() / wanted.norm()) < bound


def built(model: nn.Module, **ends: float):
    """Return a model in int8 by graphs, whose layers read up to ``ends``, and its programs."""
    torch.manual_seed(5)
    model.eval()
    grids = {name: grid_over(-end, end) for name, end in ends.items()}
    return captured(in_int8(model, grids=grids))


@pytest.mark.parametrize("act", [F.silu, F.relu])
def test_splits_and_joins_are_of_integers(act):
    model = Split(act)
    fused, graphs = built(model, first=4, one=2, two=1, last=2.6)
    assert_near(fused, model, shown(2, 3, 9, 9), bound=0.06)
    made = ops(graphs[0])
    assert made.count(Quantize) == 1  # of the input
    assert Dequantize not in made
    assert made.count(QuantizeSum) == 1  # the kernel does no activation before a sum


def test_what_reads_much_finer_steps_keeps_them():
    model = Split()
    fused, graphs = built(model, first=4, one=1, two=1, last=2.6)
    assert_near(fused, model, shown(2, 3, 9, 9), bound=0.06)
    assert ops(graphs[0]).count(Quantize) > 2


def test_what_others_read_as_well_stays_floats():
    class Told(Split):
        def forward(self, x):
            whole = F.silu(self.first(x))
            kept, moved = whole.chunk(2, 1)
            return self.one(moved).sum() + self.two(moved).sum() + kept.exp().sum()

    model = Told()
    fused, graphs = built(model, first=4, one=2, two=2)
    assert_near(fused, model, shown(2, 3, 9, 9), bound=0.06)
    assert "exp" in ops(graphs[0])
    assert Dequantize not in ops(graphs[0])


def test_a_part_that_is_written_to_stays_floats():
    class Written(Split):
        def forward(self, x):
            whole = F.silu(self.first(x))
            kept, moved = whole.chunk(2, 1)
            moved.add_(1.0)
            return self.last(torch.cat([kept, moved, self.one(moved)], 1)) + whole.mean()

    model = Written()
    fused, _ = built(model, first=4, one=3, last=3)
    assert_near(fused, model, shown(2, 3, 9, 9), bound=0.06)


def test_pools_repeats_and_borders_of_integers():
    class Pyramid(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.low, self.last = conv(3, 4), conv(4, 4), conv(12, 4)

        def forward(self, x):
            x = F.relu(self.first(x))
            small = F.relu(self.low(F.max_pool2d(x, 2)))
            large = F.interpolate(small, scale_factor=2.0, mode="nearest")
            around = F.pad(F.max_pool2d(x, 3, 1), (1, 1, 1, 1))
            return self.last(torch.cat([x, large, around], 1))

    model = Pyramid()
    fused, graphs = built(model, first=4, low=2, last=2.5)
    assert_near(fused, model, shown(2, 3, 8, 8), bound=0.06)
    made = ops(graphs[0])
    assert made.count(Quantize) == 1
    assert made.count(MaxPool) == 2
    assert F.interpolate in made
    assert torch._C._nn.pad in made


def test_zeros_around_integers_stand_for_zero():
    class Bordered(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.last = conv(3, 4), nn.Conv2d(4, 4, 3)

        def forward(self, x):
            return self.last(F.pad(self.first(x), (0, 1, 2, 0)))

    model = Bordered()
    fused, graphs = built(model, first=4, last=2)
    assert_near(fused, model, shown(2, 3, 8, 8), bound=0.06)
    assert ops(graphs[0]) == [Quantize, Int8Conv, torch._C._nn.pad, Int8Conv]


def test_a_border_of_other_values_is_of_floats():
    class Bordered(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.last = conv(3, 4), nn.Conv2d(4, 4, 3)

        def forward(self, x):
            return self.last(F.pad(self.first(x), (0, 1, 2, 0), value=0.3))

    model = Bordered()
    fused, graphs = built(model, first=4, last=2)
    assert_near(fused, model, shown(2, 3, 8, 8), bound=0.06)
    assert ops(graphs[0]) == [Quantize, Int8Conv, torch._C._nn.pad, Quantize, Int8Conv]


def test_a_net_of_residuals_has_no_floats_between():
    class Residual(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.one, self.two, self.last = (
                conv(3, 4),
                conv(4, 4),
                conv(4, 4),
                conv(4, 4),
            )

        def forward(self, x):
            x = F.max_pool2d(F.relu(self.first(x)), 3, 2, 1)
            for layer in (self.one, self.two):
                x = F.relu(x + layer(x))
            return self.last(x)

    model = Residual()
    fused, graphs = built(model, first=4, one=3, two=4, last=5)
    assert_near(fused, model, shown(2, 3, 9, 9), bound=0.06)
    made = ops(graphs[0])
    assert made.count(Int8Conv) == 4
    assert not {Dequantize, QuantizeSum} & {*made}
