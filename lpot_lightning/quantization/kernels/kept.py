"""Weights that are kept as integers, and computed with as floats."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from lpot_lightning.quantization.graph.tracing import is_private, is_tracing, paused
from lpot_lightning.quantization.kernels.arithmetic import Int8Weight
from lpot_lightning.quantization.kernels.own_types import OwnTypes
from lpot_lightning.quantization.kernels.pack import Pack


class KeptWeight(OwnTypes):
    """A weight of 8 bits: a quarter of the size in files, the same speed as in fp32.

    What is computed with is made once, and again when the integers have changed. It is held beside
    them: in memory a model takes more than in its files. Computing from the integers in each call
    does not pay (torch 2.13, AVX2): ``_weight_int8pack_mm`` takes 4 times as long as the fp32 layer
    for one row of floats, 30 times for a hundred.

    Args:
        weight: rounded.

    Attributes:
        op: of the user's model, that it computes for.
    """

    weight: Tensor
    scales: Tensor
    bias: Tensor | None

    def __init__(self, weight: Int8Weight) -> None:
        super().__init__()
        self.register_buffer("weight", weight.values)
        self.register_buffer("scales", weight.scales)
        self.register_buffer("bias", weight.bias)
        self.group_size, self.op = weight.group_size, ""
        self._made: Pack[Tensor] = Pack()

    def extra_repr(self) -> str:
        """Show what it holds."""
        groups = "" if self.group_size is None else f", groups of {self.group_size}"
        return f"{list(self.weight.shape)}{groups}"

    @property
    def rounded(self) -> Int8Weight:
        """The weight as it is now."""
        return Int8Weight(self.weight, self.scales, self.bias, self.group_size)

    def stands_for(self, weight: Tensor) -> bool:
        """Whether ``weight`` is one that is rounded to this one."""
        return self.rounded.stands_for(weight)

    @property
    def floats(self) -> Tensor:
        """The float32 weight that the integers stand for."""
        held: Any = self._buffers
        if torch.compiler.is_exporting():
            return self._exported()
        if is_tracing() and not is_private():
            return self._recorded()
        with paused():
            return self._made.of(self._floats, (), held["weight"], held["scales"])

    def _exported(self) -> Tensor:
        """Return the same of scales as they are: one for each value would be in the file."""
        flat, shape = self.weight.flatten(1), self.weight.shape
        size = min(self.group_size or flat.shape[1], flat.shape[1])
        if more := -flat.shape[1] % size:
            flat = F.pad(flat, (0, more))
        floats = flat.view(len(flat), -1, size).float() * self.scales.view(len(flat), -1, 1)
        return floats.flatten(1)[:, : shape[1:].numel()].reshape(shape)

    def _recorded(self) -> Tensor:
        """Return the same for a file that is to hold integers: see ``loaded``.

        What writes into memory is what ``torch.jit.freeze`` does not compute ahead (torch 2.13).
        """
        with paused():  # a tracer gives tensors for numbers
            shape, inputs = list(self.weight.shape), self.weight[0].numel()
            size = min(self.group_size or inputs, inputs)
            rows = F.pad(self.weight.flatten(1), (0, -inputs % size)).view(-1, size)
            scales = self.scales.view(-1, 1)
        floats = rows.float().mul_(scales)
        return floats.view(shape[0], -1)[:, :inputs].reshape(shape)

    def _floats(self, _: tuple[int, ...]) -> Tensor:
        return self.rounded.dequantize()
