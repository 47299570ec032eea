"""Functions of a module with own weights that round while they train."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from lpot_lightning.module.attention import OPENED
from lpot_lightning.module.constants import Constants
from lpot_lightning.quantization.functions.observed import own_tensors, tensors_of
from lpot_lightning.quantization.graph.weight_calls import (
    FUNCTIONS,
    WeightCall,
    computed,
    layer_like,
)
from lpot_lightning.quantization.training.layers import RoundedInput


@dataclass(frozen=True, kw_only=True)
class FunctionSign:
    """What tells a function of a module from others, whatever its weight has learned.

    Args:
        function: its name; so are ``numbers`` and ``padding`` as ``WeightCall`` has them.
        shape: of the weight.
        bias: whether it has one.
        sources: names of the module's tensors that the weight is made of.
        offset: where a weight that is a view begins in its tensor; ``None`` for a computed one.
        stride: of such a view.
        shift: name of the module's tensor that the bias is a view of, and where that begins;
            nothing where there is none, or where it is computed.
    """

    function: str
    numbers: tuple[int, ...]
    padding: str
    shape: tuple[int, ...]
    bias: bool
    sources: tuple[str, ...]
    offset: int | None = None
    stride: tuple[int, ...] = ()
    shift: tuple[str, int] | None = field(default=None, compare=False)

    @classmethod
    def of(
        cls, call: WeightCall, sources: Mapping[str, Tensor], shift: tuple[str, int] | None = None
    ) -> FunctionSign:
        """Return that of a call whose weight is made of ``sources``, by name."""
        offset = _offset(call.weight, sources)
        return cls(
            function=call.function,
            numbers=call.numbers,
            padding=call.padding,
            shape=tuple(call.weight.shape),
            bias=call.bias is not None,
            sources=tuple(sorted(sources)),
            offset=offset,
            stride=() if offset is None else tuple(call.weight.stride()),
            shift=shift,
        )

    @property
    def geometry(self) -> tuple[str, tuple[int, ...], str]:
        """As ``WeightCall`` has it."""
        return self.function, self.numbers, self.padding

    def layer(self) -> nn.Module:
        """Return a layer that does what the calls do, without values."""
        return layer_like(self.geometry, self.shape, bias=self.bias)


def view_in(tensor: Tensor | None, held: Mapping[str, Tensor]) -> tuple[str, int] | None:
    """Return which of ``held`` a tensor is a view of, and where it begins there."""
    for name, one in held.items() if tensor is not None else ():
        offset = _offset(tensor, {name: one})  # type: ignore[arg-type]
        if offset is not None:
            return name, offset
    return None


def _offset(weight: Tensor, sources: Mapping[str, Tensor]) -> int | None:
    if len(sources) != 1:
        return None
    (source,) = sources.values()
    if weight.untyped_storage().data_ptr() != source.untyped_storage().data_ptr():
        return None
    return int(weight.storage_offset() - source.storage_offset())


class RoundingOwner:
    """What the ``forward`` of a module is while functions of it train for int8.

    The module's own ``forward`` runs, whatever it does; a call of a function with an own weight is
    known by what that weight is made of, and rounds. Of weights that are computed of the same
    tensors, the first one in a call of the module is the first op, and so on.

    Args:
        owner: it holds this object, and is held by it.
        lent: names of modules inside whose weights it uses.
        ops: what each op is, and its input.
    """

    def __init__(
        self,
        owner: nn.Module,
        lent: Sequence[str],
        ops: Sequence[tuple[FunctionSign, RoundedInput]],
    ) -> None:
        self.owner, self.lent, self.ops = owner, tuple(lent), tuple(ops)
        self._layers = [sign.layer() for sign, _ in ops]

    @torch.compiler.disable  # type: ignore[untyped-decorator]  # Dynamo would look into the mode
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Return what the module gives."""
        with _RoundingMode(self):
            return type(self.owner).forward(self.owner, *args, **kwargs)

    def rounded(self, call: WeightCall, op: int) -> Tensor:
        """Return what an op gives."""
        sign, input = self.ops[op]
        x = input.of(call.x, call.weight.dim() - 2)
        weight = input.weight(self._layers[op], call.weight)
        return computed(sign.function, x, weight, call.bias, sign.numbers, sign.padding)


class _RoundingMode(TorchFunctionMode):
    """Lets the functions of an owner round, in one call of it."""

    def __init__(self, forward: RoundingOwner) -> None:
        self._forward = forward
        self._tensors = tensors_of(forward.owner, forward.lent)
        self._names = {id(one): name for name, one in self._tensors.items()}
        lent = [forward.owner.get_submodule(name) for name in forward.lent]
        self._own = Constants(own_tensors(forward.owner, lent))
        self._met: list[tuple[int, Tensor]] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Compute a function, rounded if it is an op."""
        kwargs = kwargs or {}
        if func is F.multi_head_attention_forward:
            with self:
                return OPENED(*args, **kwargs)
        if func in FUNCTIONS:
            found = self._weighted(FUNCTIONS[func], args, kwargs)
        else:
            found = func(*args, **kwargs)
        self._own.note(func, (args, kwargs), found)
        return found

    def _weighted(self, function: str, args: Any, kwargs: Any) -> Tensor:
        call = WeightCall.of(function, args, kwargs)
        op = self._op_of(call)
        return call.computed() if op is None else self._forward.rounded(call, op)

    def _op_of(self, call: WeightCall) -> int | None:
        """Return which op a call is of, ``None`` for one that stays as it is."""
        names = [self._names[one] for one in self._own.sources(call.weight)]
        if not names:
            return None
        sign = FunctionSign.of(call, {name: self._tensors[name] for name in names})
        alike = [op for op, (one, _) in enumerate(self._forward.ops) if one == sign]
        if sign.offset is not None:
            return alike[0] if alike else None
        return self._numbered(alike, call.weight)

    def _numbered(self, alike: Sequence[int], weight: Tensor) -> int | None:
        """Return which of some ops has a computed weight: those come in their order."""
        for op, known in self._met:
            if op in alike and (known is weight or torch.equal(known, weight)):
                return op
        taken = {op for op, _ in self._met}
        left = [op for op in alike if op not in taken]
        if not left:
            return None
        self._met.append((left[0], weight))
        return left[0]
