"""Grids whose integers the kernels of this machine add up exactly, as the backend asks for them."""

from __future__ import annotations

from lpot_lightning.quantization.kernels.grid import Grid
from lpot_lightning.quantization.kernels.saturation import saturates

HIGH = 127 if saturates() else 255
"""The greatest integer of an input: kernels of a CPU without VNNI cut off sums of 8 bits."""
STEP = 255 / HIGH
"""How wide a step is, in those of 8 bits: what rounding leaves is in proportion to it."""


def grid_over(least: float, most: float) -> Grid:
    """Return the grid of an input of ``least`` to ``most``, as a calibration here gives it."""
    return Grid.over(least, most, high=HIGH)
