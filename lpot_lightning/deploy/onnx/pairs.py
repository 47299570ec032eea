"""A program in floats, with the pairs of quantize and dequantize by which runtimes know int8.

What a runtime fuses into an int8 kernel is a layer between such pairs. Where they stand decides
whether it does: ONNX Runtime needs one directly behind a convolution (its docs, "Quantize ONNX
Models"), OpenVINO takes activations and sums in between.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lpot_lightning.quantization.kernels.arithmetic import Int8Weight
from lpot_lightning.quantization.kernels.grid import Grid
from lpot_lightning.quantization.kernels.layers import Int8Conv, Int8Layer, Int8Linear
from lpot_lightning.quantization.kernels.post_op import NONE, PostOp
from lpot_lightning.quantization.kernels.rows import Rows

_LIBRARY: Any = torch.library.Library("lpot_lightning", "FRAGMENT")  # type: ignore[no-untyped-call]
_LIBRARY.define("quantize_linear(Tensor x, Tensor scale, Tensor zero_point) -> Tensor")
_LIBRARY.define("dequantize_linear(Tensor x, Tensor scale, Tensor zero_point, int axis) -> Tensor")
_LIBRARY.define("as_floats(Tensor integers) -> Tensor")
_LIBRARY.define("matmul_add(Tensor x, Tensor weight, Tensor? bias) -> Tensor")
_CONVOLUTIONS: dict[int, Callable[..., Tensor]] = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
MOVED = 1e-4
"""Of a step: how far kernels differ in what they round, which they compute in float32."""
_MOST_BIAS = 2**30
"""Steps of a bias: those of 32 bits, with room for the sums that come to it."""


@torch.library.impl(_LIBRARY, "quantize_linear", "CompositeExplicitAutograd")
def _quantized(x: Tensor, scale: Tensor, zero_point: Tensor) -> Tensor:
    ends = torch.iinfo(zero_point.dtype)
    steps = torch.round(x / scale) + zero_point.float()  # ties to even, as ONNX has it
    return steps.clamp(ends.min, ends.max).to(zero_point.dtype)


@torch.library.impl(_LIBRARY, "dequantize_linear", "CompositeExplicitAutograd")
def _dequantized(x: Tensor, scale: Tensor, zero_point: Tensor, axis: int) -> Tensor:
    if scale.dim():
        shape = [1] * x.dim()
        shape[axis] = -1
        scale, zero_point = scale.view(shape), zero_point.view(shape)
    if x.dtype is torch.int32:  # more digits than a float32 has
        return (x.double() * scale).float()
    return (x.float() - zero_point.float()) * scale


@torch.library.impl(_LIBRARY, "as_floats", "CompositeExplicitAutograd")
def _as_floats(integers: Tensor) -> Tensor:
    return integers.float()


@torch.library.impl(_LIBRARY, "matmul_add", "CompositeExplicitAutograd")
def _multiplied(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    found = torch.matmul(x, weight)
    return found if bias is None else found + bias


@torch.library.register_fake("lpot_lightning::quantize_linear", lib=_LIBRARY)  # type: ignore[untyped-decorator]
def _quantize_fake(x: Tensor, scale: Tensor, zero_point: Tensor) -> Tensor:
    return torch.empty_like(x, dtype=zero_point.dtype)


@torch.library.register_fake("lpot_lightning::dequantize_linear", lib=_LIBRARY)  # type: ignore[untyped-decorator]
def _dequantize_fake(x: Tensor, scale: Tensor, zero_point: Tensor, axis: int) -> Tensor:
    return torch.empty_like(x, dtype=torch.float32)


@torch.library.register_fake("lpot_lightning::as_floats", lib=_LIBRARY)  # type: ignore[untyped-decorator]
def _floats_fake(integers: Tensor) -> Tensor:
    return torch.empty_like(integers, dtype=torch.float32)


@torch.library.register_fake("lpot_lightning::matmul_add", lib=_LIBRARY)  # type: ignore[untyped-decorator]
def _matmul_fake(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return x.new_empty((*x.shape[:-1], weight.shape[1]))


QUANTIZE: Callable[..., Tensor] = torch.ops.lpot_lightning.quantize_linear.default
"""ONNX's QuantizeLinear: floats, a scale and a zero point, which says the type of the integers."""
DEQUANTIZE: Callable[..., Tensor] = torch.ops.lpot_lightning.dequantize_linear.default
"""ONNX's DequantizeLinear: integers, scales, zero points, and the axis of those where they are
many."""
AS_FLOATS: Callable[..., Tensor] = torch.ops.lpot_lightning.as_floats.default
"""ONNX's Cast of integers that a file is to hold as such."""
LINEAR: Callable[..., Tensor] = torch.ops.lpot_lightning.matmul_add.default
"""``x @ weight + bias``: ONNX's Gemm for a matrix, else its MatMul and Add."""


