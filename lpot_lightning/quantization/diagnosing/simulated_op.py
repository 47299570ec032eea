"""An op that computes in floats, its input and weight rounded in whatever way."""

from __future__ import annotations

import torch
from torch import Tensor

from lpot_lightning.quantization.capability import WEIGHT_ONLY
from lpot_lightning.quantization.diagnosing.diagnosis import OUTER
from lpot_lightning.quantization.equalization import Equalization, by_groups, spatial_dims, times
from lpot_lightning.quantization.kernels.arithmetic import Int8Weight
from lpot_lightning.quantization.kernels.bounds import WHOLE
from lpot_lightning.quantization.kernels.grid import Grid
from lpot_lightning.quantization.observed_layer import ObservedLayer
from lpot_lightning.quantization.quantized_layer import weight_of
from lpot_lightning.quantization.ranges.choice import narrowest
from lpot_lightning.quantization.ranges.histogram import Histogram
from lpot_lightning.quantization.rungs import SmallerWeight, on_rung

_LEAST = 1e-3
"""Of the usual size of an output: what smaller ones are compared with, as they are near zero."""


class SimulatedOp:
    """A layer on one call; each of its ways to round gives an error, as ``row_error`` has it.

    Args:
        observed: calibrated, of a kind with a weight.
        x: an input of it.
        grid: that the input is rounded on.
        equalization: by which its channels are evened out first, if they are.
        pair: what two integers of an output may come to, see ``Bounds``.

    Attributes:
        seen: the values of the input, as they are rounded.
        ends: the least and the greatest value of each channel of it.
        low: the least value of the grid; so is ``high`` the greatest.
        steps: between them.
        least: that value or, where the grid has nothing below 0, the least of the data: they may be
            less than half a step.
        computed: how often the op was computed.
    """

    def __init__(
        self,
        observed: ObservedLayer,
        x: Tensor,
        grid: Grid,
        equalization: Equalization | None,
        pair: int,
    ) -> None:
        assert observed.ends is not None
        self._layer = observed.layer
        form = on_rung(self._layer, WEIGHT_ONLY[0], bounds=WHOLE)
        assert isinstance(form, SmallerWeight)
        self._form, self._bias = form, form.kernel.bias
        self._dim = x.dim() - 1 - spatial_dims(self._layer)
        self._x, self._weight = x.float(), weight_of(self._layer).detach().float()
        self.seen: Histogram = observed.seen
        self.ends = observed.ends
        if equalization is not None:
            factors = equalization.factors
            self._weight = times(self._layer, self._weight, factors)
            self._x = self._x / self._along(factors)
            self.seen = equalization.seen
            self.ends = self.ends[0] / factors, self.ends[1] / factors
        self.low = (grid.low - grid.zero_point) * grid.scale
        self.high = (grid.high - grid.zero_point) * grid.scale
        self.steps = grid.high - grid.low
        self.least = self.low if self.low < 0 else min(0.0, self.seen.least)
        self.computed = 0
        self._pair = pair
        self._rounded_weight = self._held(self._weight)
        self._exact = self._given(self._x, self._weight)

    def error(self) -> float:
        """Return the error with input and weight rounded as they are."""
        return self._error(self._rounded(self.low, self.high), self._rounded_weight)

    def of_weights(self) -> float:
        """Return the error that the weight alone makes."""
        return self._error(self._x, self._rounded_weight)

    def without_spread(self) -> float:
        """Return the error where each channel has a scale of its own, in input and weight."""
        least, greatest = (self._along(one) for one in self.ends)
        x = self._rounded(least.clamp(min=self.low), greatest.clamp(max=self.high))
        sizes = self.weight_sizes()
        read = torch.where(sizes > 0, sizes, torch.ones_like(sizes))
        evened = times(self._layer, self._weight, 1 / read)
        return self._error(x, times(self._layer, self._held(evened), read))

    def without_outliers(self) -> float:
        """Return the error where the outermost values set no range, and are not rounded."""
        low, high = self.inner_range()
        inside = (self._x >= low) & (self._x <= high)
        return self._error(
            torch.where(inside, self._rounded(low, high), self._x), self._rounded_weight
        )

    def without_tail(self) -> float:
        """Return the error where negative values have as many levels as all have."""
        x = torch.where(
            self._x < 0, self._rounded(self.least, 0.0), self._rounded(self.low, self.high)
        )
        return self._error(x, self._rounded_weight)

    def inner_range(self) -> tuple[float, float]:
        """Return the range of all values but the outermost ``OUTER``, within that of the grid."""
        low, high = narrowest(self.seen, 1 - OUTER)
        return max(low, self.least), min(high, self.high)

    def weight_sizes(self) -> Tensor:
        """Return the greatest weight that reads each channel, in relation to its output's scale."""
        largest = by_groups(self._layer, self._weight).abs().amax(3)
        return (largest / largest.amax(2, keepdim=True)).nan_to_num(0.0).amax(1).flatten()

    def _rounded(self, low: float | Tensor, high: float | Tensor) -> Tensor:
        """Return the input on a grid over ``low`` to ``high`` and 0, clipped to it."""
        least, most = (torch.as_tensor(one, dtype=torch.float32) for one in (low, high))
        least, most = least.clamp(max=0.0), most.clamp(min=0.0)
        scale = ((most - least) / self.steps).clamp_min(torch.finfo(torch.float32).tiny)
        zero = (-least / scale).round()
        integers = ((self._x / scale).round() + zero).clamp(0.0, float(self.steps))
        return (integers - zero) * scale

    def _held(self, weight: Tensor) -> Tensor:
        return Int8Weight.of(weight, pair=self._pair).dequantize()

    def _along(self, values: Tensor) -> Tensor:
        shape = [1] * self._x.dim()
        shape[self._dim] = -1
        return values.float().view(shape)

    def _given(self, x: Tensor, weight: Tensor) -> Tensor:
        self.computed += 1
        return self._form.computed(x, weight, self._bias)

    def _error(self, x: Tensor, weight: Tensor) -> float:
        return row_error(self._given(x, weight), self._exact, self._dim)


def row_error(noisy: Tensor, exact: Tensor, dim: int) -> float:
    """Return the mean over rows of ``|noisy - exact|² / |exact|²``.

    Args:
        noisy: of the shape of ``exact``.
        exact: what it should be.
        dim: along which the values of a row lie.

    Example::

        row_error(torch.tensor([[1.0, 2.0]]), torch.tensor([[1.0, 1.0]]), 1)  # 0.5
    """
    lost = (noisy.float() - exact).square().sum(dim)
    sizes = exact.square().sum(dim)
    usual = sizes[sizes > 0].median() if bool((sizes > 0).any()) else sizes.new_ones(())
    return float((lost / sizes.clamp_min(_LEAST * float(usual))).mean())
