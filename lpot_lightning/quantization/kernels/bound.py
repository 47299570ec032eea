"""Kernels with all that they are called with, bound once: what Python adds to a call is little."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from lpot_lightning.quantization.kernels.layers import Int8Conv, Int8Layer, Int8Linear

MOST = 64
"""Shapes that are remembered; a further one makes room by all of them being forgotten."""
_ONEDNN = torch.ops.onednn
_LINEAR, _LINEAR_ADD = _ONEDNN.qlinear_pointwise.default._op, _ONEDNN.qlinear_pointwise.binary._op
_CONV, _CONV_SUM = _ONEDNN.qconv_pointwise.default._op, _ONEDNN.qconv2d_pointwise.binary._op
Kernel = Callable[..., Tensor]


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
    known: dict[Any, Tensor] = {}
    alone, added = _bound(layer)

    def called(x: Tensor, other: Tensor | None = None) -> Tensor:
        shapes: Any = x.shape if other is None else (x.shape, other.shape)
        pack = known.get(shapes)
        if pack is not None:
            return alone(x, pack) if other is None else added(x, pack, other)
        found = layer.forward(x, other)
        if layer.goes_by_kernel(x, other) and found.numel():
            if len(known) >= MOST:
                known.clear()
            known[shapes] = layer.pack_for(x)
        return found

    return called


def _bound(layer: Int8Layer) -> tuple[Kernel, Kernel]:
    """Return the kernel of ``layer`` for an input and its pack, and for these and what is added."""
    if isinstance(layer, Int8Linear):
        alone, added = _of_linear(layer)
    else:
        assert isinstance(layer, Int8Conv)
        alone, added = _of_conv(layer)
    return (_within(layer, alone), _within(layer, added)) if layer.is_narrow else (alone, added)


def _of_linear(layer: Int8Linear) -> tuple[Kernel, Kernel]:
    held, (scale, zero), out = layer._buffers, _grid(layer), layer.scale
    scales, zeros, bias, post = held["scales"], held["zeros"], held["bias"], layer.post
    tail = scales, zeros, bias, *out, *post
    added_tail = bias, *out, 1.0, 0, "add", 1.0, *post

    def alone(x: Tensor, pack: Tensor) -> Tensor:
        found: Tensor = _LINEAR(x, scale, zero, pack, *tail)
        return found

    def added(x: Tensor, pack: Tensor, other: Tensor) -> Tensor:
        found: Tensor = _LINEAR_ADD(x, scale, zero, pack, scales, zeros, other, *added_tail)
        return found

    return alone, added


def _of_conv(layer: Int8Conv) -> tuple[Kernel, Kernel]:
    held, (scale, zero), out = layer._buffers, _grid(layer), layer.scale
    scales, zeros, bias, post = held["scales"], held["zeros"], held["bias"], layer.post
    tail = scales, zeros, bias, *layer.places, *out, *post
    grid = layer.added
    given = (1.0, 0) if grid is None else (grid.scale, grid.zero_point)
    added_tail = bias, *layer.places, *out, *given, "sum", 1.0, *post

    def alone(x: Tensor, pack: Tensor) -> Tensor:
        found: Tensor = _CONV(x, scale, zero, pack, *tail)
        return found

    def flat(x: Tensor, pack: Tensor) -> Tensor:
        return alone(x.unsqueeze(2), pack).squeeze(2)

    def added(x: Tensor, pack: Tensor, other: Tensor) -> Tensor:
        laid = other.contiguous(memory_format=torch.channels_last)
        found: Tensor = _CONV_SUM(x, scale, zero, pack, scales, zeros, laid, *added_tail)
        return found

    return flat if len(layer.geometry.stride) == 1 else alone, added


def _grid(layer: Int8Layer) -> tuple[float, int]:
    return layer.x.scale, layer.x.zero_point


def _within(layer: Int8Layer, kernel: Kernel) -> Kernel:
    """Return ``kernel`` with its result held to a grid of fewer than 8 bits."""
    out = layer.out
    assert out is not None
    low, high = out.low, out.high

    def clipped(*given: Tensor) -> Tensor:
        return kernel(*given).clamp_(low, high)

    return clipped
