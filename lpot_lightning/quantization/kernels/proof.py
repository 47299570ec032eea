"""Whether the kernels of this machine compute what the arithmetic says."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor

from lpot_lightning.quantization.kernels.layers import Int8Layer

FEW = 10_000
"""Of so many integers one may be a step beside: kernels and torch order roundings differently."""
RTOL, ATOL = 1e-5, 1e-6
"""Of floats; the second is a share of the greatest."""
_SEED = 1978


def wrong_kernel(layer: Int8Layer, shapes: Iterable[Sequence[int]]) -> str | None:
    """Return how the kernel of ``layer`` is wrong for inputs of some shapes, ``None`` if it is not.

    Each shape is shown integers drawn from the whole grid, and those that add up to the most: a CPU
    without VNNI saturates there without a word.

    Example::

        layer.exact = wrong_kernel(layer, shapes_like((8, 64))) is not None
    """
    was_exact = layer.exact
    try:
        for shape in shapes:
            for x in _inputs(layer, shape):
                reason = _difference(layer, x)
                if reason is not None:
                    return f"its int8 kernel is wrong for an input of {list(shape)}: {reason}"
    finally:
        layer.exact = was_exact
    return None


def shapes_like(shape: Sequence[int]) -> list[tuple[int, ...]]:
    """Return shapes to prove a kernel on: one sample, a few, more than an image has places.

    Args:
        shape: of an input that was seen, batch first.
    """
    _, *rest = shape
    places = 1
    for size in rest[1:]:
        places *= size
    batches = {1, 3, min(places + 1, 64)}
    return [(batch, *rest) for batch in sorted(batches)]


def _inputs(layer: Int8Layer, shape: Sequence[int]) -> Iterator[Tensor]:
    grid = layer.x
    draw = torch.Generator().manual_seed(_SEED)
    drawn = torch.randint(grid.low, grid.high + 1, tuple(shape), generator=draw, dtype=torch.int16)
    yield drawn.to(grid.dtype)
    yield torch.full(tuple(shape), grid.high, dtype=grid.dtype)


def _difference(layer: Int8Layer, x: Tensor) -> str | None:
    with torch.no_grad():
        layer.exact = False
        try:
            found = layer(x)
        except RuntimeError as error:
            return f"it fails ({str(error).splitlines()[0]})"
        layer.exact = True
        right = layer(x)
    if found.is_floating_point():
        return _of_floats(found, right)
    steps = (found.short() - right.short()).abs()
    beside = int((steps > 0).sum())
    if int(steps.max()) <= 1 and beside <= max(1, steps.numel() // FEW):
        return None
    return f"{beside} of {steps.numel()} values are up to {int(steps.max())} steps beside"


def _of_floats(found: Tensor, right: Tensor) -> str | None:
    greatest = float(right.abs().max())
    beside = (found - right).abs() > RTOL * right.abs() + ATOL * greatest
    if not bool(beside.any()) and bool(found.isfinite().all()):
        return None
    error = float((found - right).abs().max())
    return f"values are up to {error:.3g} beside, the greatest is {greatest:.3g}"
