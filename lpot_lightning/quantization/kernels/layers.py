"""Layers with a weight, from integers to integers or floats."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from lpot_lightning.quantization.graph.tracing import is_tracing
from lpot_lightning.quantization.kernels import arithmetic
from lpot_lightning.quantization.kernels.arithmetic import ConvGeometry, Int8Weight
from lpot_lightning.quantization.kernels.grid import Grid
from lpot_lightning.quantization.kernels.own_types import OwnTypes
from lpot_lightning.quantization.kernels.pack import Pack, Sizes
from lpot_lightning.quantization.kernels.post_op import NONE, PostOp
from lpot_lightning.quantization.kernels.recorded import recorded
from lpot_lightning.quantization.kernels.saturation import saturates

Scale = tuple[float, int, torch.dtype]
"""Scale, zero point and type of what a kernel gives."""
FLOATS: Scale = (1.0, 0, torch.float32)
_ONEDNN = torch.ops.onednn
_LINEAR, _CONV = _ONEDNN.qlinear_pointwise.default, _ONEDNN.qconv_pointwise.default
LINEAR_POST_OPS = (
    "none", "relu", "hardtanh", "hardswish", "swish", "leaky_relu", "tanh", "gelu"
)  # fmt: skip
CONV_POST_OPS = ("none", "relu", "hardtanh", "hardswish", "swish")
"""Of one or two dimensions; oneDNN's three-dimensional one takes none (torch 2.13)."""
COLUMN = [1, 1], [0, 0], [1, 1], 1
"""How a convolution goes over an image of one column."""
MOST_OF_8_BITS = 255
_MANY_ROWS = 16
SUM_POST_OPS = ("none", "relu")


