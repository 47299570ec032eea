"""Layers that round while they train, and compute with the user's own weights."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lpot_lightning.quantization.equalization import times
from lpot_lightning.quantization.quantized_layer import (
    CONVOLUTIONS,
    bags_of,
    weight_of,
)
from lpot_lightning.quantization.training.ranges import Ranges
from lpot_lightning.quantization.training.rounding import rounded_rows, rounded_weight
from lpot_lightning.quantization.training.sums import Sums


class RoundedInput:
    """The input of one op, rounded onto the range that it has learned.

    Args:
        ranges: of all inputs of the training.
        place: which one this is.
        factors: what each channel is divided by first; the weight is multiplied by it.
    """

    def __init__(
        self, ranges: Ranges, place: int, pair: int, factors: Tensor | None = None
    ) -> None:
        self._ranges, self._place, self._factors, self._pair = ranges, place, factors, pair

    def of(self, x: Tensor, spatial: int) -> Tensor:
        """Return ``x`` rounded, divided by the factors; ``spatial`` dimensions follow channels."""
        factors = self._factors_on(x.device)
        if factors is not None:
            x = x / factors.to(x.dtype).view(-1, *[1] * spatial)
        return self._ranges.rounded(self._place, x)

    @property
    def is_plain(self) -> bool:
        """Whether nothing is divided, so that integers stand for what is read as it is."""
        return self._factors is None

    def again(self, x: Tensor) -> Tensor:
        """Return ``x`` rounded as it is read, for who else reads it; nothing learns of it."""
        return self._ranges.on_grid(self._place, x)

    def weight(self, layer: nn.Module, weight: Tensor) -> Tensor:
        """Return a weight that goes with it, outputs first, rounded.

        Args:
            layer: whose groups the weight has.
            weight: as it is at the moment.
        """
        factors = self._factors_on(weight.device)
        read = weight if factors is None else times(layer, weight, factors)
        return rounded_weight(read, self._pair)

    def _factors_on(self, device: torch.device) -> Tensor | None:
        if self._factors is not None and self._factors.device != device:
            self._factors = self._factors.to(device)
        return self._factors


class RoundingLayer:
    """What the ``forward`` of a layer is while it trains for int8.

    It computes what the layer's class computes, with the weight that the layer has at the moment,
    rounded: whatever hook, mask or parametrization gives it. A norm behind it needs nothing: with
    one symmetric scale a channel, rounding and the norm's factor change places.

    Args:
        layer: of a kind that ``kind_of`` knows; it holds this object, and is held by it.
        input: ``None`` for a table.
        sums: told of what a convolution reads.
    """

    def __init__(
        self, layer: nn.Module, input: RoundedInput | None, sums: Sums | None = None
    ) -> None:
        self.layer, self._input, self._sums = layer, input, sums

    @torch.compiler.disable  # type: ignore[untyped-decorator]  # else Dynamo compiles it piece by piece
    def __call__(self, *args: Any, **kwargs: Any) -> Tensor:
        """Return the layer's output, whatever it calls its input."""
        layer: Any = self.layer
        if isinstance(layer, nn.EmbeddingBag):
            return _bag(layer, *args, **kwargs)
        (x,) = (*args, *kwargs.values())
        if isinstance(layer, nn.Embedding):
            return rounded_rows(nn.Embedding.forward(layer, x))
        assert self._input is not None
        weight = weight_of(layer)
        if self._sums is not None and self._input.is_plain and isinstance(layer, CONVOLUTIONS):
            self._sums.note(x, self._input)
        x = self._input.of(x, weight.dim() - 2)
        rounded = self._input.weight(layer, weight)
        if isinstance(layer, CONVOLUTIONS):
            found: Tensor = layer._conv_forward(x, rounded, layer.bias)
            return found
        return F.linear(x, rounded, layer.bias)


def _bag(
    layer: nn.EmbeddingBag,
    input: Tensor,
    offsets: Tensor | None = None,
    per_sample_weights: Tensor | None = None,
) -> Tensor:
    """Round the rows that are looked up, and put them together."""
    rows = F.embedding(
        input.reshape(-1),
        layer.weight,
        layer.padding_idx,
        scale_grad_by_freq=layer.scale_grad_by_freq,
        sparse=layer.sparse,
    )
    return bags_of(layer, rounded_rows(rows), input, offsets, per_sample_weights)
