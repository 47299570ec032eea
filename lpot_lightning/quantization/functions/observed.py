"""A module that computes with its own weights, watched while the calibration data pass."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from lpot_lightning.module.constants import Constants
from lpot_lightning.quantization.functions.watching import Watching
from lpot_lightning.quantization.graph.weight_calls import WeightCall
from lpot_lightning.quantization.observed_layer import ObservedLayer
from lpot_lightning.quantization.reasons import CHANGES

Tells = Callable[[str, ObservedLayer, Tensor], None]
"""Takes the name of a new op, what counts its inputs, and the first of them."""


@dataclass(eq=False)
class _Op:
    """A function that one weight goes into, in whatever call."""

    name: str
    first: WeightCall
    seen: ObservedLayer
    sources: frozenset[int]

    def is_of(self, call: WeightCall) -> bool:
        """Whether a call is one of this op."""
        return (
            call.geometry == self.first.geometry
            and _same(call.weight, self.first.weight)
            and _same(call.bias, self.first.bias)
        )

    def is_like(self, call: WeightCall, sources: frozenset[int]) -> bool:
        """Whether a call would be one of this op if it had its weight."""
        alike = call.geometry == self.first.geometry and call.weight.shape == self.weight_shape
        return alike and sources == self.sources

    @property
    def weight_shape(self) -> torch.Size:
        """Of all calls."""
        return self.first.weight.shape


class ObservedOwner(nn.Module):
    """Computes what a module computes, and counts what goes into each function with its weights.

    Functions are told apart by the weight, and numbered as they come in a call: two that get the
    same one are the same op, like a layer that is called twice. Those of layers and modules inside
    have weights of others, and are theirs.

    Args:
        owner: is held, and is no child.
        lent: modules inside whose weights it uses: they compute nothing with them by themselves.
        found: is told of each op once.

    Attributes:
        awake: whether what passes counts.
        calls: how often the module was called while awake.
        refused: why ops of it cannot be int8, by their names.
        used: ids of own tensors that went elsewhere than into ops as their weight.
    """

    def __init__(self, owner: nn.Module, lent: Sequence[nn.Module], found: Tells) -> None:
        super().__init__()
        self._held = (owner, tuple(lent), found)
        self.awake = True
        self.refused: dict[str, str] = {}
        self.calls = 0
        self.used: set[int] = set()
        self._ops: list[_Op] = []

    @property
    def ops(self) -> dict[str, WeightCall]:
        """The first call of each op, by its name."""
        return {one.name: one.first for one in self._ops}

    def sources(self, op: str) -> frozenset[int]:
        """Return the ids of the tensors that the weight of an op is made of."""
        return next(one.sources for one in self._ops if one.name == op)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Return what the module gives."""
        owner, lent, _ = self._held
        before = len(self._ops)
        self.calls += self.awake

        def took(call: WeightCall, sources: frozenset[int]) -> None:
            self._took(call, sources, before)

        own = list(own_tensors(owner, lent))
        with Watching(Constants(own), took) as watching:
            found = type(owner).forward(owner, *args, **kwargs)
        self.used |= watching.used & set(map(id, own))
        return found

    def _took(self, call: WeightCall, sources: frozenset[int], before: int) -> None:
        """Count a call in; ops from ``before`` on were found in this call of the module."""
        op = next((one for one in self._ops if one.is_of(call)), None)
        if op is None:
            older = [one.name for one in self._ops[:before] if one.is_like(call, sources)]
            self.refused.update(dict.fromkeys(older, CHANGES))
            if older:
                return
            op = self._new(call, sources)
        if self.awake:
            op.seen.count(call.x)

    def _new(self, call: WeightCall, sources: frozenset[int]) -> _Op:
        number = sum(one.first.function == call.function for one in self._ops)
        seen = ObservedLayer(call.as_layer())
        op = _Op(f"{call.function}_{number}", call, seen, sources)
        self._ops.append(op)
        self._held[2](op.name, seen, call.x)
        return op


def own_tensors(owner: nn.Module, lent: Sequence[nn.Module]) -> Iterator[Tensor]:
    """Yield the parameters and buffers of some modules, and of none inside of them."""
    for module in (owner, *lent):
        for held in (module._parameters, module._buffers):
            yield from (one for one in held.values() if one is not None)


def tensors_of(owner: nn.Module, lent: Iterable[str]) -> dict[str, Tensor]:
    """Return the tensors that weights in ``owner`` are made of, by their names in it."""
    found = {}
    for where in ("", *lent):
        holder = owner.get_submodule(where)
        for name, one in (*holder._parameters.items(), *holder._buffers.items()):
            if one is not None:
                found[f"{where}.{name}" if where else name] = one
    return found


def _same(one: Tensor | None, other: Tensor | None) -> bool:
    if one is None or other is None or one is other:
        return one is other
    return one.shape == other.shape and one.dtype == other.dtype and torch.equal(one, other)
