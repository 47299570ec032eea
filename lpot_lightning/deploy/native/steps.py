"""Steps of a program as modules that call ops of torch alone, for what writes files of these."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any, TypeGuard

import torch
from torch import Tensor, fx, nn

from lpot_lightning.deploy.held_rows import HeldRescale
from lpot_lightning.deploy.plain_program import plain_program
from lpot_lightning.deploy.whole_graph import WholeGraph
from lpot_lightning.quantization.kernels.bound import Kernel, kernel_for, unheld_kernel
from lpot_lightning.quantization.kernels.layers import FLOATS, Int8Conv, Int8Layer, Int8Linear
from lpot_lightning.quantization.kernels.pack import Sizes
from lpot_lightning.quantization.kernels.post_op import NONE
from lpot_lightning.quantization.kernels.proof import leave_to_arithmetic, shapes_seen
from lpot_lightning.quantization.kernels.rows import Rescale
from lpot_lightning.quantization.program.draft import Drafted

_ONEDNN = torch.ops.onednn


def native_program(whole: WholeGraph, *, writes: bool = True) -> fx.GraphModule:
    """Return what computes ``whole`` by ops of torch alone.

    Weights are int8, and are packed in each call. What a kernel gets wrong on this machine, for
    inputs of the sizes of the example, is computed by plain arithmetic, as in the model itself.

    Args:
        whole: see there.
        writes: whether kernels may write to what they are given, as they do in the model; a graph
            of functions alone cannot hold that. With it the bits are those of the model.
    """
    draft = whole.program.drafted(whole.values)
    draft.finish()
    shapes = _proved(whole, draft)

    def step_of(step: nn.Module, _: fx.Node) -> nn.Module:
        if isinstance(step, Int8Layer):
            return NativeLayer(step, shapes[step], writes=writes)
        return HeldRescale(step) if isinstance(step, Rescale) else step

    return _as_given(plain_program(whole, draft, step_of), whole)


def _as_given(program: fx.GraphModule, whole: WholeGraph) -> fx.GraphModule:
    """Let a program give a tensor where the method does, and no tuple of one."""
    if whole.given.spec.is_leaf():
        output = program.graph.output_node()
        results: Any = output.args[0]
        output.args = tuple(results)
        program.recompile()
    return program


def _proved(whole: WholeGraph, draft: Drafted) -> dict[Int8Layer, Sizes]:
    """Return of which shape the input of each kernel is; those that are wrong compute no more."""
    kernels = [one for one in draft.module.modules() if isinstance(one, Int8Layer)]
    run = plain_program(whole, draft, lambda step, _: step)
    with torch.no_grad(), shapes_seen(kernels) as seen:
        run(*(one.value for one in whole.inputs))
    leave_to_arithmetic(seen)
    return {one: shapes[0] for one, shapes in seen.items() if shapes}


class NativeLayer(nn.Module):
    """A layer with a weight, of integers, that packs its weight by an op in each call.

    Args:
        layer: has the weight, and says what to compute.
        shape: of its input, which a convolution packs its weight for.
        writes: see ``native_program``.
    """

    weight: Tensor

    def __init__(self, layer: Int8Layer, shape: Sizes, *, writes: bool = True) -> None:
        super().__init__()
        self.layer, self.shape, self.writes = layer, shape, writes
        if isinstance(layer, Int8Conv) and layer.weight.dim() == 3:  # as its kernel takes it
            self.register_buffer("weight", layer.weight.unsqueeze(2))
        elif _is_column(layer):
            self.register_buffer("weight", layer.weight[:, :, None, None])
        else:
            self.register_buffer("weight", layer.weight)

    def forward(self, x: Tensor, *other: Tensor) -> Tensor:
        """Return what the layer gives."""
        layer = self.layer
        if layer.exact or (layer.x.low < 0 and isinstance(layer, Int8Conv)):  # there is no kernel
            found: Tensor = layer.forward(x, *other)
            return found
        kernel = self._kernel(other[0] if other else None)
        if not isinstance(layer, Int8Conv) or x.dim() == layer.weight.dim():
            return kernel(x, self._pack(), *other)
        return kernel(x[None], self._pack(), *(one[None] for one in other))[0]

    def _kernel(self, other: Tensor | None) -> Kernel:
        """Return what computes of an input, its pack, and what is added."""
        layer = self.layer
        if self.writes or not layer.fuses(other):
            return kernel_for(layer, other, _with_lists)
        if isinstance(layer, Int8Conv) and other is not None:
            return _adding(layer)
        kernel = unheld_kernel(layer, layer.scale, layer.post_op, other, _with_lists)
        return _within(layer, kernel) if layer.is_narrow else kernel

    def _pack(self) -> Tensor:
        layer = self.layer
        if _is_column(layer):
            return layer.packed(self.weight, layer.places(prod(self.shape)))
        if not isinstance(layer, Int8Conv):
            packed: Tensor = _ONEDNN.qlinear_prepack(self.weight, None)
            return packed
        dims, shape = layer.weight.dim(), list(self.shape)
        shape = shape if len(shape) == dims else [1, *shape]
        shape = [*shape[:2], 1, *shape[2:]] if dims == 3 else shape
        given = self.weight, layer.scales, layer.x.scale, layer.x.zero_point
        laid: Tensor = _ONEDNN.qconv_prepack(*given, *layer.places, shape)
        return laid


def _is_column(layer: Int8Layer) -> TypeGuard[Int8Linear]:
    return isinstance(layer, Int8Linear) and layer.by_convolution


def _adding(layer: Int8Conv) -> Kernel:
    """Return what the kernel gives that writes to what it adds to, rounded as that does it.

    It adds in one step what the integers stand for, and goes to the grid of the result in two. On a
    ResNet-50 2 of 31 million values were a step beside (torch 2.13).
    """
    floats = unheld_kernel(layer, FLOATS, NONE, None, _with_lists)
    added, out = layer.added, layer.out
    assert added is not None
    assert out is not None

    def summed(x: Tensor, pack: Tensor, other: Tensor) -> Tensor:
        steps = other.to(torch.float32) - added.zero_point
        values = layer.post_op(torch.add(floats(x, pack), steps, alpha=added.scale))
        held = (values * (1.0 / out.scale) + out.zero_point).round().clamp(out.low, out.high)
        return held.to(out.dtype)

    return summed


def _within(layer: Int8Layer, kernel: Kernel) -> Kernel:
    """Return ``kernel`` with its result held to a grid of fewer than 8 bits.

    Inductor takes ``clamp`` behind a kernel for a post op of floats, and fails (torch 2.13).
    """
    out = layer.out
    assert out is not None

    def held(*given: Tensor) -> Tensor:
        found = kernel(*given)
        least, most = (torch.tensor(one, dtype=found.dtype) for one in (out.low, out.high))
        return torch.maximum(torch.minimum(found, most), least)

    return held


def _with_lists(kernel: Any) -> Callable[..., Tensor]:
    """Return ``kernel``, whose numbers of a post op are a list that is not empty.

    ``torch.export`` cannot tell of what an empty one is (torch 2.13).
    """

    def call(*given: Any) -> Tensor:
        *first, args, algorithm = given
        found: Tensor = kernel(*first, list(args) or [None], algorithm)
        return found

    return call