class Int8Layer(OwnTypes):
    """A layer with a weight, of integers on a grid.

    Its tensors are buffers, so that they are saved, loaded and copied as those of any module; what
    the kernel has prepared of them is not.

    Args:
        weight: rounded.
        x: the grid of the input.
        out: the grid of the output; ``None`` gives float32.
        post_op: the activation function.

    Attributes:
        added: the grid of what is added, where that are integers.
        shapes: takes those of inputs, while somebody wants to know them.
        exact: whether plain torch computes in place of the kernel: right on any CPU, and slow.
        scale: what the kernel is told of the grid of the output.
        is_narrow: whether that grid has fewer than 8 bits, of which kernels know nothing.
        op: of the user's model, that it computes for.
        is_trained: whether the grid of the input is what weights were trained with.
    """

    weight: Tensor
    scales: Tensor
    bias: Tensor | None
    zeros: Tensor
    post_ops: tuple[str, ...] = ("none",)

    def __init__(
        self, weight: Int8Weight, x: Grid, out: Grid | None = None, post_op: PostOp = NONE
    ) -> None:
        super().__init__()
        self.register_buffer("weight", weight.values)
        self.register_buffer("scales", weight.scales)
        self.register_buffer("bias", weight.bias)
        zeros = torch.zeros(len(weight.scales), dtype=torch.int32)
        self.register_buffer("zeros", zeros, persistent=False)
        self.x, self.out, self.post_op = x, out, post_op
        self.added: Grid | None = None
        self.exact, self.op, self.is_trained = False, "", False
        self.shapes: list[Sizes] | None = None
        self._pack: Pack[Tensor] = Pack()
        self.scale = FLOATS if out is None else (out.scale, out.zero_point, out.dtype)
        self.is_narrow = out is not None and (out.low, out.high) not in ((0, 255), (-128, 127))

    def extra_repr(self) -> str:
        """Show what it does."""
        out = "float32" if self.out is None else str(self.out)
        post_op = "" if self.post_op == NONE else f", {self.post_op.name}"
        return f"{list(self.weight.shape)}, {self.x} -> {out}{post_op}"

    @property
    def rounded(self) -> Int8Weight:
        """The weight as it is now."""
        return Int8Weight(self.weight, self.scales, self.bias)

    def stands_for(self, weight: Tensor) -> bool:
        """Whether ``weight`` is one that is rounded to this one."""
        return self.rounded.stands_for(weight)

    @property
    def kind(self) -> tuple[Any, ...]:
        """What decides by which code oneDNN computes, as far as that is known.

        Scales and zero points are numbers that the code reads; one of 0 may be left out.
        """
        grids = [one and (one.zero_point != 0, one.low, one.high) for one in (self.x, self.out)]
        return type(self), self.weight.shape, *grids, self.post_op, self.added is None

    def like(
        self,
        weight: Int8Weight,
        out: Grid | None,
        post_op: PostOp | None = None,
        x: Grid | None = None,
    ) -> Int8Layer:
        """Return another one, for the same input by default, by the kernel or by plain torch as
        this one.
        """
        post_op = self.post_op if post_op is None else post_op
        made = self._like(weight, self.x if x is None else x, out, post_op)
        made.exact, made.op, made.is_trained = self.exact, self.op, self.is_trained
        return made

    def _like(self, weight: Int8Weight, x: Grid, out: Grid | None, post_op: PostOp) -> Int8Layer:
        return type(self)(weight, x, out, post_op)

    def forward(self, x: Tensor, other: Tensor | None = None) -> Tensor:
        """Return the result of integers on the grid ``x``.

        Args:
            x: integers, of the type of the grid.
            other: of the shape of the result, is added before the post op: floats, or integers on
                the grid ``added``. A convolution may write its result there.
        """
        if self.shapes is not None:
            self.shapes.append(tuple(x.shape))
        if self.exact or not self._has_kernel(x):
            return arithmetic.finished(self._exact(x), self.out, self.post_op, self.floats(other))
        try:
            found = self._by_kernel(x, other)
        except (RuntimeError, IndexError) as error:  # oneDNN's words are none for users
            if misfit := self._misfit(tuple(x.shape)):
                raise RuntimeError(misfit) from error
            raise
        if not is_tracing() and not found.numel() and (misfit := self._misfit(tuple(x.shape))):
            raise RuntimeError(misfit)
        return found

    def _misfit(self, shape: Sizes) -> str:
        """Return why an input of ``shape`` does not fit; empty if it does."""
        raise NotImplementedError

    def _by_kernel(self, x: Tensor, other: Tensor | None) -> Tensor:
        if self.fuses(other):
            found = self._kernel(x, self.scale, self.post_op, other)
            out = self.out  # kernels know nothing of grids of fewer than 8 bits
            return found.clamp_(out.low, out.high) if self.is_narrow and out else found
        values = self._kernel(x, FLOATS, NONE, None)
        added = self.floats(other)
        values = values if added is None else values.add_(added)
        return arithmetic.finished(values, self.out, self.post_op)

    def floats(self, other: Tensor | None) -> Tensor | None:
        """Return the floats that ``other`` stands for."""
        return other if other is None or self.added is None else self.added.dequantize(other)

    def _has_kernel(self, x: Tensor) -> bool:
        return x.device.type == "cpu" and (is_tracing() or x.numel() > 0)

    def fuses(self, other: Tensor | None) -> bool:
        """Return whether the kernel itself adds ``other``, and does the post op."""
        return other is None and self.post_op.name in self.post_ops

    def has_kernel_for(self, x: Tensor) -> bool:
        """Whether a kernel computes of ``x``, as it is laid."""
        return not self.exact and self._has_kernel(x)

    def pack_for(self, x: Tensor) -> Tensor:
        """Return the weight as the kernel wants it for inputs like ``x``."""
        return self._prepared(tuple(x.shape))

    def _prepared(self, shape: Sizes) -> Tensor:
        """Return the weight for inputs of ``shape``; what is recorded packs it by itself."""
        held: Any = self._buffers
        if is_tracing():
            return self._as_kernels_want()
        return self._pack.of(self._packed, shape, held["weight"], held["scales"])

    def _as_kernels_want(self) -> Tensor:
        return self.weight

    def _packed(self, shape: Sizes) -> Tensor:
        raise NotImplementedError

    def _exact(self, x: Tensor) -> Tensor:
        raise NotImplementedError

    def _kernel(self, x: Tensor, scale: Scale, post_op: PostOp, other: Tensor | None) -> Tensor:
        raise NotImplementedError


