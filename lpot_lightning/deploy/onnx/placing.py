"""Where the pairs stand, for the runtime that is to fuse them."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from lpot_lightning.deploy.calls import own
from lpot_lightning.deploy.held_rows import HeldRescale
from lpot_lightning.deploy.onnx.kept import PlacedKept
from lpot_lightning.deploy.onnx.pairs import (
    Between,
    Cut,
    PairedConv,
    PairedLayer,
    PairedLinear,
    QuantizePair,
    ToFloats,
    ToIntegers,
    ToRows,
)
from lpot_lightning.deploy.options import ONNXRUNTIME, OPENVINO
from lpot_lightning.deploy.plain_program import plain_program
from lpot_lightning.deploy.whole_graph import WholeGraph
from lpot_lightning.quantization.kernels.layers import Int8Conv, Int8Linear
from lpot_lightning.quantization.kernels.moving import Dequantize, MaxPool, Quantize
from lpot_lightning.quantization.kernels.rows import QuantizeRows, Rescale
from lpot_lightning.quantization.program.draft import dims_of
from lpot_lightning.quantization.program.fewer_passes import quantize_within
from lpot_lightning.quantization.program.narrow import cast_less
from lpot_lightning.quantization.program.program import PASSES
from lpot_lightning.quantization.rungs import Bf16Layer, SmallerWeight, WeightOnlyLayer

_POOLS = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}
_PRODUCTS = {operator.mul, torch.mul, "mul"}
_NOT_HERE = quantize_within, cast_less
_RARE = 1e-3
"""Of values: what may be beyond a grid of 7 bits, in 8 bits, for a pass less. Grids that were
chosen to cut off more keep the pass."""


@dataclass(frozen=True)
class Placed:
    """A program as a runtime is to get it.

    Args:
        module: computes it in floats, of the inputs of the file.
        ops: the paths of its int8 ops, in order; by the names of the submodules that compute them.
    """

    module: fx.GraphModule
    ops: dict[str, str]

    def computes(self, *tensors: Tensor) -> Sequence[Tensor]:
        """Return what a file of it should give of its inputs."""
        with torch.no_grad():
            found: Sequence[Tensor] = self.module(*own(tensors))
        return found

    def moved(self, *tensors: Tensor) -> Sequence[Tensor]:
        """Return the same where single integers are another one, as a runtime may have it."""
        pairs = [one for one in self.module.modules() if isinstance(one, QuantizePair)]
        draws = torch.Generator().manual_seed(0)
        try:
            for one in pairs:
                one.moved = draws
            return self.computes(*tensors)
        finally:
            for one in pairs:
                one.moved = None


def placed(whole: WholeGraph, target: str, batches: Iterable[Sequence[Tensor]]) -> Placed:
    """Return the program of ``whole`` with pairs where ``target`` fuses them.

    Args:
        whole: see there.
        target: of ``TARGETS``.
        batches: inputs of the file, from the calibration: what ONNX Runtime wants pairs of, which
            the engine has none of, gets the grid that holds what passes; and what hardly ever is
            beyond a grid is not cut off there.
    """
    draft = whole.program.drafted(whole.values, [one for one in PASSES if one not in _NOT_HERE])
    draft.finish()
    made = plain_program(whole, draft, _Placing(target).step, _INSTEAD)
    pairs = [
        one for one in made.modules() if isinstance(one, QuantizePair) and one.cut is Cut.INTEGERS
    ]
    if target == OPENVINO:
        for one in pairs:
            one.cut = Cut.FLOATS
    else:
        _pair_factors(made)
        _settle(made, pairs, batches)
    return Placed(made, dict(_ops(made)))


class IntegerPool(nn.Module):
    """The greatest integer of each window, by torch's own pool: runtimes know that.

    Args:
        pool: of the program.
    """

    def __init__(self, pool: MaxPool) -> None:
        super().__init__()
        self.size, self.stride, self.padding = pool.size, pool.stride, pool.padding

    def forward(self, integers: Tensor) -> Tensor:
        """Return the greatest of each window."""
        pool = _POOLS[len(self.size)]
        # of integers that are laid channels-last torch 2.13 has no pool
        found: Tensor = pool(integers.contiguous(), self.size, self.stride, self.padding)
        return found


class WideLayer(nn.Module):
    """A layer whose weight is bfloat16, in float32: ONNX Runtime has no other kernels for CPUs.

    Args:
        layer: takes and gives bfloat16.
    """

    def __init__(self, layer: Bf16Layer) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        """Return what the layer gives, of the type of ``x``."""
        return SmallerWeight.forward(self.layer, x.float()).to(x.dtype)


def attention(query: Tensor, key: Tensor, value: Tensor, *args: Any, **more: Any) -> Tensor:
    """Return what torch's attention gives; of one head without a dimension for it, too, which the
    ONNX exporter of torch 2.13 does not take."""
    heads = query.dim() != 3 or any(isinstance(one, Tensor) for one in (*args, *more.values()))
    given = (query, key, value) if heads else [one.unsqueeze(1) for one in (query, key, value)]
    found = F.scaled_dot_product_attention(*given, *args, **more)
    return found if heads else found.squeeze(1)


_INSTEAD = {F.scaled_dot_product_attention: attention}


class _Placing:
    """Pairs in the place of steps.

    Args:
        target: see ``placed``.
    """

    def __init__(self, target: str) -> None:
        self._close = target == ONNXRUNTIME

    def step(self, step: nn.Module, node: fx.Node) -> nn.Module:
        """Return what is to be in the place of ``step``."""
        if isinstance(step, Quantize):
            return ToIntegers(step.grid)
        if isinstance(step, Dequantize):
            return ToFloats(step.grid)
        if isinstance(step, MaxPool):
            return IntegerPool(step)
        if isinstance(step, QuantizeRows):
            return ToRows(step.high)
        if isinstance(step, Rescale):
            return HeldRescale(step)
        if isinstance(step, WeightOnlyLayer):
            return PlacedKept(step)
        if isinstance(step, Bf16Layer):
            return WideLayer(step)
        if isinstance(step, Int8Linear):
            return self._linear(step, node)
        if isinstance(step, Int8Conv):
            return self._conv(step, adds=len(node.args) > 1)
        return step

    def _linear(self, layer: Int8Linear, node: fx.Node) -> PairedLinear:
        """Return a linear layer; ONNX Runtime fuses one of a matrix with what follows, in floats,
        unless a pair stands between."""
        made = PairedLinear(layer, whole_bias=self._close)
        followed = len(node.args) > 1 or made.post_op.name != "none"
        if self._close and followed and dims_of(node) == 2:
            made.between = Between()
        return made

    def _conv(self, layer: Int8Conv, *, adds: bool) -> PairedConv:
        """Return a convolution; ONNX Runtime wants a pair directly behind it, and behind a sum."""
        made = PairedConv(layer, whole_bias=self._close)
        if not self._close:
            return made
        if adds or made.post_op.name not in ("none", "relu"):
            made.between = Between()
        if made.post_op.name == "swish":
            made.gate = Between()
        if made.output is None and (adds or made.between is None or made.gate is not None):
            made.output = Between()
        return made


def _pair_factors(module: fx.GraphModule) -> None:
    """Put a pair behind what multiplies something on a grid, where the product is quantized.

    ONNX Runtime then multiplies integers; else it goes through the whole tensor of floats three
    times.
    """
    for node in [one for one in module.graph.nodes if one.target in _PRODUCTS]:
        factors = [one for one in node.all_input_nodes if not _is_on_grid(module, one)]
        to_integers = (isinstance(_step(module, user), ToIntegers) for user in node.users)
        if len(node.all_input_nodes) == 2 and len(factors) == 1 and all(to_integers):
            module.add_module(f"{node.name}_factor", Between())
            with module.graph.inserting_before(node):
                paired = module.graph.call_module(f"{node.name}_factor", (factors[0],))
            node.replace_input_with(factors[0], paired)
    module.recompile()


def _is_on_grid(module: fx.GraphModule, node: fx.Node) -> bool:
    """Whether floats come straight from a pair."""
    step = _step(module, node)
    last = step.output if isinstance(step, PairedLayer) else step
    return isinstance(last, Between | QuantizePair) and not isinstance(last, ToIntegers)


def _step(module: fx.GraphModule, node: fx.Node) -> nn.Module | None:
    return module.get_submodule(str(node.target)) if node.op == "call_module" else None


def _settle(
    module: fx.GraphModule, pairs: Sequence[QuantizePair], batches: Iterable[Sequence[Tensor]]
) -> None:
    """Find out by what passes which grids are missing, and which of ``pairs`` need not cut off."""
    waiting = [one for one in module.modules() if isinstance(one, Between)]
    for pair in pairs:
        pair.beyond = 0, 0
    with torch.no_grad():
        for tensors in batches if waiting or pairs else ():
            module(*own(tensors))
    for one in waiting:
        one.settle()
    for pair in pairs:
        beyond, total = pair.beyond or (0, 0)
        pair.beyond = None
        if total and beyond <= _RARE * total:
            pair.cut = Cut.NOWHERE


def _ops(module: fx.GraphModule) -> Iterator[tuple[str, str]]:
    for node in module.graph.nodes:
        step = _step(module, node)
        if isinstance(step, PairedLayer | PlacedKept | HeldRescale):
            yield str(node.target), step.op
