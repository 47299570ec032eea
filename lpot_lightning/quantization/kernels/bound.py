"""Kernels with all that they are called with, bound once: what Python adds to a call is little."""

from __future__ import annotations

from collections.abc import Callable
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor

from lpot_lightning.quantization.kernels import arithmetic
from lpot_lightning.quantization.kernels.layers import (
    COLUMN,
    FLOATS,
    Int8Layer,
    Int8Linear,
    Scale,
)
from lpot_lightning.quantization.kernels.post_op import NONE, PostOp

MOST = 64
"""Shapes that are remembered; a further one makes room by all of them being forgotten."""
_ONEDNN = torch.ops.onednn
_LINEAR, _LINEAR_ADD = _ONEDNN.qlinear_pointwise.default, _ONEDNN.qlinear_pointwise.binary
_CONV, _CONV_SUM = _ONEDNN.qconv_pointwise.default, _ONEDNN.qconv2d_pointwise.binary
Kernel = Callable[..., Tensor]
Way = Callable[[Any], Kernel]
"""Returns what calls an op of oneDNN."""
directly: Way = attrgetter("_op")
"""Past the Python of ``torch.ops``."""


def bound(layer: Int8Layer) -> Kernel:
    """Return what gives the same as ``layer.forward``, at less cost for shapes that it knows.

    An input of a shape that comes first goes through ``forward``: that looks whether there is a
    kernel for it, tells what does not fit, and packs the weight. Others of that shape go to the
    kernel at once, with the tensors that the layer has when it is bound. So whoever calls it has to
    see whether these are still the layer's, and as they were; ``forward`` does that by itself.

    Example::

        kernel = bound(layer)
        kernel(integers)
    """
    known: dict[Any, tuple[Kernel, Tensor]] = {}

    def called(x: Tensor, *other: Tensor) -> Tensor:
        shapes: Any = x.shape if not other else (x.shape, other[0].shape)
        if shapes in known:
            kernel, pack = known[shapes]
            return kernel(x, pack, *other)
        found = layer.forward(x, *other)
        if layer.has_kernel_for(x) and found.numel():
            if len(known) >= MOST:
                known.clear()
            known[shapes] = kernel_for(layer, other[0] if other else None), layer.pack_for(x)
        return found

    return called


def kernel_for(layer: Int8Layer, other: Tensor | None = None, way: Way = directly) -> Kernel:
    """Return what computes ``layer`` of an input, its pack, and what is added.

    Args:
        layer: whose tensors it takes, as they are now.
        other: such as is added, if something is.
        way: how it is called.
    """
    if not layer.fuses(other):
        return _finished(layer, unheld_kernel(layer, FLOATS, NONE, None, way))
    kernel = unheld_kernel(layer, layer.scale, layer.post_op, other, way)
    return _within(layer, kernel) if layer.is_narrow else kernel


def unheld_kernel(
    layer: Int8Layer, out: Scale, post_op: PostOp, other: Tensor | None, way: Way
) -> Kernel:
    """Return an op of oneDNN alone: what it gives may lie beside a grid of fewer than 8 bits.

    Args:
        layer: see ``kernel_for``; so are ``other`` and ``way``.
        out: what the kernel is told of the grid of the output.
        post_op: that the kernel has.
    """
    if isinstance(layer, Int8Linear) and layer.by_convolution:
        return _column(layer, way, out, post_op)
    made = _linear if isinstance(layer, Int8Linear) else _conv
    return made(layer, way, out, post_op, other)


def _column(layer: Int8Linear, way: Way, out: Scale, post_op: PostOp) -> Kernel:
    """Return the kernel of a convolution that computes a linear layer."""
    held: Any = layer._buffers
    (scale, zero), kernel = _grid(layer), way(_CONV)
    tail = held["scales"], held["zeros"], held["bias"], *COLUMN, *out, *post_op.told

    def alone(x: Tensor, pack: Tensor) -> Tensor:
        return layer.laid_back(kernel(layer.laid(x), scale, zero, pack, *tail), x)

    return alone


def _linear(
    layer: Any, way: Way, out: Scale, post_op: PostOp, other: Tensor | None = None
) -> Kernel:
    held, (scale, zero) = layer._buffers, _grid(layer)
    scales, zeros, bias, post = held["scales"], held["zeros"], held["bias"], post_op.told
    kernel, tail = way(_LINEAR), (scales, zeros, bias, *out, *post)
    adding, added_tail = way(_LINEAR_ADD), (bias, *out, 1.0, 0, "add", 1.0, *post)

    def alone(x: Tensor, pack: Tensor) -> Tensor:
        return kernel(x, scale, zero, pack, *tail)

    def added(x: Tensor, pack: Tensor, other: Tensor) -> Tensor:
        return adding(x, scale, zero, pack, scales, zeros, other, *added_tail)

    return alone if other is None else added


def _conv(layer: Any, way: Way, out: Scale, post_op: PostOp, other: Tensor | None = None) -> Kernel:
    held, (scale, zero) = layer._buffers, _grid(layer)
    scales, zeros, bias, post = held["scales"], held["zeros"], held["bias"], post_op.told
    kernel, tail = way(_CONV), (scales, zeros, bias, *layer.places, *out, *post)

    def alone(x: Tensor, pack: Tensor) -> Tensor:
        return kernel(x, scale, zero, pack, *tail)

    def flat(x: Tensor, pack: Tensor) -> Tensor:
        return alone(x.unsqueeze(2), pack).squeeze(2)

    if other is None:
        return flat if len(layer.geometry.stride) == 1 else alone
    summing, grid = way(_CONV_SUM), layer.added
    sum_tail = bias, *layer.places, *out, grid.scale, grid.zero_point, "sum", 1.0, *post

    def added(x: Tensor, pack: Tensor, other: Tensor) -> Tensor:
        laid = other.contiguous(memory_format=torch.channels_last)
        return summing(x, scale, zero, pack, scales, zeros, laid, *sum_tail)

    return added


def _grid(layer: Int8Layer) -> tuple[float, int]:
    return layer.x.scale, layer.x.zero_point


def _finished(layer: Int8Layer, kernel: Kernel) -> Kernel:
    """Return ``kernel``, which gives floats, with the rest behind it."""
    out, post_op = layer.out, layer.post_op

    def finished(x: Tensor, pack: Tensor, other: Tensor | None = None) -> Tensor:
        values, added = kernel(x, pack), layer.floats(other)
        values = values if added is None else values.add_(added)
        return arithmetic.finished(values, out, post_op)

    return finished


def _within(layer: Int8Layer, kernel: Kernel) -> Kernel:
    """Return ``kernel`` with its result held to a grid of fewer than 8 bits."""
    out = layer.out
    assert out is not None
    low, high = out.low, out.high

    def clipped(*given: Tensor) -> Tensor:
        return kernel(*given).clamp_(low, high)

    return clipped
