"""Rows of integers that each have a grid of their own, found when they come."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from lpot_lightning.quantization.graph.tracing import is_private, is_tracing, paused
from lpot_lightning.quantization.kernels.arithmetic import Int8Weight
from lpot_lightning.quantization.kernels.grid import Grid
from lpot_lightning.quantization.kernels.layers import Int8Layer, Int8Linear
from lpot_lightning.quantization.kernels.pack import Pack
from lpot_lightning.quantization.kernels.post_op import NONE, PostOp

_CONV = torch.ops.onednn.qconv_pointwise.default
_PLACES = [1, 1], [0, 0], [1, 1], 1
_MANY = 16


class Rows(NamedTuple):
    """Integers ``q`` of each row that stand for ``least + q * scale``.

    A row goes over the last dimension: what one token becomes does not hang on the others.

    Args:
        values: ``uint8``.
        scales: float32, one a row, with a last dimension of 1.
        least: float32, of the same shape: what 0 stands for.
    """

    values: Tensor
    scales: Tensor
    least: Tensor

    @classmethod
    def of(cls, values: Tensor, high: int) -> Rows:
        """Return the rows of floats, the least of each as 0, the greatest as ``high``."""
        if not values.is_floating_point():
            kind = str(values.dtype).removeprefix("torch.")
            raise RuntimeError(f"an int8 layer got {kind}; it quantizes floats by itself")
        exact = values.detach() if values.requires_grad else values  # integers have no gradient
        return cls(*rows_of(exact.float(), high))

    def dequantize(self) -> Tensor:
        """Return the float32 values that the integers stand for."""
        return torch.addcmul(self.least, self.values.float(), self.scales)


def rows_of(x: Tensor, high: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return what ``Rows.of`` does, of float32; TorchScript can take it."""
    least = x.amin(-1, keepdim=True)  # `aminmax` takes six times as long (torch 2.13)
    scales = (x.amax(-1, keepdim=True) - least).clamp_min_(1e-30).mul_(1.0 / high)
    steps = torch.sub(x, least).div_(scales).round_()
    return steps.to(torch.uint8), scales, least


class Int8Rows(Int8Linear):
    """A linear layer of rows that each have a grid of their own; it gives float32.

    With ``x = least + q * scale`` the product is ``scale * (W q) + least * (W 1)``: the first part
    is what the kernel of a linear layer gives, the second one number an output.

    Args:
        weight: rounded; its bias comes behind the kernel, as ``offset``.
        high: the greatest integer of the rows that it reads: 255, or 127.

    Example::

        layer = Int8Rows(Int8Weight.of(fp32.weight, fp32.bias), high=255)
        layer.product(Rows.of(x, layer.high))
    """

    offset: Tensor | None

    def __init__(self, weight: Int8Weight, high: int) -> None:
        super().__init__(Int8Weight(weight.values, weight.scales), Grid(1.0, 0, 0, high))
        self.register_buffer("offset", weight.bias)
        self.high = high
        self._sums: Pack[Tensor] = Pack()

    def product(self, rows: Rows) -> Tensor:
        """Return the float32 result of rows of any number of leading dimensions."""
        return self.rescaled(self.forward(rows.values), rows.scales, rows.least)

    def rescaled(self, products: Tensor, scales: Tensor, least: Tensor) -> Tensor:
        """Return the result of what ``forward`` gave for the integers of rows."""
        held: Any = self._buffers
        offset, sums = held["offset"], self.sums
        shift = least * sums if offset is None else torch.addcmul(offset, least, sums)
        return shift.addcmul_(products, scales)

    @property
    def sums(self) -> Tensor:
        """The sum of each row of the weight, float32."""
        held: Any = self._buffers
        if is_tracing() and not is_private():
            return self._summed(())
        with paused():
            return self._sums.of(self._summed, (), held["weight"], held["scales"])

    def _summed(self, _: tuple[int, ...]) -> Tensor:
        return self.weight.sum(1, dtype=torch.int32).float() * self.scales

    def _like(self, weight: Int8Weight, x: Grid, out: Grid | None, post_op: PostOp) -> Int8Layer:
        if out is None and post_op == NONE and weight.bias is None and x == self.x:
            return Int8Rows(weight, self.high)
        return super()._like(weight, x, out, post_op)


class QuantizeRows(nn.Module):
    """Floats to integers, each row on a grid of its own from 0 to ``high``."""

    def __init__(self, high: int) -> None:
        super().__init__()
        self.high = high

    def forward(self, values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the integers, and scale and least value of each row."""
        return tuple(Rows.of(values, self.high))  # type: ignore[return-value]

    def extra_repr(self) -> str:
        """Show the greatest integer."""
        return f"0..{self.high}"


class Rescale(nn.Module):
    """What a kernel of rows gives, to floats."""

    def __init__(self, kernel: Int8Rows) -> None:
        super().__init__()
        self._held = (kernel,)  # is a step by itself

    @property
    def kernel(self) -> Int8Rows:
        """Whose result it is."""
        return self._held[0]

    def forward(self, products: Tensor, scales: Tensor, least: Tensor) -> Tensor:
        """Return the float32 values."""
        return self.kernel.rescaled(products, scales, least)
