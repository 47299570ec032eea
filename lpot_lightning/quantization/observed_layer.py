"""Layers that compute as they did, and are watched while the calibration data pass."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from lpot_lightning.quantization.functions.watching import hidden
from lpot_lightning.quantization.quantized_layer import RANGELESS
from lpot_lightning.quantization.ranges.histogram import Histogram


class ObservedLayer(nn.Module):
    """Computes for a layer what that computes, and counts what comes in.

    Args:
        layer: is held, and is no child: it is the one that this computes for.

    Attributes:
        awake: whether what passes counts.
        seen: the values of the input.
        ends: the least and the greatest value of each channel of the input, float64; ``None`` where
            nothing was seen.
        called: whether the layer was called while awake, whatever it got.
        shapes: of inputs, each once; a few of them.
    """

    MOST_SHAPES = 4

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self._held = (layer,)
        self.awake = True
        self.called = False
        self.seen = Histogram()
        self.shapes: list[tuple[int, ...]] = []
        self.ends: tuple[Tensor, Tensor] | None = None
        self._sums: Tensor | None = None
        self._count = 0

    @property
    def layer(self) -> nn.Module:
        """The one that this computes for."""
        return self._held[0]

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Return what the layer gives."""
        if self.awake:
            self.count(input_of(args, kwargs))
        with hidden():
            return type(self.layer).forward(self.layer, *args, **kwargs)

    def count(self, given: object) -> None:
        """Take in what the layer is called with."""
        self.called = True
        if isinstance(given, Tensor) and not isinstance(self.layer, RANGELESS):
            self._count_in(given)

    def _count_in(self, x: Tensor) -> None:
        self.seen.count(x)
        shape = tuple(x.shape)
        if shape not in self.shapes and len(self.shapes) < self.MOST_SHAPES:
            self.shapes.append(shape)
        if self.seen.refused or not x.numel():
            return
        dim = _channel_dim(self.layer, x)
        others = [one for one in range(x.dim()) if one != dim]
        values = x.detach() if others else x.detach()[None]
        others = others or [0]
        sums = values.sum(others, dtype=torch.float64)
        self._sums = sums if self._sums is None else self._sums + sums
        ends = values.amin(others).double(), values.amax(others).double()
        self.ends = ends if self.ends is None else _widest([self.ends, ends])
        self._count += x.numel() // x.shape[dim]

    @property
    def means(self) -> Tensor | None:
        """The mean of each channel of the input, float64; ``None`` where nothing was seen."""
        return None if self._sums is None else self._sums / self._count

    def statistics(self) -> dict[str, Any]:
        """Return plain values that ``merge`` takes."""
        return {
            "seen": self.seen.statistics(),
            "called": self.called,
            "sums": None if self._sums is None else self._sums.tolist(),
            "count": self._count,
            "ends": None if self.ends is None else [one.tolist() for one in self.ends],
        }

    def merge(self, seen: list[dict[str, Any]]) -> None:
        """Take what all processes saw, the own part included, in place of the own part."""
        self.seen.merge(one["seen"] for one in seen)
        self.called = any(one["called"] for one in seen)
        sums = [torch.tensor(one["sums"], dtype=torch.float64) for one in seen if one["count"]]
        self._sums = torch.stack(sums).sum(0) if sums else None
        self._count = sum(one["count"] for one in seen)
        ends = [torch.tensor(one["ends"], dtype=torch.float64) for one in seen if one["count"]]
        self.ends = _widest(ends) if ends else None


def input_of(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Tensor | None:
    """Return the tensor that a layer is called with."""
    given = args[0] if args else next(iter(kwargs.values()), None)
    return given if isinstance(given, Tensor) else None


def _widest(ends: Iterable[Sequence[Tensor] | Tensor]) -> tuple[Tensor, Tensor]:
    least, greatest = zip(*ends, strict=True)
    return torch.stack(least).amin(0), torch.stack(greatest).amax(0)


def _channel_dim(layer: nn.Module, x: Tensor) -> int:
    """Return which dimension of the input the weight sums over."""
    spatial = layer.weight.dim() - 2  # type: ignore[operator]
    if not spatial:
        return x.dim() - 1
    return x.dim() - spatial - 1
