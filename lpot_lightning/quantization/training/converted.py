"""A trained model as int8, by the state of its training alone."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lpot_lightning.module.stand_in import StandIn
from lpot_lightning.quantization.corrections import equalized
from lpot_lightning.quantization.functions.forward import (
    FunctionOp,
    OwnerForward,
    QuantizedFunction,
    stand_in,
)
from lpot_lightning.quantization.graph.weight_calls import WeightCall
from lpot_lightning.quantization.kernels.grid import Grid
from lpot_lightning.quantization.layer_forward import LayerForward
from lpot_lightning.quantization.quantized_layer import QuantizedLayer
from lpot_lightning.quantization.training.functions import FunctionSign
from lpot_lightning.quantization.training.state import TrainedOps


def converted(model: nn.Module, ops: TrainedOps) -> dict[str, StandIn]:
    """Return the int8 parts of a trained model, as its training meant them to be.

    Args:
        model: with the trained weights, in eval mode, on the CPU, in float32.
        ops: of the training.
    """
    ops.check(model)
    found: dict[str, StandIn] = {}
    for op in ops.int8_ops:
        if op not in ops.functions:
            layer = model.get_submodule(op)
            int8 = equalized(layer, ops.grids.get(op), ops.factors.get(op), ops.bounds.pair)
            if int8 is not None:
                found[op] = StandIn(
                    int8, gone=ops.gone.get(op, ()), forward=LayerForward(layer, int8)
                )
    for path in dict.fromkeys(op.rpartition("#")[0] for op in ops.functions):
        found[path] = stand_in(_owner(model.get_submodule(path), path, ops))
    return found


def _owner(module: nn.Module, path: str, ops: TrainedOps) -> OwnerForward:
    names = [op for op in ops.functions if op.rpartition("#")[0] == path and op in ops.grids]
    forward = TrainedOwner(module, ops.functions[names[0]][0] if names else ())
    for op in names:
        sign = ops.functions[op][1]
        made = Awaited(sign, ops.grids[op], ops.factors.get(op), ops.bounds.pair)
        if sign.offset is not None and (sign.shift is not None or not sign.bias):
            made.take(*_views(module, sign))
        forward.ops[op.rpartition("#")[2]] = made
    return forward


def _views(module: nn.Module, sign: FunctionSign) -> tuple[Tensor, Tensor | None]:
    """Return weight and bias of a function, which are views of tensors of the module."""
    assert sign.offset is not None
    weight = _view(module, sign.sources[0], sign.offset, sign.shape, sign.stride)
    if sign.shift is None:
        return weight, None
    name, offset = sign.shift
    return weight, _view(module, name, offset, sign.shape[:1], (1,))


def _view(
    module: nn.Module, name: str, offset: int, shape: Sequence[int], stride: Sequence[int]
) -> Tensor:
    where, _, last = name.rpartition(".")
    source: Tensor = getattr(module.get_submodule(where), last)
    whole = source.detach()
    if whole.shape == torch.Size(shape) and not offset:
        return source  # known again by its identity
    return whole.as_strided(shape, stride, whole.storage_offset() + offset)


class Awaited(FunctionOp):
    """A function that is int8 once its weight and its bias are known, from its first call on.

    Args:
        sign: of the function.
        grid: of its input, divided by ``factors``.
        factors: one a channel.
        pair: what two integers of an output may come to, see ``Bounds``.
    """

    def __init__(self, sign: FunctionSign, grid: Grid, factors: Tensor | None, pair: int) -> None:
        super().__init__(sign.geometry)
        self._sign, self._grid, self._factors, self._pair = sign, grid, factors, pair

    @property
    def awaits(self) -> bool:
        """Whether a call is to show the weight."""
        return self.int8 is None

    def may_be_of(self, call: WeightCall) -> bool:
        """Whether a call may show the weight that is waited for."""
        sign = self._sign
        alike = call.geometry == sign.geometry and tuple(call.weight.shape) == sign.shape
        return self.awaits and alike and (call.bias is not None) == sign.bias

    def take(self, weight: Tensor, bias: Tensor | None) -> None:
        """Round the weight."""
        call = WeightCall(
            function=self._sign.function,
            x=weight,
            weight=weight,
            bias=bias,
            numbers=self._sign.numbers,
            padding=self._sign.padding,
        )
        made = equalized(call.as_layer(), self._grid, self._factors, self._pair)
        assert isinstance(made, QuantizedLayer)
        self.int8 = QuantizedFunction.of(made, weight, bias)


class TrainedOwner(OwnerForward):
    """The ``forward`` of a module some of whose functions become int8 when they are called.

    It is so for weights that are computed in each call: no file holds them.
    """

    def known(self, call: WeightCall) -> QuantizedFunction | None:
        """Return what computes in int8 for a call."""
        found = super().known(call)
        waiting = [op for op in self.ops.values() if isinstance(op, Awaited) and op.may_be_of(call)]
        if found is None and waiting:
            waiting[0].take(call.weight, call.bias)
            found = waiting[0].int8
        return found