class Int8Linear(Int8Layer):
    """``x @ weight.T + bias`` of integers; the input may have any number of leading dimensions.

    On CPUs without VNNI, and of 7 bits, the kernel of a convolution computes, of an image of one
    column: that of a linear layer packs its weight anew in each call, and takes three
    times as long for one row of 1024 values, 1.2 times for 128 (torch 2.13, AVX2).

    Example::

        grid = Grid.over(-2.0, 2.0)
        layer = Int8Linear(Int8Weight.of(fp32.weight, fp32.bias), grid)
        layer(grid.quantize(x))  # float32
    """

    def __init__(
        self, weight: Int8Weight, x: Grid, out: Grid | None = None, post_op: PostOp = NONE
    ) -> None:
        super().__init__(weight, x, out, post_op)
        self.outputs, self.inputs = weight.values.shape
        self.by_convolution = x.low >= 0 and (x.high < MOST_OF_8_BITS or saturates())
        self.post_ops = CONV_POST_OPS if self.by_convolution else LINEAR_POST_OPS

    def pack_for(self, x: Tensor) -> Tensor:
        """Return the weight as the kernel wants it for rows like ``x``."""
        if is_tracing():  # whose sizes are no numbers
            return self._as_kernels_want()
        return self._prepared((self.places(x.numel()),) if self.by_convolution else ())

    def places(self, values: int) -> int:
        """Return for how many rows the kernel of a convolution lays its weight."""
        return _MANY_ROWS if values > self.inputs else 1

    def _packed(self, shape: Sizes) -> Tensor:
        if self.by_convolution:
            return self.packed(self._as_kernels_want(), *shape)
        packed: Tensor = _ONEDNN.qlinear_prepack(self.weight, None)  # one layout suits all shapes
        return packed

    def packed(self, weight: Tensor, places: int) -> Tensor:
        """Return a weight, with two dimensions more, as the kernel of a convolution wants it."""
        shape, grid = [1, weight.shape[1], places, 1], self.x
        given = weight, self.scales, grid.scale, grid.zero_point
        laid: Tensor = _ONEDNN.qconv_prepack(*given, *COLUMN, shape)
        return laid

    def _as_kernels_want(self) -> Tensor:
        return self.weight[:, :, None, None] if self.by_convolution else self.weight

    def _exact(self, x: Tensor) -> Tensor:
        return arithmetic.linear(x, self.x, self.rounded)

    def _misfit(self, shape: Sizes) -> str:
        inputs = self.weight.shape[1]
        fits = bool(shape) and shape[-1] == inputs
        return "" if fits else f"a linear layer of {inputs} inputs got {list(shape)}"

    def fuses(self, other: Tensor | None) -> bool:
        if other is None:
            return self.post_op.name in self.post_ops
        adds = self.added is None and not self.by_convolution
        return adds and self.post_op.name in SUM_POST_OPS

    def _kernel(self, x: Tensor, scale: Scale, post_op: PostOp, other: Tensor | None) -> Tensor:
        held: Any = self._buffers
        grid, bias, post = self.x, held["bias"], post_op.told
        given = grid.scale, grid.zero_point, self.pack_for(x), held["scales"], held["zeros"]
        if self.by_convolution:
            column = called(_CONV)(self.laid(x), *given, bias, *COLUMN, *scale, *post)
            return self.laid_back(column, x)
        if other is None:
            found: Tensor = called(_LINEAR)(x, *given, bias, *scale, *post)
            return found
        added = 1.0, 0, "add", 1.0
        kernel = called(_ONEDNN.qlinear_pointwise.binary)
        summed: Tensor = kernel(x, *given, other, bias, *scale, *added, *post)
        return summed

    def laid(self, x: Tensor) -> Tensor:
        """Return rows as an image of one column, whose channels come last as they lie."""
        return x.reshape(1, -1, 1, self.inputs).permute(0, 3, 1, 2)

    def laid_back(self, found: Tensor, x: Tensor) -> Tensor:
        """Return what comes of ``laid``, as that of ``x``."""
        return found.permute(0, 2, 3, 1).reshape(*x.shape[:-1], self.outputs)


