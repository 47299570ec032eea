"""Layers below static int8: ranges found when they compute, weights alone in 8 bits, bfloat16."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeAlias, TypeVar

import torch.nn.functional as F
from torch import Tensor, nn

from lpot_lightning.quantization.graph.weight_calls import computed
from lpot_lightning.quantization.kernels.arithmetic import Int8Weight
from lpot_lightning.quantization.kernels.bf16 import BF16, Bf16Weight
from lpot_lightning.quantization.kernels.bounds import WHOLE, Bounds
from lpot_lightning.quantization.kernels.kept import KeptWeight
from lpot_lightning.quantization.kernels.rows import Int8Rows, Rows
from lpot_lightning.quantization.one_line import OneLine, of_weight
from lpot_lightning.quantization.quantized_layer import (
    CONVOLUTIONS,
    RECURRENT,
    Int8Form,
    QuantizedLayer,
    weight_of,
)
from lpot_lightning.quantization.recurrent import RecurrentLayerForm, recurrent_on_rung
from lpot_lightning.recipe import OpConfig, Rung


class DynamicLayer(OneLine):
    """Computes for a linear layer: each row of its input is quantized on a grid of its own.

    Nothing has to be known of the input before. What comes of a row does not hang on others beside
    it: a decoder gives the same with a cache and without.

    Args:
        kernel: gives float32.
    """

    rung = Rung.DYNAMIC

    def __init__(self, kernel: Int8Rows) -> None:
        super().__init__()
        self.kernel = kernel

    def _told(self) -> str:
        return "scales=one a row of the input"

    def forward(self, input: Tensor) -> Tensor:
        """Return the layer's output, of the type of the input."""
        found = self.kernel.product(Rows.of(input, self.kernel.high))
        return found.to(input.dtype)

    def kernel_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape that the kernel gets for an input of ``shape``, with a batch."""
        return (1, *shape) if len(shape) < 2 else shape


Weight = TypeVar("Weight", KeptWeight, Bf16Weight)


class SmallerWeight(OneLine, Generic[Weight]):
    """Computes for a linear layer or a convolution in floats, with a weight that is kept smaller.

    Args:
        kernel: holds the weight.
        function: ``linear``, ``conv1d``, ``conv2d`` or ``conv3d``.
        numbers: stride, padding and dilation of each dimension, and the groups of a convolution.
        padding: where it is named.
        border: how many values are put around the input first, as ``F.pad`` takes it.
        mode: with what, of ``F.pad``.
    """

    def __init__(
        self,
        kernel: Weight,
        function: str = "linear",
        numbers: tuple[int, ...] = (),
        padding: str = "",
        *,
        border: tuple[int, ...] = (),
        mode: str = "constant",
    ) -> None:
        super().__init__()
        self.kernel: Weight = kernel
        self.function, self.numbers, self.padding = function, numbers, padding
        self.border, self.mode = border, mode

    def forward(self, input: Tensor) -> Tensor:
        """Return the layer's output, of the type of the input."""
        bias = self.kernel.bias
        bias = None if bias is None else bias.to(input.dtype)
        return self.computed(input, self.kernel.floats.to(input.dtype), bias)

    def computed(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Return what comes of a weight of the type of the input."""
        x = F.pad(input, self.border, self.mode) if self.border else input
        return computed(self.function, x, weight, bias, self.numbers, self.padding)


class WeightOnlyLayer(SmallerWeight[KeptWeight]):
    """Computes in the type of the input, with a weight kept as integers."""

    rung = Rung.WEIGHT_ONLY

    def _told(self) -> str:
        return f"scales={of_weight(self.kernel.group_size)}"


class Bf16Layer(SmallerWeight[Bf16Weight]):
    """Computes for a linear layer or a convolution in bfloat16, as torch does it.

    What reads and gives bfloat16 need not be cast on the way to it.
    """

    rung = Rung.BF16

    def forward(self, input: Tensor) -> Tensor:
        """Return the layer's output, of the type of the input."""
        return super().forward(input.to(BF16)).to(input.dtype)


Form = TypeVar("Form", WeightOnlyLayer, Bf16Layer)
RungForm: TypeAlias = DynamicLayer | WeightOnlyLayer | Bf16Layer
"""What computes for a layer below static int8."""
WeightForm: TypeAlias = QuantizedLayer | RungForm
"""What computes for a layer, or a function, with a weight: its ``kernel`` holds that."""
LayerForm: TypeAlias = Int8Form | RungForm | RecurrentLayerForm
"""What computes for any layer that is not in fp32."""


def on_rung(layer: nn.Module, config: OpConfig, *, bounds: Bounds, empty: bool = False) -> RungForm:
    """Return what computes for a linear layer or a convolution on a rung below static int8.

    Args:
        layer: of a kind that ``kind_of`` knows, with finite weights; it is left as it is.
        config: of the rung.
        bounds: of integers that are multiplied.
        empty: whether the tensors are to be filled: they hold no values.

    Example::

        int8 = on_rung(nn.Linear(8, 4), DYNAMIC, bounds=PAIRED)
        int8(torch.randn(2, 8))
    """
    if config.rung is Rung.BF16:
        return _computing(Bf16Layer, layer, _narrow(layer, empty=empty))
    size = config.weight.group_size if config.weight is not None else None
    if config.rung is Rung.DYNAMIC:
        rounded = _rounded(layer, size, bounds.pair, empty=empty)
        return DynamicLayer(Int8Rows(rounded, bounds.high))
    weight = _rounded(layer, size, WHOLE.pair, empty=empty)
    return _computing(WeightOnlyLayer, layer, KeptWeight(weight))


def _narrow(layer: nn.Module, *, empty: bool) -> Bf16Weight:
    make = Bf16Weight.like if empty else Bf16Weight.of
    return make(weight_of(layer), layer.bias)  # type: ignore[arg-type]


def layer_on_rung(
    layer: nn.Module, config: OpConfig, *, bounds: Bounds, empty: bool = False
) -> RungForm | RecurrentLayerForm:
    """Return what ``on_rung`` or ``recurrent_on_rung`` does, whichever is for ``layer``."""
    make = recurrent_on_rung if isinstance(layer, RECURRENT) else on_rung
    return make(layer, config, bounds=bounds, empty=empty)


def _rounded(layer: nn.Module, group_size: int | None, pair: int, *, empty: bool) -> Int8Weight:
    weight, bias = weight_of(layer), layer.bias
    if empty:
        return Int8Weight.like(weight, bias=bias is not None, group_size=group_size)
    return Int8Weight.of(weight, bias, group_size, pair)  # type: ignore[arg-type]


def _computing(form: Callable[..., Form], layer: Any, kernel: KeptWeight | Bf16Weight) -> Form:
    if not isinstance(layer, CONVOLUTIONS):
        return form(kernel)
    function = f"conv{len(layer.stride)}d"
    named = layer.padding if isinstance(layer.padding, str) else ""
    inside: Any = (0,) * len(layer.stride) if named else layer.padding
    if layer.padding_mode == "zeros":
        numbers = (*layer.stride, *inside, *layer.dilation, layer.groups)
        return form(kernel, function, numbers, named)
    numbers = (*layer.stride, *[0] * len(layer.stride), *layer.dilation, layer.groups)
    border = tuple(layer._reversed_padding_repeated_twice)
    return form(kernel, function, numbers, border=border, mode=layer.padding_mode)
