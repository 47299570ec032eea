"""Whether the kernels of this machine compute what the arithmetic says."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from math import prod
from typing import Any

import torch
from torch import Tensor

from lpot_lightning.errors import in_short
from lpot_lightning.quantization.kernels.arithmetic import Int8Weight
from lpot_lightning.quantization.kernels.grid import Grid
from lpot_lightning.quantization.kernels.layers import Int8Conv, Int8Layer, Int8Linear
from lpot_lightning.quantization.kernels.pack import Sizes
from lpot_lightning.quantization.kernels.post_op import NONE

_LOG = logging.getLogger(__name__)
FEW = 10_000
"""Of so many integers one may be a step beside: kernels and torch order roundings differently."""
TIE = 1e-3
"""So near to the middle of two integers, in steps, either may be the nearest in float32."""
RTOL, ATOL = 1e-5, 1e-6
"""Of floats; the second is a share of the greatest, before or after the post op: what GELU makes of
a sum was rounded as the sum was."""
ROWS = 16
"""Outputs of a layer that are compared: the arithmetic of all would take longer than a trial."""
MOST_VALUES = 1 << 21
"""Values of one input that is drawn."""
_SEED = 1978


def wrong_kernel(layer: Int8Layer, shapes: Iterable[Sequence[int]]) -> str | None:
    """Return how the kernel of ``layer`` is wrong for inputs of some shapes, ``None`` if it is not.

    Each shape is shown integers drawn from the whole grid, and those that add up to the most: a CPU
    without VNNI saturates there without a word. What was proved of a layer like this one, with
    other weights, is not proved again in this process.

    Example::

        layer.exact = wrong_kernel(layer, shapes_like((8, 64))) is not None
    """
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


def saturates() -> bool:
    """Whether sums of products of 8 bits are cut here, as on CPUs without VNNI; 7 bits fit then.

    It is tried and not read off the CPU: ``ONEDNN_MAX_CPU_ISA`` may keep oneDNN to less.
    """
    weight = Int8Weight(torch.full((16, 64), 127, dtype=torch.int8), torch.full((16,), 0.01))
    return wrong_kernel(Int8Linear(weight, Grid(1.0)), [(4, 64)]) is not None


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

    Args:
        shape: of an input that was seen, batch first.
    """
    _, *rest = shape
    places, values = prod(rest[1:]), max(1, prod(rest))
    most = max(3, MOST_VALUES // values)
    batches = {1, 3, min(places + 1, 64, most)}
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


def _difference(layer: Int8Layer, tried: Int8Layer, x: Tensor, shown: Tensor) -> str | None:
    rows = _some_rows(layer)
    added = _added(layer, x)
    sums = _sums(layer, shown, added, rows)
    right = layer.post_op(sums)
    try:
        with torch.no_grad():
            found = _picked(layer, tried(x, added), rows)
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


def _sums(layer: Int8Layer, x: Tensor, added: Tensor | None, rows: Tensor) -> Tensor:
    """Return some outputs by plain arithmetic, as floats, before the post op.

    All of them would take too long.
    """
    weight = layer.rounded
    bias = None if weight.bias is None else weight.bias[rows]
    few = layer.like(Int8Weight(weight.values[rows], weight.scales[rows], bias), None, NONE)
    few.added, few.exact = layer.added, True
    with torch.no_grad():
        found: Tensor = few(x, None if added is None else _picked(layer, added, rows))
    return found


def _some_rows(layer: Int8Layer) -> Tensor:
    outputs = len(layer.weight)
    if isinstance(layer, Int8Conv) and layer.geometry.groups > 1:
        return torch.arange(outputs)
    return torch.linspace(0, outputs - 1, min(outputs, ROWS)).long()


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
