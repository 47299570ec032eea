"""What a layer reads on average, at each place of its kernel."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lpot_lightning.quantization.fx.layer import Conv, LinearLayer

Seen = tuple[list[float], float]
"""Sums, and over how many outputs of a channel."""


class InputMean:
    """Watches a layer; afterwards it knows the mean change of its output for any change of weight.

    A linear map commutes with the mean: over the calibration data, the outputs of a channel move
    on average by the change of its weight times the mean of what each weight was multiplied with.
    That mean is exact at borders too, where padding and strides let a weight see other pixels than
    its neighbour. It is the gradient of the sum of the outputs by the weight, which torch computes
    for the sum of a batch as fast as for one image.
    """

    def __init__(self, layer: LinearLayer) -> None:
        self.awake = True
        self._layer = layer
        self._sum: Tensor | None = None
        self._count = 0.0

    def see(self, module: nn.Module, args: Any, kwargs: Any, output: Tensor) -> None:
        """Take in one call of the layer."""
        x = (args[0] if args else kwargs["input"]).float()
        if not self.awake or not x.numel():
            return
        total = self._of_conv(x, output) if isinstance(self._layer.inner, Conv) else _of_linear(x)
        self._sum = total if self._sum is None else self._sum + total
        self._count += output.numel() / self._layer.outputs

    def _of_conv(self, x: Tensor, output: Tensor) -> Tensor:
        conv, groups = self._layer.inner, self._layer.groups
        assert isinstance(conv, Conv)
        n = self._layer.spatial
        x = x.reshape(-1, *x.shape[-n - 1 :]).sum(0, keepdim=True)
        padding = conv.padding
        if conv.padding_mode != "zeros":
            x = F.pad(x, conv._reversed_padding_repeated_twice, mode=conv.padding_mode)
            padding = (0,) * n
        shape = list(conv.weight.shape)
        shape[1 if self._layer.transposed else 0] //= self._layer.outputs_of_group
        ones = torch.ones(1, groups, *output.shape[-n:])
        _, found, _ = torch.ops.aten.convolution_backward(
            ones, x, torch.zeros(shape), None, conv.stride, padding, conv.dilation,
            conv.transposed, conv.output_padding, groups, [False, True, False],
        )  # fmt: skip
        return self._by_groups(found.double())

    def _by_groups(self, sums: Tensor) -> Tensor:
        groups = self._layer.groups
        return sums.reshape(groups, 1, self._layer.inputs // groups, -1)

    @property
    def mean(self) -> Tensor | None:
        """As ``[groups, 1, inputs, kernel]``; ``None`` before any data."""
        return None if self._sum is None else (self._sum / self._count).float()

    def statistics(self) -> Seen:
        """Return what was seen, to be merged with what was seen elsewhere."""
        return ([] if self._sum is None else self._sum.flatten().tolist()), self._count

    def merge(self, seen: Iterable[Seen]) -> None:
        """Take all of ``seen`` as if it had been seen here, and only that."""
        filled = [one for one in seen if one[1]]
        if filled:
            sums = torch.tensor([sums for sums, _ in filled], dtype=torch.float64).sum(0)
            self._sum = self._by_groups(sums)
            self._count = sum(count for _, count in filled)


def _of_linear(x: Tensor) -> Tensor:
    return x.double().reshape(-1, x.shape[-1]).sum(0).reshape(1, 1, -1, 1)
