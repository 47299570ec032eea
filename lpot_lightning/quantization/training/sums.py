"""Sums that add what convolutions beside them read, as the int8 program adds integers."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

_OUT_OF_PLACE = {torch.Tensor.add, torch.add}
_IN_PLACE = {torch.Tensor.add_}


class Rounds(Protocol):
    """What puts a tensor on the grid of a layer's input."""

    def again(self, x: Tensor) -> Tensor:
        """Return ``x`` on the grid, which learns nothing of it."""


class Sums:
    """What convolutions have read, as long as somebody holds it.

    In a residual net int8 adds up the integers that the next convolution reads
    (``program.streams``), and so the stream is rounded there, too. Where a net adds something that
    a convolution has read, this rounds it while it trains.
    """

    def __init__(self) -> None:
        self._read: dict[int, tuple[weakref.ref[Tensor], int, Rounds]] = {}

    def note(self, x: Tensor, input: Rounds) -> None:
        """Remember that a convolution has read ``x``, rounded by ``input``."""
        if not x.is_inference():
            key = id(x)
            gone = weakref.ref(x, lambda _: self._read.pop(key, None))
            self._read[key] = gone, x._version, input

    def as_read(self, tensor: object) -> object:
        """Return ``tensor`` as a convolution has read it, itself where none has.

        In a part that is checkpointed nothing is: it is computed once more in the backward pass,
        outside of the module, and has to save the same tensors then.
        """
        if not isinstance(tensor, Tensor) or tensor.is_inference() or _is_checkpointed():
            return tensor
        held, version, input = self._read.get(id(tensor), (None, 0, None))
        known = held is not None and held() is tensor and version == tensor._version
        return input.again(tensor) if known and input is not None else tensor


class RoundingSums:
    """What the ``forward`` of a module is whose sums are to be rounded.

    Args:
        module: it holds this object, and is held by it.
        sums: what its convolutions have read.
        inner: computes for it; ``None`` for its class.
    """

    def __init__(
        self, module: nn.Module, sums: Sums, inner: Callable[..., Any] | None = None
    ) -> None:
        self.module, self._sums, self._inner = module, sums, inner

    @torch.compiler.disable  # type: ignore[untyped-decorator]  # Dynamo would look into the mode
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Return what the module gives."""
        with _SumsMode(self._sums):
            if self._inner is not None:
                return self._inner(*args, **kwargs)
            return type(self.module).forward(self.module, *args, **kwargs)


def _is_checkpointed() -> bool:
    """Whether something else than autograd keeps what a backward pass will need."""
    return torch._C._autograd._top_saved_tensors_default_hooks(False) is not None


class _SumsMode(TorchFunctionMode):
    def __init__(self, sums: Sums) -> None:
        self._sums = sums

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Compute a function; a sum of two tensors adds what convolutions have read."""
        if not kwargs and _are_alike(args):
            if func in _OUT_OF_PLACE:
                args = tuple(map(self._sums.as_read, args))
            elif func in _IN_PLACE:  # the first is written to
                args = args[0], self._sums.as_read(args[1])
        return func(*args, **(kwargs or {}))


def _are_alike(given: Sequence[Any]) -> bool:
    """Whether these are two tensors of one shape, as the program adds them."""
    return (
        len(given) == 2
        and isinstance(given[0], Tensor)
        and isinstance(given[1], Tensor)
        and given[0].shape == given[1].shape
    )
