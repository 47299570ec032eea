"""What is called in the `forward` of a module, function by function."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from lpot_lightning.module.attention import OPENED
from lpot_lightning.module.constants import Constants, tensors_in
from lpot_lightning.module.placeholder import asks_for_values
from lpot_lightning.quantization.graph.ops import FUNCTION, call_function
from lpot_lightning.quantization.graph.weight_calls import FUNCTIONS, WeightCall, arguments

Took = Callable[[WeightCall, frozenset[int]], None]
"""Takes a call whose weight and bias come of a module's own tensors, and the ids of those."""
_LOCAL = threading.local()


@contextmanager
def hidden() -> Iterator[None]:
    """Let functions with a weight be nobody's: modules around a layer see what it calls, too."""
    before = getattr(_LOCAL, "taken", False)
    _LOCAL.taken = True
    try:
        yield
    finally:
        _LOCAL.taken = before


class Naming(TorchFunctionMode):
    """Lets functions with a weight go to the owner of a name, as one op each, in graphs as well.

    Args:
        name: of the owner, as ``graph.ops.named`` gave it.
    """

    def __init__(self, name: str) -> None:
        self._name = name

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Compute a function; everything in here is captured by Dynamo too."""
        kwargs = kwargs or {}
        if func in FUNCTIONS:
            function = FUNCTIONS[func]
            x, weight, bias, numbers, padding = arguments(function, args, kwargs)
            call = FUNCTION if torch.compiler.is_compiling() else call_function
            return call(x, weight, bias, numbers, f"{self._name}:{function}:{padding}")
        if func is F.multi_head_attention_forward:
            with self:
                return OPENED(*args, **kwargs)
        if func is torch.Tensor.unflatten:  # Dynamo captures no `super()` here (torch 2.13)
            return _unflattened(*args, **kwargs)
        return func(*args, **kwargs)


def _unflattened(x: Tensor, dim: int, sizes: Any) -> Tensor:
    at = dim if dim >= 0 else dim + x.dim()
    return x.reshape(*x.shape[:at], *sizes, *x.shape[at + 1 :])


class Watching(TorchFunctionMode):
    """Tells of functions whose weight comes of given tensors alone, and lets all compute.

    Args:
        own: the tensors.
        took: is told.

    Attributes:
        used: ids of what functions got, besides weights that ``took`` was told of.
    """

    def __init__(self, own: Constants, took: Took) -> None:
        self._own, self._took = own, took
        self.used: set[int] = set()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Compute a function, and tell of it."""
        kwargs = kwargs or {}
        if func is F.multi_head_attention_forward:
            with self:
                return OPENED(*args, **kwargs)
        if func in FUNCTIONS and not getattr(_LOCAL, "taken", False):
            found = self._weighted(FUNCTIONS[func], args, kwargs)
        else:
            found = func(*args, **kwargs)
            self._note_use(func, (args, kwargs), found)
        self._own.note(func, (args, kwargs), found)
        return found

    def _note_use(self, func: Any, given: Any, found: Any) -> None:
        if asks_for_values(func):  # a cast to the same type gives the weight itself
            self.used.update(id(one) for one in tensors_in(given) if one is not found)

    def _weighted(self, function: str, args: Any, kwargs: Any) -> Tensor:
        call = WeightCall.of(function, args, kwargs)
        sources = self._own.sources(call.weight)
        self.used.add(id(call.x))
        if not sources or (call.bias is not None and not self._own.sources(call.bias)):
            self.used.add(id(call.weight))
            return call.computed()
        self._took(call, sources)
        with hidden():
            return call.computed()
