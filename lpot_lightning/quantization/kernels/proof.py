"""Whether the kernels of this machine compute what the arithmetic says."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from math import prod
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lpot_lightning.errors import in_short
from lpot_lightning.quantization.kernels.arithmetic import ConvGeometry, Int8Weight
from lpot_lightning.quantization.kernels.layers import Int8Conv, Int8Layer
from lpot_lightning.quantization.kernels.pack import Sizes
from lpot_lightning.quantization.kernels.post_op import NONE
from lpot_lightning.quantization.kernels.saturation import may_saturate, saturates

_LOG = logging.getLogger(__name__)
FEW = 10_000
"""Of so many integers one may be a step beside: kernels and torch order roundings differently."""
TIE = 1e-3
"""So near to the middle of two integers, in steps, either may be the nearest in float32."""
RTOL, ATOL = 1e-5, 1e-6
"""Of floats; the second is a share of the greatest, before or after the post op: what GELU makes of
a sum was rounded as the sum was."""
ROWS = 16
"""Outputs of a layer that are compared."""
MOST_SAMPLES, MOST_VALUES = 64, 1 << 21
"""Samples of one input that is drawn, and values in it."""
CUT = "without VNNI, as here, sums of two products of its integers may be cut off"
_SEED = 1978


def wrong_kernel(layer: Int8Layer, shapes: Iterable[Sequence[int]]) -> str | None:
    """Return how the kernel of ``layer`` is wrong for inputs of some shapes, ``None`` if it is not.

    Each shape is shown integers drawn from the whole grid, and those that add up to the most. What
    was proved of a layer like this one, with other weights, is not proved again in this process;
    whether these may be cut off is looked at each time: a CPU without VNNI does so without a word.

    Example::

        layer.exact = wrong_kernel(layer, shapes_like((8, 64))) is not None
    """
    if saturates() and layer.x.low >= 0 and may_saturate(layer.weight, layer.x.high):
        return CUT
    kind, tried = layer.kind, None
    for shape in shapes:
        key = kind, tuple(shape)
        if key not in _PROVED:
            tried = tried or _tried(layer)
            _PROVED[key] = _wrong_for(layer, tried, shape)
        if _PROVED[key] is not None:
            return _PROVED[key]
    return None


def _tried(layer: Int8Layer) -> Int8Layer:
    """Return a layer like ``layer`` that goes by the kernel; what it packs goes with it."""
    tried = layer.like(layer.rounded, layer.out)
    tried.added, tried.exact = layer.added, False
    return tried


def usual_shapes(layer: Int8Layer) -> list[tuple[int, ...]]:
    """Return shapes to prove a kernel on of whose inputs nothing is known."""
    inputs = layer.weight.shape[1]
    if not isinstance(layer, Int8Conv):
        return [(batch, inputs) for batch in (1, 3, 64)]
    one = layer.geometry
    reach = [d * (k - 1) + 1 for d, k in zip(one.dilation, layer.weight.shape[2:], strict=True)]
    return shapes_like((1, inputs * one.groups, *(size + 2 for size in reach)))


@contextmanager
def shapes_seen(kernels: Iterable[Int8Layer]) -> Iterator[dict[Int8Layer, list[Sizes]]]:
    """Take the shapes of what kernels are given, for the time of the ``with``."""
    seen: dict[Int8Layer, list[Sizes]] = {kernel: [] for kernel in kernels}
    try:
        for kernel, shapes in seen.items():
            kernel.shapes = shapes
        yield seen
    finally:
        for kernel in seen:
            kernel.shapes = None


def leave_to_arithmetic(seen: Mapping[Int8Layer, Sequence[Sizes]]) -> bool:
    """Leave to plain arithmetic, alone, what kernels get wrong; return whether that is something.

    Args:
        seen: which shapes each kernel was shown.
    """
    found = {one: wrong_for(one, shapes) for one, shapes in seen.items() if not one.exact}
    wrong = {one: reason for one, reason in found.items() if reason}
    for kernel, reason in wrong.items():
        _LOG.warning("plain arithmetic, which is slow, takes the place of a step: %s", reason)
        kernel.exact = True
    return bool(wrong)


def wrong_for(layer: Int8Layer, seen: Iterable[Sequence[int]]) -> str | None:
    """Return how the kernel of ``layer`` is wrong for inputs like those that were ``seen``."""
    filled = [shape for shape in seen if 0 not in shape]  # of nothing there is nothing to prove
    batched = [tuple(shape) if _is_batch(layer, shape) else (1, *shape) for shape in filled]
    return wrong_kernel(layer, [one for shape in batched for one in shapes_like(shape)])


def _is_batch(layer: Int8Layer, shape: Sequence[int]) -> bool:
    """Whether a shape has a first dimension of samples; those of convolutions come alone, too."""
    return len(shape) > 1 and (not isinstance(layer, Int8Conv) or len(shape) == layer.weight.dim())


_PROVED: dict[tuple[Any, ...], str | None] = {}


def _wrong_for(layer: Int8Layer, tried: Int8Layer, shape: Sequence[int]) -> str | None:
    for x, shown in _inputs(layer, shape):
        reason = _difference(layer, tried, x, shown)
        if reason is not None:
            return f"its int8 kernel is wrong for an input of {list(shape)}: {reason}"
    return None


def shapes_like(shape: Sequence[int]) -> list[tuple[int, ...]]:
    """Return shapes to prove a kernel on: one sample, a few, more than an image has places.

    The last where these are few; else it would be a batch like any other, and take the longest.

    Args:
        shape: of an input that was seen, batch first.
    """
    _, *rest = shape
    above = prod(rest[1:]) + 1
    fits = above <= min(MOST_SAMPLES, MOST_VALUES // max(1, prod(rest)))
    batches = {1, 3, above} if fits else {1, 3}
    return [(batch, *rest) for batch in sorted(batches)]


def _inputs(layer: Int8Layer, shape: Sequence[int]) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield what the kernel is shown, and what the arithmetic is: of equal samples, one."""
    grid = layer.x
    draw = torch.Generator().manual_seed(_SEED)
    drawn = torch.randint(grid.low, grid.high + 1, tuple(shape), generator=draw, dtype=torch.int16)
    each = drawn.to(grid.dtype)
    yield each, each
    most = torch.full(tuple(shape), grid.high, dtype=grid.dtype)
    yield most, most[:1]