class Cut(Enum):
    """Where what a grid of fewer than 8 bits has not is cut off, which runtimes know nothing of.

    OpenVINO does it to floats within the kernel before; ONNX Runtime has a pass of its own for it.
    """

    FLOATS = "floats"
    INTEGERS = "integers"
    NOWHERE = "nowhere"


class QuantizePair(nn.Module):
    """Quantize to a grid, and dequantize from it.

    Args:
        grid: see above.

    Attributes:
        cut: see there.
        beyond: while somebody counts: how many values were beyond the grid, and how many there
            were.
        moved: draws which way each value is moved by ``MOVED`` of a step before it is rounded, to
            see what that makes of the answers.
    """

    scale: Tensor
    zero_point: Tensor

    def __init__(self, grid: Grid) -> None:
        super().__init__()
        self.grid = grid
        whole = (grid.low, grid.high) in ((0, 255), (-128, 127))
        self.cut = Cut.NOWHERE if whole else Cut.INTEGERS
        self.beyond: tuple[int, int] | None = None
        self.moved: torch.Generator | None = None
        self.register_buffer("scale", torch.tensor(grid.scale, dtype=torch.float32))
        self.register_buffer("zero_point", torch.tensor(grid.zero_point, dtype=grid.dtype))

    def quantized(self, x: Tensor) -> Tensor:
        """Return the integers."""
        grid = self.grid
        if self.moved is not None:
            x = x + MOVED * self.scale * (torch.rand(x.shape, generator=self.moved) * 2 - 1)
        if self.cut is Cut.FLOATS:
            x = x.clamp(*((end - grid.zero_point) * grid.scale for end in (grid.low, grid.high)))
        integers = QUANTIZE(x, self.scale, self.zero_point)
        if self.beyond is not None:
            self._count(integers)
        return integers.clamp(grid.low, grid.high) if self.cut is Cut.INTEGERS else integers

    def _count(self, integers: Tensor) -> None:
        beyond, total = self.beyond or (0, 0)
        found = int((integers > self.grid.high).sum()) + int((integers < self.grid.low).sum())
        self.beyond = beyond + found, total + integers.numel()

    def dequantized(self, integers: Tensor) -> Tensor:
        """Return the floats that integers stand for."""
        return DEQUANTIZE(integers, self.scale, self.zero_point, 0)

    def forward(self, x: Tensor) -> Tensor:
        """Return the floats that are on the grid."""
        return self.dequantized(self.quantized(x))


class ToIntegers(QuantizePair):
    """The first half of a pair: floats to integers."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the integers."""
        return self.quantized(x)


class ToFloats(QuantizePair):
    """The other half of a pair: integers to floats."""

    def forward(self, integers: Tensor) -> Tensor:
        """Return the floats."""
        return self.dequantized(integers)


