"""A module that computes with its own weights, with functions of it in int8."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from lpot_lightning.module.stand_in import StandIn
from lpot_lightning.quantization.functions.observed import own_tensors
from lpot_lightning.quantization.functions.watching import Naming
from lpot_lightning.quantization.graph.exporting import NotExported
from lpot_lightning.quantization.graph.ops import named
from lpot_lightning.quantization.graph.tracing import comes_of_inputs, is_tracing, paused
from lpot_lightning.quantization.graph.weight_calls import WeightCall
from lpot_lightning.quantization.one_line import OneLine
from lpot_lightning.quantization.rungs import WeightForm

_PROBES, _SEED = 4, 1978
_ALIKE = 1e-3
"""How far, as a share of its rows, a weight may be from what it was: a computed one differs from
machine to machine."""


class QuantizedFunction(OneLine):
    """Computes for a function that a weight goes into, in those calls that have that weight.

    The weight is known by products with a few vectors, whatever was done to it before it was
    rounded.

    Args:
        layer: what computes.
        sketch: those products.
        bias: of the calls; ``layer`` may have another one, corrected.
    """

    sketch: Tensor
    bias: Tensor | None

    def __init__(self, layer: WeightForm, sketch: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        self.layer = layer
        self.register_buffer("sketch", sketch)
        self.register_buffer("bias", bias)
        self._weights, self._biases = _LookedAt(), _LookedAt()

    @classmethod
    def of(cls, layer: WeightForm, weight: Tensor, bias: Tensor | None) -> QuantizedFunction:
        """Return what computes for calls with ``weight``, outputs first, and ``bias``."""
        return cls(layer, _sketch(weight), None if bias is None else bias.detach().clone())

    @classmethod
    def unfilled(cls, layer: WeightForm, outputs: int, *, bias: bool) -> QuantizedFunction:
        """Return one for tensors of a file: those that it has hold no values."""
        return cls(layer, torch.empty(outputs, _PROBES), torch.empty(outputs) if bias else None)

    def forward(self, input: Tensor) -> Tensor:
        """Return what the function gives."""
        found: Tensor = self.layer(input)
        return found

    def __repr__(self) -> str:
        """Say how the function computes."""
        return repr(self.layer)

    @torch.compiler.disable  # type: ignore[untyped-decorator]  # Dynamo captures no code of ours
    def is_of(self, weight: Tensor, bias: Tensor | None) -> bool:
        """Whether ``weight`` is what was rounded, and ``bias`` what it came with."""
        if (bias is None) != (self.bias is None):
            return False
        return self._weights.are(weight, self._is_weight) and (
            bias is None or self._biases.are(bias, self._is_bias)
        )

    def know(self, weight: nn.Parameter) -> None:
        """Take ``weight``, which was made of the integers that compute, for what was rounded."""
        if weight.shape == self.layer.kernel.weight.shape:
            self._weights.know(weight)

    def _is_weight(self, weight: Tensor) -> bool:
        if weight.shape != self.layer.kernel.weight.shape:
            return False
        if self.layer.kernel.stands_for(weight):  # not that of an equalized or corrected one
            return True
        off = (_sketch(weight) - self.sketch).abs()
        size = weight.detach().float().flatten(1).norm(dim=1, keepdim=True)
        return bool((off <= _ALIKE * size).all())

    def _is_bias(self, bias: Tensor) -> bool:
        own = self.bias
        return (
            own is not None
            and own.shape == bias.shape
            and torch.allclose(own.float(), bias.detach().float(), rtol=1e-4, atol=1e-6)
        )


def _sketch(weight: Tensor) -> Tensor:
    """Return products of each row with a few vectors, always the same: other rows have others."""
    flat = weight.detach().float().flatten(1)
    draw = torch.Generator().manual_seed(_SEED)
    return flat @ torch.randn(flat.shape[1], _PROBES, generator=draw)


class _LookedAt:
    """A tensor that was looked at: itself, or a copy of one that is computed in each call.

    A copy of this object begins empty.
    """

    def __init__(self) -> None:
        self._itself: tuple[weakref.ref[Tensor], tuple[int, int]] | None = None
        self._copy: Tensor | None = None

    def are(self, tensor: Tensor, looked: Callable[[Tensor], bool]) -> bool:
        """Whether ``tensor`` is that one, as it was; else what ``looked`` says of it."""
        itself, copy = self._itself, self._copy
        if itself is not None and itself[0]() is tensor and itself[1] == _state(tensor):
            return True
        if copy is not None and copy.dtype == tensor.dtype and torch.equal(copy, tensor):
            return True
        if not looked(tensor):
            return False
        self.know(tensor)
        return True

    def know(self, tensor: Tensor) -> None:
        """Take ``tensor`` for one that was looked at."""
        if isinstance(tensor, nn.Parameter) and not tensor.is_inference():
            self._itself = weakref.ref(tensor), _state(tensor)
        else:
            self._copy = tensor.detach().clone()

    def __deepcopy__(self, memo: dict[int, Any]) -> _LookedAt:
        """Return an empty one."""
        return _LookedAt()

    def __reduce__(self) -> tuple[Any, ...]:
        """Let a pickle hold an empty one."""
        return _LookedAt, ()


def _state(tensor: Tensor) -> tuple[int, int]:
    return tensor.data_ptr(), tensor._version


class FunctionOp:
    """What was chosen last for one function of a module.

    Args:
        geometry: as ``WeightCall`` has it.

    Attributes:
        int8: what computes; ``None`` lets the function do it.
        stored: the parameter of the module that int8 calls need no other values of than its own.
    """

    def __init__(self, geometry: tuple[str, tuple[int, ...], str]) -> None:
        self.geometry = geometry
        self.stored = ""
        self.int8: QuantizedFunction | None = None

    @property
    def awaits(self) -> bool:
        """Whether a call is to show the weight, and makes it int8."""
        return False

    def is_of(self, call: WeightCall) -> bool:
        """Whether the int8 form computes what ``call`` asks for."""
        return (
            self.int8 is not None
            and call.geometry == self.geometry
            and self.int8.is_of(call.weight, call.bias)
        )


class OwnerForward(NotExported):
    """What the ``forward`` of a module is whose functions may be int8.

    The module's own ``forward`` runs, whatever it does; a call of a function goes by the weight
    that it gets: where that was quantized int8 computes, else the function itself.

    Args:
        owner: it holds this object, and is held by it.
        lent: names of modules inside whose weights it uses.

    Attributes:
        ops: the functions by their name.
    """

    def __init__(self, owner: nn.Module, lent: Sequence[str] = ()) -> None:
        self.owner, self._lent = owner, tuple(lent)
        self.ops: dict[str, FunctionOp] = {}
        self.name = named(self)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Return what the module gives."""
        with Naming(self.name):
            return type(self.owner).forward(self.owner, *args, **kwargs)

    def function(self, call: WeightCall) -> Tensor:
        """Return what a function gives that was called in the module's ``forward``."""
        int8 = self.form_of(call)
        return call.computed() if int8 is None else int8(call.x)

    def form_of(self, call: WeightCall) -> QuantizedFunction | None:
        """Return what computes in int8 for a call, ``None`` if nothing does."""
        if isinstance(call.weight, nn.Parameter) and not self._is_own(call.weight):
            return None  # a layer inside has its own form, or is to stay in fp32
        if is_tracing() and comes_of_inputs(call.weight):
            return None  # it is another weight in other calls of the trace
        with paused():  # values are looked at, which no trace is to hold
            return self.known(call)

    def known(self, call: WeightCall) -> QuantizedFunction | None:
        """Return what has the weight of a call, ``None`` if nothing has."""
        return next((op.int8 for op in self.ops.values() if op.is_of(call)), None)

    def _is_own(self, weight: Tensor) -> bool:
        lent = [self.owner.get_submodule(name) for name in self._lent]
        return any(one is weight for one in own_tensors(self.owner, lent))

    def stored(self) -> Mapping[str, str]:
        """Return the parameters that int8 forms stand for in files, by the names of their ops."""
        return {name: op.stored for name, op in self.ops.items() if op.int8 and op.stored}

    def forms(self) -> Mapping[str, QuantizedFunction]:
        """Return the int8 forms by the names of their ops."""
        return {name: op.int8 for name, op in self.ops.items() if op.int8 is not None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Give a copy a name of its own."""
        vars(self).update(state)
        self.name = named(self)


def stand_in(forward: OwnerForward) -> StandIn:
    """Return what lets ``forward`` compute for its module, which goes on to hold its weights."""
    forms: dict[str, nn.Module] = dict(forward.forms())
    return StandIn(nn.ModuleDict(forms) if forms else None, forward=forward)


def owner_of(module: nn.Module) -> OwnerForward | None:
    """Return what computes the functions of a module, where that was put in place."""
    found = vars(module).get("forward")
    return found if isinstance(found, OwnerForward) else None
