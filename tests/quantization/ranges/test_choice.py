from __future__ import annotations

import pytest
import torch

from lpot_lightning.quantization.kernels.grid import Grid
from lpot_lightning.quantization.ranges.choice import grid_for, narrowest
from lpot_lightning.quantization.ranges.histogram import Histogram


def seen(values: torch.Tensor) -> Histogram:
    histogram = Histogram()
    histogram.count(values)
    return histogram


def bell(outlier: float = 0.0) -> torch.Tensor:
    values = torch.randn(50_000, generator=torch.Generator().manual_seed(0))
    return torch.cat([values, torch.full((1,), outlier)])


def squared_error(values: torch.Tensor, grid: Grid) -> float:
    return float((grid.dequantize(grid.quantize(values)) - values).square().sum())


def test_minmax_holds_all_values():
    values = bell(30.0)
    grid = grid_for(seen(values), "asym", "minmax")
    assert (grid.dequantize(grid.quantize(values)) - values).abs().max() <= grid.scale * 0.51


@pytest.mark.parametrize("scheme", ["asym", "sym"])
def test_percentile_leaves_out_the_outermost(scheme):
    grid = grid_for(seen(bell(300.0)), scheme, "percentile")
    assert 3 < (grid.high - grid.zero_point) * grid.scale < 6


@pytest.mark.parametrize("outlier", [0.0, 30.0, 300.0])
@pytest.mark.parametrize("bits", [7, 8])
def test_kl_has_the_least_squared_error(outlier, bits):
    values, histogram = bell(outlier), seen(bell(outlier))
    found = squared_error(values, grid_for(histogram, "asym", "kl", bits=bits))
    for algorithm in ("minmax", "percentile"):
        other = grid_for(histogram, "asym", algorithm, bits=bits)
        assert found <= squared_error(values, other) * 1.02
    for low in torch.linspace(-1, -0.02, 30) * -float(values.min()):
        for high in torch.linspace(0.02, 1, 30) * float(values.max()):
            other = Grid.over(float(low), float(high), high=2**bits - 1)
            assert found <= squared_error(values, other) * 1.1


def test_a_symmetric_grid_has_zero_in_its_middle():
    values = torch.tensor([-1.0, 3.0])
    grid = grid_for(seen(values), "sym", "minmax")
    assert (grid.zero_point, grid.scale) == (128, pytest.approx(6 / 255))
    signed = grid_for(seen(values), "sym", "minmax", signed=True)
    assert (signed.dtype, signed.scale) == (torch.int8, pytest.approx(3 / 127))


@pytest.mark.parametrize("algorithm", ["minmax", "kl", "percentile"])
@pytest.mark.parametrize("value", [0.0, 2.0, -2.0])
def test_one_value_is_a_range(algorithm, value):
    grid = grid_for(seen(torch.full((9,), value)), "asym", algorithm)
    held = grid.dequantize(grid.quantize(torch.tensor([value])))
    assert float(held) == pytest.approx(value, rel=0.01)


@pytest.mark.parametrize("algorithm", ["minmax", "kl", "percentile"])
def test_seven_bits_stay_below_128(algorithm):
    values = bell(5.0)
    assert int(grid_for(seen(values), "asym", algorithm, bits=7).quantize(values).max()) == 127


def test_the_narrowest_range_leaves_few_values_out_at_whichever_end() -> None:
    values = torch.cat([torch.linspace(0, 1, 10_000), torch.full((8,), 100.0)])
    low, high = narrowest(seen(values), 0.999)
    assert low == 0
    assert high == pytest.approx(1, abs=0.1)
    both = torch.cat([torch.linspace(-1, 1, 10_000), torch.tensor([-100.0, 100.0])])
    assert narrowest(seen(both), 0.999) == pytest.approx((-1, 1), abs=0.2)