class ToRows(nn.Module):
    """Floats to integers, each row on a grid of its own, by a pair that takes steps of 1.

    ONNX has DynamicQuantizeLinear, for one grid of a whole tensor alone. OpenVINO 2026.4 computes
    the layer in floats where the steps are rounded by Round and Cast.

    Args:
        high: the greatest integer.
    """

    def __init__(self, high: int) -> None:
        super().__init__()
        self.high = high
        self.pair = QuantizePair(Grid(1.0, 0, 0, high))
        self.pair.cut = Cut.NOWHERE  # the greatest of a row is the greatest integer

    def forward(self, values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the integers, and scale and least value of each row."""
        x = values.float()
        _, scales, least = Rows.of(x, self.high)
        return self.pair.quantized((x - least) / scales), scales, least


class Between(nn.Module):
    """A pair on a grid that is still to be found: of values that no layer reads.

    It has 8 bits on every machine: kernels that add up products of integers do not read it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.ends: tuple[float, float] | None = None
        self.pair: QuantizePair | None = None

    def forward(self, x: Tensor) -> Tensor:
        """Return floats that are on the grid; before it is found, take note of them."""
        if self.pair is not None:
            found: Tensor = self.pair(x)
            return found
        if x.numel():
            least, most = (float(end) for end in x.aminmax())
            before = self.ends or (least, most)
            self.ends = min(least, before[0]), max(most, before[1])
        return x

    def settle(self) -> None:
        """Take the grid that holds all that was seen."""
        least, most = self.ends or (0.0, 0.0)
        self.pair = QuantizePair(Grid.over(least, most))


class PairedLayer(nn.Module):
    """A layer of a program between pairs: integers in, integers or floats out.

    Args:
        layer: of the program.
        whole_bias: whether the bias is written as 32 bit integers, as kernels of ONNX Runtime have
            it; else as floats.

    Attributes:
        between: a pair directly behind the layer, before a sum and an activation function.
        gate: a pair behind the sigmoid by which SiLU multiplies; ``None`` leaves that to floats.
        output: what makes the result integers, or a pair; ``None`` gives floats as they are.
        op: of the user's model.
    """

    weight: Tensor
    scales: Tensor
    zero_points: Tensor
    bias: Tensor | None
    bias_scales: Tensor

    def __init__(self, layer: Int8Layer, *, whole_bias: bool = False) -> None:
        super().__init__()
        self.op = layer.op
        self.input = ToFloats(layer.x)
        self.added = None if layer.added is None else ToFloats(layer.added)
        self.between: Between | None = None
        self.gate: Between | None = None
        self.output: QuantizePair | Between | None = (
            None if layer.out is None else ToIntegers(layer.out)
        )
        self.post_op = NONE if _is_done(layer.post_op, layer.out) else layer.post_op
        self.axis = 1 if isinstance(layer, Int8Linear) else 0
        rounded = _with_room(layer.rounded, layer.x) if whole_bias else layer.rounded
        self._hold(rounded, layer.x, whole_bias)

    def _hold(self, rounded: Int8Weight, x: Grid, whole_bias: bool) -> None:
        weight = rounded.values.t() if self.axis else rounded.values
        self.register_buffer("weight", weight.contiguous())
        self.register_buffer("scales", rounded.scales)
        zero_points = torch.zeros(len(rounded.scales), dtype=torch.int8)
        self.register_buffer("zero_points", zero_points)
        scales, bias = rounded.scales * x.scale, rounded.bias
        if whole_bias and bias is not None:
            bias = torch.round(bias.double() / scales.double()).to(torch.int32)
            self.register_buffer("bias_scales", scales)
            self.register_buffer("bias_zero_points", torch.zeros_like(bias))
        self.register_buffer("bias", bias)

    def forward(self, x: Tensor, other: Tensor | None = None) -> Tensor:
        """Return the result, of what is added too."""
        found = self.computed(self.input(x))
        if self.between is not None:
            found = self.between(found)
        if other is not None:
            found = found + (other if self.added is None else self.added(other))
        found = self.post_op(found) if self.gate is None else _gated(found, self.gate)
        return found if self.output is None else self.output(found)

    def computed(self, x: Tensor) -> Tensor:
        """Return what the layer gives of floats."""
        raise NotImplementedError

    def _weight(self) -> Tensor:
        return DEQUANTIZE(self.weight, self.scales, self.zero_points, self.axis)

    def _bias(self) -> Tensor | None:
        if self.bias is None or self.bias.is_floating_point():
            return self.bias
        return DEQUANTIZE(self.bias, self.bias_scales, self.bias_zero_points, 0)


class PairedLinear(PairedLayer):
    """A linear layer between pairs; its weight has the inputs first, as ONNX's MatMul has it."""

    def computed(self, x: Tensor) -> Tensor:
        """Return what the layer gives of floats."""
        return LINEAR(x, self._weight(), self._bias())


class PairedConv(PairedLayer):
    """A convolution between pairs."""

    def __init__(self, layer: Int8Conv, *, whole_bias: bool = False) -> None:
        super().__init__(layer, whole_bias=whole_bias)
        self.geometry = layer.geometry

    def computed(self, x: Tensor) -> Tensor:
        """Return what the layer gives of floats."""
        one, weight = self.geometry, self._weight()
        convolve = _CONVOLUTIONS[len(one.stride)]
        return convolve(x, weight, self._bias(), one.stride, one.padding, one.dilation, one.groups)


def _gated(x: Tensor, gate: Between) -> Tensor:
    """Return SiLU as ONNX Runtime computes it of integers: it has a table for sigmoids."""
    found: Tensor = x * gate(torch.sigmoid(x))
    return found


def _is_done(post_op: PostOp, out: Grid | None) -> bool:
    """Whether quantizing to ``out`` does what an activation function does: cuts off."""
    if out is None:
        return False
    least, most = ((end - out.zero_point) * out.scale for end in (out.low, out.high))
    ends = {"relu": (0.0, float("inf")), "hardtanh": post_op.args}.get(post_op.name)
    return ends is not None and least >= ends[0] and most <= ends[1] + out.scale / 2


def _with_room(rounded: Int8Weight, x: Grid) -> Int8Weight:
    """Return a weight on whose scales its bias has no more than 31 bits.

    Channels that hardly do anything but give their bias have such scales, as those of a BatchNorm
    with a tiny factor. ONNX Runtime 1.32 cuts such a bias off, and says nothing.
    """
    if rounded.bias is None:
        return rounded
    least = rounded.bias.abs() / (x.scale * _MOST_BIAS)
    scales = torch.maximum(rounded.scales, least)
    shape = [-1] + [1] * (rounded.values.dim() - 1)
    values = torch.round(rounded.values * (rounded.scales / scales).view(shape)).to(torch.int8)
    return Int8Weight(values, scales, rounded.bias)
