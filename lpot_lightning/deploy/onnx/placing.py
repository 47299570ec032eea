"""Where the pairs stand, for the runtime that is to fuse them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from lpot_lightning.deploy.calls import own
from lpot_lightning.deploy.onnx.pairs import (
    Between,
    PairedConv,
    PairedLayer,
    PairedLinear,
    QuantizePair,
    ToFloats,
    ToIntegers,
)
from lpot_lightning.deploy.options import ONNXRUNTIME
from lpot_lightning.deploy.plain_program import plain_program
from lpot_lightning.deploy.whole_graph import WholeGraph
from lpot_lightning.quantization.kernels.layers import Int8Conv, Int8Linear
from lpot_lightning.quantization.kernels.moving import Dequantize, MaxPool, Quantize
from lpot_lightning.quantization.program.draft import dims_of
from lpot_lightning.quantization.program.fewer_passes import quantize_within
from lpot_lightning.quantization.program.program import PASSES

_POOLS = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}


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
            the engine has none of, gets the grid that holds what passes.
    """
    draft = whole.program.drafted(whole.values, [one for one in PASSES if one != quantize_within])
    draft.finish()
    made = plain_program(whole, draft, _Placing(target).step, _INSTEAD)
    _settle(made, batches)
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
        if made.output is None and (adds or made.between is None):
            made.output = Between()
        return made


def _settle(module: fx.GraphModule, batches: Iterable[Sequence[Tensor]]) -> None:
    waiting = [one for one in module.modules() if isinstance(one, Between)]
    with torch.no_grad():
        for tensors in batches if waiting else ():
            module(*own(tensors))
    for one in waiting:
        one.settle()


def _ops(module: fx.GraphModule) -> Iterator[tuple[str, str]]:
    for node in module.graph.nodes:
        step = getattr(module, str(node.target)) if node.op == "call_module" else None
        if isinstance(step, PairedLayer):
            yield str(node.target), step.op
