"""Int8 by plain torch: exact, slow, right on any CPU; what kernels are proved against."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from lpot_lightning.quantization.kernels.bounds import WHOLE
from lpot_lightning.quantization.kernels.grid import Grid
from lpot_lightning.quantization.kernels.post_op import NONE, PostOp

_HALF = 0.501
"""How far, in steps, a weight may be from what it was rounded to; a computed one differs a little
from machine to machine."""


_TINY = torch.finfo(torch.float32).tiny


def step_sizes(spans: Tensor, count: int) -> Tensor:
    """Return the distance of two neighbours where ``count`` of them lie in each of ``spans``.

    One that float32 does not hold in full is 1: decay leaves rows of some 1e-40 behind, which are
    zeros to 8 bits, and a distance of 0 gives no number.
    """
    sizes = spans / count
    return torch.where(sizes >= _TINY, sizes, torch.ones_like(sizes))


def weight_steps(sizes: Tensor, pair: int) -> Tensor:
    """Return the distance of two neighbours in rows of a weight.

    Args:
        sizes: absolute values; the last dimension is the row.
        pair: what the integers of any two of a row may come to together; each has 127 at most.
    """
    spans = sizes.amax(-1)
    if pair < WHOLE.pair and sizes.shape[-1] > 1:
        # both may be rounded up: by one together, so that half a step is kept free
        two = sizes.topk(2, -1).values.sum(-1)
        spans = torch.maximum(spans, two * (127 / (pair - 0.5)))
    return step_sizes(spans, 127)


@dataclass(frozen=True)
class Int8Weight:
    """A weight that is rounded, with one symmetric scale a row, or one a group of its inputs.

    Args:
        values: ``int8``, outputs first.
        scales: float32, one an output; or ``[outputs, groups]``.
        bias: float32, one an output.
        group_size: how many inputs in a row have a scale of their own; the last ones may be less.
    """

    values: Tensor
    scales: Tensor
    bias: Tensor | None = None
    group_size: int | None = None

    @classmethod
    def of(
        cls,
        weight: Tensor,
        bias: Tensor | None = None,
        group_size: int | None = None,
        pair: int = WHOLE.pair,
    ) -> Int8Weight:
        """Return ``weight`` rounded to -127..127, the greatest of each row to 127 or -127.

        Args:
            weight: outputs first.
            bias: one an output.
            group_size: how many inputs in a row have a scale of their own.
            pair: what any two integers of a row may come to together, see ``Bounds``: the greatest
                of a row is less then.
        """
        exact = weight.detach().float()
        scales = weight_steps(_grouped(exact.flatten(1).abs(), group_size), pair)
        steps = torch.round(exact / _spread(scales, exact.shape, group_size)).clamp_(-127, 127)
        # oneDNN packs a transposed weight as if it were none (torch 2.13)
        values = steps.to(torch.int8).contiguous()
        own_bias = None if bias is None else bias.detach().float().clone()
        return cls(values, scales, own_bias, group_size)

    @classmethod
    def like(cls, weight: Tensor, *, bias: bool, group_size: int | None = None) -> Int8Weight:
        """Return what ``of`` does, without values."""
        values, rows = torch.empty(weight.shape, dtype=torch.int8), len(weight)
        groups = () if group_size is None else (-(-weight[0].numel() // group_size),)
        scales = torch.empty(rows, *groups)
        return cls(values, scales, torch.empty(rows) if bias else None, group_size)

    @property
    def steps(self) -> Tensor:
        """The distance of two neighbours of each value, of a shape that goes with ``values``."""
        return _spread(self.scales, self.values.shape, self.group_size)

    def dequantize(self) -> Tensor:
        """Return the float32 weight that the integers stand for."""
        return self.values.float() * self.steps

    def stands_for(self, weight: Tensor) -> bool:
        """Whether ``weight``, of the same shape, is one that is rounded to these integers."""
        given, own = weight.detach().float(), self.dequantize()
        if torch.equal(given, own):  # of a model that was loaded, in a third of the passes
            return True
        return bool(((given - own).abs_() <= _HALF * self.steps).all())


def _grouped(flat: Tensor, group_size: int | None) -> Tensor:
    """Return rows as ``[rows, groups, values]``; zeros fill the last group."""
    if group_size is None:
        return flat
    more = -flat.shape[1] % group_size
    return F.pad(flat, (0, more)).view(len(flat), -1, group_size)


def _spread(scales: Tensor, shape: Sequence[int], group_size: int | None) -> Tensor:
    if group_size is None:
        return _a_row(scales, len(shape))
    inputs = math.prod(shape[1:])
    return scales.repeat_interleave(group_size, 1)[:, :inputs].reshape(tuple(shape))


def _a_row(scales: Tensor, dims: int) -> Tensor:
    return scales.view(-1, *[1] * (dims - 1))


@dataclass(frozen=True)
class ConvGeometry:
    """How a convolution goes over its input; each field has one number a spatial dimension."""

    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int = 1


Convolve = Callable[..., Tensor]
_CONVOLUTIONS: dict[int, Convolve] = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}


def linear(x: Tensor, grid: Grid, weight: Int8Weight) -> Tensor:
    """Return the float64 result of a linear layer of integers on ``grid``.

    Sums of products of 8 bits are exact in float64 up to 2^37 terms.
    """
    sums = F.linear(x.double() - grid.zero_point, weight.values.double())
    return _scaled(sums, grid, weight, sums.dim() - 1)


def conv(x: Tensor, grid: Grid, weight: Int8Weight, geometry: ConvGeometry) -> Tensor:
    """Return the float64 result of a convolution of integers on ``grid``; padding stands for 0."""
    convolve = _CONVOLUTIONS[len(geometry.stride)]
    sums = convolve(
        x.double() - grid.zero_point,
        weight.values.double(),
        None,
        geometry.stride,
        geometry.padding,
        geometry.dilation,
        geometry.groups,
    )
    return _scaled(sums, grid, weight, sums.dim() - len(geometry.stride) - 1)


def _scaled(sums: Tensor, grid: Grid, weight: Int8Weight, dim: int) -> Tensor:
    shape = [1] * sums.dim()
    shape[dim] = -1
    values = sums * (weight.scales.double() * grid.scale).view(shape)
    return values if weight.bias is None else values + weight.bias.double().view(shape)


def finished(values: Tensor, out: Grid | None, post_op: PostOp = NONE, other: Any = None) -> Tensor:
    """Return what a kernel gives of the float64 ``values`` that it computed.

    Args:
        values: before everything else.
        out: on which grid the result is; ``None`` gives float32.
        post_op: the activation function.
        other: floats that are added first.
    """
    if other is not None:
        values = values + other
    result = post_op(values.float())
    return result if out is None else out.quantize(result)
