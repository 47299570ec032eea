"""Weights as kernels want them, prepared when they are asked for."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Sequence
from operator import attrgetter
from threading import Lock
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

from lpot_lightning.quantization.graph.tracing import is_followed

Prepared = TypeVar("Prepared")
Sizes = tuple[int, ...]
_References = tuple[weakref.ref[Tensor], ...]
_State = tuple[int, ...]
_Made = tuple[_References, _State, dict[Sizes, Prepared]]
_VERSION = attrgetter("_version")
MOST = 4
"""Packs of one weight; an input of a further shape takes the first, whose layout may not be its
best: a ResNet's last convolutions took seven times as long by a pack for no shape (torch 2.13)."""


class Pack(Generic[Prepared]):
    """What a kernel has prepared of a weight; made again when that is another or has changed.

    oneDNN's packs can be neither copied nor pickled, and do not follow their weight: a copy of this
    object, or one in another process, begins empty. Threads may ask at once.

    Example::

        pack.of(lambda shape: torch.ops.onednn.qlinear_prepack(weight, shape), x.shape, weight)
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._made: _Made[Prepared] | None = None

    def of(self, prepare: Callable[[Sizes], Prepared], shape: Sizes, *weights: Tensor) -> Prepared:
        """Return what ``prepare`` makes of ``weights`` as they are now, for inputs of ``shape``."""
        state, made = _state(weights), self._made
        if made is not None and _holds(made, state, weights):
            packed = made[2].get(shape)
            if packed is not None:
                return packed
            if len(made[2]) >= MOST:
                return next(iter(made[2].values()))
        with self._lock:
            known = made[2] if made is not None and _holds(made, state, weights) else {}
            with torch.inference_mode(False), torch.no_grad():  # autograd may need it later
                packed = prepare(shape)
            if not is_followed():  # else it may hold no values, as in a FakeTensorMode
                self._made = tuple(map(weakref.ref, weights)), state, {**known, shape: packed}
        return packed

    def __deepcopy__(self, memo: dict[int, Any]) -> Pack[Prepared]:
        """Return an empty one."""
        return Pack()

    def __reduce__(self) -> tuple[Any, ...]:
        """Let a pickle hold an empty one."""
        return Pack, ()


def _holds(made: _Made[Any], state: _State, weights: Sequence[Tensor]) -> bool:
    """Whether what was made is of ``weights`` as they are: others may lie where they lay."""
    same = made[1] == state
    return same and all(ref() is one for ref, one in zip(made[0], weights, strict=True))


def _state(weights: Sequence[Tensor]) -> _State:
    """Return numbers that differ when the values of ``weights`` may."""
    return os.getpid(), *map(Tensor.data_ptr, weights), *versions(weights)


def versions(tensors: Sequence[Tensor]) -> list[int]:
    """Return the versions of tensors; for one that counts none, what its sum is.

    Those that were made in inference mode count none.
    """
    try:
        return list(map(_VERSION, tensors))
    except RuntimeError:
        return [_version(one) for one in tensors]


def _version(tensor: Tensor) -> int:
    return hash(float(tensor.sum())) if tensor.is_inference() else tensor._version
