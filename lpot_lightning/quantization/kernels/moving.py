"""Steps of a program that are no layer: to integers and back, and what happens to both."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lpot_lightning.quantization.kernels.grid import Grid


class Quantize(nn.Module):
    """Floats to integers on ``grid``."""

    def __init__(self, grid: Grid) -> None:
        super().__init__()
        self.grid = grid

    def forward(self, values: Tensor) -> Tensor:
        """Return the integers nearest to ``values``."""
        return self.grid.quantize(values)

    def extra_repr(self) -> str:
        """Show the grid."""
        return str(self.grid)


class QuantizeDivided(nn.Module):
    """Floats whose channels are divided by ``factors``, as ``Divide`` has them, to integers."""

    def __init__(self, grid: Grid, factors: Tensor) -> None:
        super().__init__()
        self.grid, self.factors = grid, factors

    def forward(self, values: Tensor) -> Tensor:
        """Return the integers nearest to the values over their factors."""
        return self.grid.quantize_divided(values, self.factors)

    def extra_repr(self) -> str:
        """Show the grid."""
        return str(self.grid)


class QuantizeProduct(nn.Module):
    """The product of two tensors of floats to integers on ``grid``."""

    def __init__(self, grid: Grid) -> None:
        super().__init__()
        self.grid = grid

    def forward(self, one: Tensor, other: Tensor) -> Tensor:
        """Return the integers nearest to ``one * other``."""
        return self.grid.quantize_product(one, other)

    def extra_repr(self) -> str:
        """Show the grid."""
        return str(self.grid)


class QuantizeSum(nn.Module):
    """The sum of integers on ``grid`` and floats, to integers on it."""

    def __init__(self, grid: Grid) -> None:
        super().__init__()
        self.grid = grid

    def forward(self, integers: Tensor, values: Tensor) -> Tensor:
        """Return the integers nearest to what ``integers`` stand for and ``values``, added."""
        return self.grid.quantize_sum(integers, values)

    def extra_repr(self) -> str:
        """Show the grid."""
        return str(self.grid)


class Dequantize(nn.Module):
    """Integers on ``grid`` to the float32 values that they stand for."""

    def __init__(self, grid: Grid) -> None:
        super().__init__()
        self.grid = grid

    def forward(self, integers: Tensor) -> Tensor:
        """Return the values of ``integers``."""
        return self.grid.dequantize(integers)

    def extra_repr(self) -> str:
        """Show the grid."""
        return str(self.grid)


class Divide(nn.Module):
    """Each channel by a factor of its own.

    Args:
        factors: above 0, of a shape that goes with the last dimensions of the values: one without
            a name is that of the channels, those after it are 1.
    """

    factors: Tensor

    def __init__(self, factors: Tensor) -> None:
        super().__init__()
        self.register_buffer("factors", factors)

    def forward(self, values: Tensor) -> Tensor:
        """Return the values of each channel over its factor."""
        return values / self.factors

    def extra_repr(self) -> str:
        """Show the ends of the factors."""
        return f"{float(self.factors.min()):g} to {float(self.factors.max()):g}"


class MaxPool(nn.Module):
    """The greatest integer of each window, in any layout: torch's own takes no channels-last ones.

    Args:
        size: of the window, one number a spatial dimension; so are ``stride`` and ``padding``.
        stride: from window to window.
        padding: rows of the least integer on each side.
        least: that integer.
    """

    def __init__(
        self, size: Sequence[int], stride: Sequence[int], padding: Sequence[int], least: int
    ) -> None:
        super().__init__()
        self.size, self.stride, self.padding = tuple(size), tuple(stride), tuple(padding)
        self.least = least

    def forward(self, integers: Tensor) -> Tensor:
        """Return the greatest of each window, of one axis after the other."""
        if any(self.padding):
            border = [one for side in reversed(self.padding) for one in (side, side)]
            integers = F.pad(integers, border, value=self.least)
        dims = len(self.size)
        for number, (size, stride) in enumerate(zip(self.size, self.stride, strict=True)):
            integers = _greatest(integers, integers.dim() - dims + number, size, stride)
        return integers


def _greatest(integers: Tensor, dim: int, size: int, stride: int) -> Tensor:
    last = integers.shape[dim] - size + 1
    found = integers.narrow(dim, 0, last)[_every(stride, dim)]
    for start in range(1, size):
        found = torch.maximum(found, integers.narrow(dim, start, last)[_every(stride, dim)])
    return found


def _every(stride: int, dim: int) -> tuple[slice, ...]:
    return (slice(None),) * dim + (slice(None, None, stride),)
