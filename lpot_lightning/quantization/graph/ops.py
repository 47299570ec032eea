"""What stands in a captured graph for what has weights, whatever precision it has just now."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import count
from typing import Any, TypeVar
from weakref import WeakValueDictionary

import torch
from torch import Tensor
from torch._C._dynamo.eval_frame import _FrameAction, _FrameExecStrategy, set_code_exec_strategy

from lpot_lightning.quantization.graph.weight_calls import WeightCall, computed

_Call = TypeVar("_Call", bound=Callable[..., Any])
_LAYERS: WeakValueDictionary[str, Any] = WeakValueDictionary()
_NUMBERS = count(1)
_LIBRARY: Any = torch.library.Library("lpot_lightning", "FRAGMENT")  # type: ignore[no-untyped-call]
_LIBRARY.define("layer(Tensor x, str name) -> Tensor")
_LIBRARY.define("recurrent(Tensor x, Tensor[] state, str name) -> Tensor[]")
_LIBRARY.define(
    "function(Tensor x, Tensor weight, Tensor? bias, SymInt[] numbers, str call) -> Tensor"
)


def named(layer: Any) -> str:
    """Return a name by which a graph calls ``layer``, in this process and while it lives."""
    name = f"{next(_NUMBERS)}"  # Dynamo makes a symbol of a number that it sees change
    _LAYERS[name] = layer
    return name


def by_itself(call: _Call) -> _Call:
    """Let Dynamo run a call, and all that it calls, where it comes by it outside of a graph.

    After what it cannot capture Dynamo goes on with each function that is called: it would take
    our kernels' Python to pieces, for seconds, and warn of what it finds there (torch 2.13).
    """
    skipped = _FrameExecStrategy(_FrameAction.SKIP, _FrameAction.SKIP)
    set_code_exec_strategy(call.__code__, skipped)
    return call


def layer_of(name: str) -> Any:
    """Return the layer that got ``name``."""
    return _LAYERS[name]


@torch.library.impl(_LIBRARY, "layer", "CompositeExplicitAutograd")
@by_itself
def call_layer(x: Tensor, name: str) -> Tensor:
    """Return what a layer gives, as the op does; another thread may be compiling meanwhile."""
    found: Tensor = _LAYERS[name].computed(x)
    return found


@torch.library.register_fake("lpot_lightning::layer", lib=_LIBRARY)  # type: ignore[untyped-decorator]
def _layer_fake(x: Tensor, name: str) -> Tensor:
    shaped: Tensor = _LAYERS[name].shaped(x)
    return shaped


LAYER: Callable[[Tensor, str], Tensor] = torch.ops.lpot_lightning.layer.default


@torch.library.impl(_LIBRARY, "recurrent", "CompositeExplicitAutograd")
@by_itself
def call_recurrent(x: Tensor, state: Sequence[Tensor], name: str) -> list[Tensor]:
    """Return what a recurrent layer gives, one tensor after the other, as the op does.

    Args:
        x: what it goes over.
        state: to begin with; none is zeros.
        name: of the layer.
    """
    found: list[Tensor] = _LAYERS[name].flat(x, state)
    return found


@torch.library.register_fake("lpot_lightning::recurrent", lib=_LIBRARY)  # type: ignore[untyped-decorator]
def _recurrent_fake(x: Tensor, state: Sequence[Tensor], name: str) -> list[Tensor]:
    shaped: list[Tensor] = _LAYERS[name].shaped_flat(x)
    return shaped


RECURRENT: Callable[[Tensor, Sequence[Tensor], str], list[Tensor]] = (
    torch.ops.lpot_lightning.recurrent.default
)


@torch.library.impl(_LIBRARY, "function", "CompositeExplicitAutograd")
@by_itself
def call_function(
    x: Tensor, weight: Tensor, bias: Tensor | None, numbers: Sequence[int], call: str
) -> Tensor:
    """Return what a function of a module gives, as the op does."""
    owner, function, padding = call.split(":")
    asked = WeightCall(
        function=function, x=x, weight=weight, bias=bias, numbers=tuple(numbers), padding=padding
    )
    found: Tensor = _LAYERS[owner].function(asked)
    return found


@torch.library.register_fake("lpot_lightning::function", lib=_LIBRARY)  # type: ignore[untyped-decorator]
def _function_fake(
    x: Tensor, weight: Tensor, bias: Tensor | None, numbers: Sequence[int], call: str
) -> Tensor:
    _, function, padding = call.split(":")
    return computed(function, x, weight, bias, numbers, padding)


FUNCTION: Callable[[Tensor, Tensor, Tensor | None, Sequence[int], str], Tensor] = (
    torch.ops.lpot_lightning.function.default
)
"""A call with a weight: the owner's name, which of ``FUNCTIONS``, and a padding that is named."""
