from __future__ import annotations

import pytest
import torch

from lpot_lightning.errors import QuantizationError
from lpot_lightning.quantization.kernels.grid import Grid


@pytest.mark.parametrize(
    ("grid", "least", "most", "dtype"),
    [
        (Grid.over(-1.0, 3.0), -1.0, 3.0, torch.uint8),
        (Grid.over(-1.0, 3.0, high=127), -1.0, 3.0, torch.uint8),
        (Grid.over(2.0, 3.0), 0.0, 3.0, torch.uint8),
        (Grid.symmetric(3.0), -3.0, 3.0, torch.int8),
    ],
)
def test_a_grid_holds_zero_and_its_ends(grid, least, most, dtype):
    values = torch.linspace(least, most, 1001)
    integers = grid.quantize(values)
    assert integers.dtype == grid.dtype == dtype
    assert (int(integers.min()), int(integers.max())) == (
        (-127, 127) if dtype == torch.int8 else (grid.low, grid.high)
    )
    assert (grid.dequantize(integers) - values).abs().max() <= grid.scale * 0.501
    assert grid.dequantize(grid.quantize(torch.zeros(1))).item() == 0


def test_what_is_beyond_is_clipped_and_ties_go_to_even():
    grid = Grid(1.0, 10)
    assert grid.quantize(torch.tensor([-99.0, 999.0, 0.5, 1.5])).tolist() == [0, 255, 10, 12]


def test_a_range_of_nothing_is_a_grid():
    for grid in (Grid.over(0.0, 0.0), Grid.symmetric(0.0)):
        assert grid.dequantize(grid.quantize(torch.zeros(3))).tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    "given",
    [
        {"scale": 0.0},
        {"scale": -1.0},
        {"scale": float("nan")},
        {"scale": float("inf")},
        {"scale": 1.0, "zero_point": 256},
        {"scale": 1.0, "low": 5},
        {"scale": 1.0, "low": -129, "high": 127},
        {"scale": 1.0, "low": -1, "high": 255},
    ],
)
def test_what_is_no_grid_is_told(given):
    with pytest.raises(QuantizationError, match="is no grid of 8 bits: allowed: a finite `scale`"):
        Grid(**given)
