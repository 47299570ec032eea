"""Rounding as int8 will do it, in floating point, with a gradient."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from lpot_lightning.quantization.fx.ranges import LOWEST, MOMENTUM, Ranges

_LEAST = torch.finfo(torch.float32).eps


class FakeQuant(nn.Module):
    """Rounds an activation to 8 bits and back; in training it learns the range.

    Until it has seen training data it lets everything through. It rounds in float32, whatever
    precision surrounds it.

    Args:
        ranges: of all activations of the training.
        place: which one this is.
        owner: the module that the graph computes for; its mode is the mode of this, too.
    """

    def __init__(self, ranges: Ranges, place: int, owner: nn.Module) -> None:
        super().__init__()
        self._ranges, self._place = ranges, place
        self._held = [owner]  # not as a child: it holds this one's graph

    def forward(self, x: Tensor) -> Tensor:
        """Return ``x`` rounded; integers are let through."""
        if not isinstance(x, Tensor) or not x.is_floating_point():
            return x
        ranges, place = self._ranges, self._place
        ranges.to(x.device)
        whole = x if x.dtype is torch.float32 else x.float()
        if ranges.observing and self._held[0].training and x.numel():
            ranges.seen[place] = True
            rounded = self._learned(whole, ranges)
        elif ranges.seen[place]:
            _, _, scale, zero_point = ranges.places[place]
            rounded = torch.fake_quantize_per_tensor_affine(
                whole, scale, zero_point, LOWEST, ranges.highest
            )
        else:
            return x
        return rounded if x.dtype is torch.float32 else rounded.to(x.dtype)

    def _learned(self, x: Tensor, ranges: Ranges) -> Tensor:
        return torch.fused_moving_avg_obs_fake_quant(
            x, ranges.on, ranges.on, *ranges.places[self._place], MOMENTUM, LOWEST, ranges.highest,
            -1,
        )  # fmt: skip


class FixedFakeQuant(nn.Module):
    """Rounds what has the same range whatever comes, as a sigmoid has."""

    def __init__(self, scale: float, zero_point: int) -> None:
        super().__init__()
        self._scale, self._zero_point = scale, zero_point

    def forward(self, x: Tensor) -> Tensor:
        """Return ``x`` rounded to 8 bits."""
        rounded = torch.fake_quantize_per_tensor_affine(
            x.float(), self._scale, self._zero_point, LOWEST, 255
        )
        return rounded.to(x.dtype)


class _Rounding(torch.autograd.Function):
    """Straight through (Bengio et al., 2013): the range is the weight's own, so nothing is cut."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, scale: Tensor, axis: int | None) -> Tensor:
        zero = torch.zeros_like(scale, dtype=torch.int32)
        if axis is None:
            return torch.fake_quantize_per_tensor_affine(weight, scale, zero, -128, 127)
        return torch.fake_quantize_per_channel_affine(weight, scale, zero, axis, -128, 127)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        return grad, None, None


def rounded_weight(weight: Tensor, axis: int | None) -> Tensor:
    """Return ``weight`` as symmetric int8 will hold it.

    The scale is the one that torch's ``MinMaxObserver`` and ``PerChannelMinMaxObserver`` find,
    max |w| / 127.5.

    Args:
        weight: of a layer.
        axis: of its output channels, each with a scale of its own; ``None`` for one scale.
    """
    whole = weight.float()
    size = whole.detach().abs()
    most = (
        size.amax([i for i in range(size.dim()) if i != axis]) if axis is not None else size.max()
    )
    scale = (most / 127.5).clamp_min(_LEAST)
    rounded: Tensor = _Rounding.apply(whole, scale, axis)  # type: ignore[no-untyped-call]
    return rounded if weight.dtype is torch.float32 else rounded.to(weight.dtype)


def rounded_rows(rows: Tensor) -> Tensor:
    """Return rows of an embedding as uint8 will hold them, each with a range of its own.

    Only the rows that were looked up are rounded: each has its own scale, so the table is the same
    as if all of it had been.

    Args:
        rows: of any shape; the last dimension is that of the embedding.
    """
    values = rows.detach().float()
    low, high = values.aminmax(dim=-1, keepdim=True)
    scale = (high - low) / 255
    scale = torch.where(scale > _LEAST, scale, 1.0)
    zero_point = -low / scale
    held = ((values / scale + zero_point).round().clamp(0, 255) - zero_point) * scale
    return rows + (held.to(rows.dtype) - rows.detach())
