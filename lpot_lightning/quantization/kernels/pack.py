"""Weights as kernels want them, prepared when they are asked for."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Sequence
from threading import Lock
from typing import Any

import torch
from torch import Tensor

_References = tuple[weakref.ref[Tensor], ...]
_State = tuple[int, ...]


Sizes = tuple[int, ...]
_Made = tuple[_References, _State, dict[Sizes, Tensor]]
MOST = 4
"""Packs of one weight; an input of a further shape takes the first, whose layout may not be its
best: a ResNet's last convolutions took seven times as long by a pack for no shape (torch 2.13)."""


class Pack:
    """What a kernel has prepared of a weight; made again when that is another or has changed.

    oneDNN's packs can be neither copied nor pickled, and do not follow their weight: a copy of this
    object, or one in another process, begins empty. Threads may ask at once.

    Example::

        pack.of(lambda shape: torch.ops.onednn.qlinear_prepack(weight, shape), x.shape, weight)
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._made: _Made | None = None

    def of(self, prepare: Callable[[Sizes], Tensor], shape: Sizes, *weights: Tensor) -> Tensor:
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
            self._made = tuple(map(weakref.ref, weights)), state, {**known, shape: packed}
        return packed

    def __deepcopy__(self, memo: dict[int, Any]) -> Pack:
        """Return an empty one."""
        return Pack()

    def __reduce__(self) -> tuple[Any, ...]:
        """Let a pickle hold an empty one."""
        return Pack, ()


def _holds(made: _Made, state: _State, weights: Sequence[Tensor]) -> bool:
    """Whether what was made is of ``weights`` as they are: others may lie where they lay."""
    same = made[1] == state
    return same and all(ref() is one for ref, one in zip(made[0], weights, strict=True))


def _state(weights: Sequence[Tensor]) -> tuple[int, ...]:
    """Return numbers that differ when the values of ``weights`` may.

    A tensor that was made in inference mode counts no versions: its sum stands for one.
    """
    return os.getpid(), *(number for weight in weights for number in _of(weight))


def _of(weight: Tensor) -> tuple[int, int]:
    version = hash(float(weight.sum())) if weight.is_inference() else weight._version
    return weight.data_ptr(), version