class _Part(NamedTuple):
    """Some outputs of a layer, by plain arithmetic: all of them would take longer than a trial.

    Args:
        layer: gives them alone, as floats, before the post op.
        rows: which they are.
        channels: which channels of the input it reads, ``None`` for all.
    """

    layer: Int8Layer
    rows: Tensor
    channels: Tensor | None

    @classmethod
    def of(cls, layer: Int8Layer) -> _Part:
        """Return outputs from all over ``layer``, of a convolution in groups those of some."""
        if isinstance(layer, Int8Conv) and layer.geometry.groups > 1:
            part = cls._of_groups(layer, layer.geometry)
        else:
            rows = _spread(len(layer.weight), ROWS)
            part = cls(layer.like(_picked_rows(layer, rows), None, NONE), rows, None)
        part.layer.added, part.layer.exact = layer.added, True
        return part

    @classmethod
    def _of_groups(cls, layer: Int8Conv, geometry: ConvGeometry) -> _Part:
        each = len(layer.weight) // geometry.groups
        groups = _spread(geometry.groups, max(2, ROWS // each))
        rows, channels = _inside(groups, each), _inside(groups, layer.weight.shape[1])
        fewer = replace(geometry, groups=len(groups))
        return cls(Int8Conv(_picked_rows(layer, rows), layer.x, fewer), rows, channels)

    def sums(self, x: Tensor, added: Tensor | None) -> Tensor:
        """Return them for the input ``x``, with what is ``added`` to all outputs."""
        if self.channels is not None:
            x = _picked(self.layer, x, self.channels)
        if added is not None:
            added = _picked(self.layer, added, self.rows)
        with torch.no_grad():
            found: Tensor = self.layer(x, added)
        return found


def _spread(count: int, most: int) -> Tensor:
    """Return up to ``most`` of ``count`` places, the first and the last among them."""
    return torch.linspace(0, count - 1, min(count, most)).long()


def _inside(groups: Tensor, each: int) -> Tensor:
    """Return the places in ``groups`` that have ``each`` of them."""
    return (groups[:, None] * each + torch.arange(each)).flatten()


def _picked_rows(layer: Int8Layer, rows: Tensor) -> Int8Weight:
    weight = layer.rounded
    bias = None if weight.bias is None else weight.bias[rows]
    return Int8Weight(weight.values[rows], weight.scales[rows], bias)


def _difference(layer: Int8Layer, tried: Int8Layer, x: Tensor, shown: Tensor) -> str | None:
    part, added = _Part.of(layer), _added(layer, x)
    sums = part.sums(shown, added)
    right = layer.post_op(sums)
    try:
        with torch.no_grad():
            found = _picked(layer, tried(x, added), part.rows)
    except RuntimeError as error:
        return f"it fails ({in_short(error)})"
    if layer.out is None:
        return _of_floats(found, right, float(sums.abs().max()))
    out = layer.out
    places = (right.double() / out.scale + out.zero_point).clamp(out.low, out.high)
    away = (found.double() - places).abs()
    beside = int((away > 0.5 + TIE).sum())
    if float(away.max()) <= 1.5 and beside <= found.numel() // FEW:
        return None
    return f"{beside} of {found.numel()} values are up to {float(away.max()):.3g} steps beside"


def _picked(layer: Int8Layer, value: Tensor, rows: Tensor) -> Tensor:
    spatial = layer.weight.dim() - 2
    return value.index_select(value.dim() - spatial - 1, rows)


def _added(layer: Int8Layer, x: Tensor) -> Tensor | None:
    """Return integers to be added to the result, where the kernel does that."""
    grid = layer.added
    if grid is None:
        return None
    shape = layer.like(layer.rounded, None)(x).shape
    draw = torch.Generator().manual_seed(_SEED + 1)
    drawn = torch.randint(grid.low, grid.high + 1, shape, generator=draw, dtype=torch.int16)
    return drawn.to(grid.dtype)


def _of_floats(found: Tensor, right: Tensor, greatest_sum: float) -> str | None:
    greatest = max(float(right.abs().max()), greatest_sum)
    beside = (found - right).abs() > RTOL * right.abs() + ATOL * greatest
    if not bool(beside.any()) and bool(found.isfinite().all()):
        return None
    error = float((found - right).abs().max())
    return f"values are up to {error:.3g} beside, the greatest is {greatest:.3g}"