class Int8Conv(Int8Layer):
    """A convolution of integers in one, two or three dimensions, with zeros around the input.

    Args:
        weight: rounded.
        x: the grid of the input; oneDNN has kernels for ``uint8`` only.
        geometry: how it goes over the input.
        out: the grid of the output; ``None`` gives float32.
        post_op: the activation function.
    """

    def __init__(
        self,
        weight: Int8Weight,
        x: Grid,
        geometry: ConvGeometry,
        out: Grid | None = None,
        post_op: PostOp = NONE,
    ) -> None:
        super().__init__(weight, x, out, post_op)
        self.geometry = geometry
        self.post_ops = CONV_POST_OPS if len(geometry.stride) < 3 else ("none",)
        self.places = _places(geometry)

    @property
    def kind(self) -> tuple[Any, ...]:
        """What decides by which code oneDNN computes, as far as that is known."""
        return *super().kind, self.geometry

    def _like(self, weight: Int8Weight, x: Grid, out: Grid | None, post_op: PostOp) -> Int8Conv:
        return Int8Conv(weight, x, self.geometry, out, post_op)

    def _packed(self, shape: Sizes) -> Tensor:
        weight, grid = self._as_kernels_want(), self.x
        packed: Tensor = _ONEDNN.qconv_prepack(
            weight, self.scales, grid.scale, grid.zero_point, *self.places, list(shape)
        )
        return packed

    def _as_kernels_want(self) -> Tensor:
        return self.weight.unsqueeze(2) if self.weight.dim() == 3 else self.weight

    def _exact(self, x: Tensor) -> Tensor:
        return arithmetic.conv(x, self.x, self.rounded, self.geometry)

    def _misfit(self, shape: Sizes) -> str:
        one, sizes = self.geometry, self.weight.shape[2:]
        channels, dims = self.weight.shape[1] * one.groups, len(sizes)
        if len(shape) not in (dims + 1, dims + 2) or shape[-dims - 1] != channels:
            return f"a convolution of {channels} channels in {dims} dimensions got {list(shape)}"
        given = zip(shape[-dims:], one.padding, one.dilation, sizes, strict=True)
        fits = all(size + 2 * border > d * (kernel - 1) for size, border, d, kernel in given)
        return "" if fits else f"a kernel of {list(sizes)} is greater than its input {list(shape)}"

    def has_kernel_for(self, x: Tensor) -> bool:
        """Whether a kernel computes of a batch; a single sample is made one."""
        return x.dim() == len(self.geometry.stride) + 2 and super().has_kernel_for(x)

    def pack_for(self, x: Tensor) -> Tensor:
        """Return the weight as the kernel wants it for batches like ``x``."""
        return super().pack_for(x.unsqueeze(2) if len(self.geometry.stride) == 1 else x)

    def _has_kernel(self, x: Tensor) -> bool:
        return self.x.low >= 0 and super()._has_kernel(x)

    def fuses(self, other: Tensor | None) -> bool:
        if other is None:
            return self.post_op.name in self.post_ops
        # oneDNN gives something else for floats and integers, and is slow for floats (torch 2.13)
        integers = self.added is not None and self.out is not None
        batched = other.dim() == self.weight.dim() == 4
        return integers and batched and self.post_op.name in SUM_POST_OPS

    def _kernel(self, x: Tensor, scale: Scale, post_op: PostOp, other: Tensor | None) -> Tensor:
        held: Any = self._buffers
        grid, dims = self.x, len(self.geometry.stride)
        batched = x if x.dim() == dims + 2 else x[None]  # oneDNN takes no single sample
        batched = batched.unsqueeze(2) if dims == 1 else batched  # else it does no post op
        weight = self._prepared(tuple(batched.shape))
        given = batched, grid.scale, grid.zero_point, weight, held["scales"], held["zeros"]
        post = post_op.told
        if other is not None:
            return self._added_up(given, scale, post, other)
        found: Tensor = called(_CONV)(*given, held["bias"], *self.places, *scale, *post)
        found = found.squeeze(2) if dims == 1 else found
        return found if x.dim() == dims + 2 else found[0]

    def _added_up(self, given: Any, scale: Scale, post: Any, other: Tensor) -> Tensor:
        grid = self.added
        assert grid is not None
        laid = other.contiguous(memory_format=torch.channels_last)  # as the kernel writes it
        added = grid.scale, grid.zero_point, "sum", 1.0
        kernel = called(_ONEDNN.qconv2d_pointwise.binary)
        found: Tensor = kernel(*given, laid, self.bias, *self.places, *scale, *added, *post)
        return found


def called(kernel: Any) -> Callable[..., Tensor]:
    """Return ``kernel``, or what records it."""
    return recorded(kernel) if is_tracing() else kernel


def _places(geometry: ConvGeometry) -> tuple[list[int], list[int], list[int], int]:
    """Return stride, padding, dilation and groups as oneDNN takes them."""
    flat = len(geometry.stride) == 1
    stride, padding, dilation = (
        [*own, *each] if flat else [*each]
        for own, each in (
            ((1,), geometry.stride),
            ((0,), geometry.padding),
            ((1,), geometry.dilation),
        )
    )
    return stride, padding, dilation, geometry.groups
