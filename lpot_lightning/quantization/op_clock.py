"""What the ops of a model take in a step, in int8 or in fp32, where they stand."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from math import fsum
from typing import Any, Protocol, runtime_checkable

import torch
from torch import nn

from lpot_lightning.recipe import Recipe

_LEAST_SECONDS = 1e-9
OFTEN = 16
"""Calls of one shape after which an int8 model computes as fast as it gets."""


class OpClock(Protocol):
    """Tells what ops take in one step on the user's batch.

    Attributes:
        chains: ops between which values stay integers, in int8.
        step: seconds of all of the step, in int8.
    """

    chains: tuple[tuple[str, ...], ...]
    step: float

    def seconds(self, recipe: Recipe) -> Mapping[str, float]:
        """Return what each op takes, its way to integers and back included, run once."""


@runtime_checkable
class Timeable(Protocol):
    """A prepared model whose ops can be timed one by one."""

    def op_clock(
        self,
        model: nn.Module,
        recipe: Recipe,
        step: Callable[[int], Sequence[float]],
        clock: Callable[[], float],
    ) -> OpClock:
        """Return what times the ops of ``model``, which is ``recipe`` now.

        Args:
            model: in int8, as trials are.
            recipe: in which the ops to be timed are int8.
            step: shows it the user's batch so many times, and returns the seconds of each.
            clock: gives seconds.
        """


class LayerTimes:
    """A layer that computes by itself, int8 or not.

    Args:
        int8: computes in int8; so does ``fp32`` in floats.
        calls: what it got in a step, each time.
        clock: gives seconds.
    """

    def __init__(
        self,
        int8: Callable[..., Any],
        fp32: Callable[..., Any],
        calls: Sequence[tuple[Any, Any]],
        clock: Callable[[], float],
    ) -> None:
        self._int8, self._fp32, self._calls, self._clock = int8, fp32, calls, clock

    def seconds(self, *, in_fp32: bool) -> float:
        """Return what its calls take."""
        compute, started = self._fp32 if in_fp32 else self._int8, self._clock()
        for args, kwargs in self._calls:
            compute(*args, **kwargs)
        return self._clock() - started


class StepTimes:
    """The ops of a step: those in programs, and those that compute by themselves.

    Args:
        programs: each with how often it ran.
        layers: by op.
        recipe: of which the ops are now.
        choose: lets all ops compute as a recipe says.
        step: seconds of all of it.
    """

    def __init__(
        self,
        programs: Sequence[tuple[ProgramTimes, int]],
        layers: Mapping[str, LayerTimes],
        recipe: Recipe,
        choose: Callable[[Recipe], object],
        step: float,
    ) -> None:
        self._programs, self._layers, self._choose = programs, layers, choose
        self.step = step
        self.chains = tuple(sorted(map(_sorted, self._chains())))
        self._made = {recipe.key: [(one.int8, calls) for one, calls in programs]}

    def _chains(self) -> Iterator[set[str]]:
        found: list[set[str]] = [{op} for op in self._layers]
        for program, _ in self._programs:
            for chain in program.chains:
                apart = [one for one in found if not one & chain]
                found = [*apart, chain.union(*(one for one in found if one & chain))]
        yield from found

    @torch.no_grad()
    def seconds(self, recipe: Recipe) -> dict[str, float]:
        """Return what each op takes in one run."""
        if recipe.key not in self._made:
            self._choose(recipe)
            self._made[recipe.key] = [(one.make(), calls) for one, calls in self._programs]
        fp32, found = set(recipe.fp32_ops), dict[str, float]()
        for timed, calls in self._made[recipe.key]:
            for op, seconds in timed().items():
                found[op] = found.get(op, 0.0) + calls * seconds
        for op, layer in self._layers.items():
            found[op] = found.get(op, 0.0) + layer.seconds(in_fp32=op in fp32)
        return found


class Turns:
    """Runs ops as two recipes have them, in turns; who begins changes.

    Args:
        ops: runs them.
        first: in which all of them are int8.
        second: in which some are not.
    """

    def __init__(self, ops: OpClock, first: Recipe, second: Recipe) -> None:
        self._ops, self._recipes, self.runs = ops, (first, second), 0
        self._seconds: tuple[list[Mapping[str, float]], list[Mapping[str, float]]] = [], []

    def run(self) -> None:
        """Run each once."""
        for place in (0, 1) if self.runs % 2 == 0 else (1, 0):
            self._seconds[place].append(self._ops.seconds(self._recipes[place]))
        self.runs += 1

    def least(self, op: str) -> tuple[float, float]:
        """Return the least that an op took in each: what else the machine does only adds to it."""
        first, second = (min(one.get(op, 0.0) for one in each) for each in self._seconds)
        return first, second

    def pairs(self, chain: Sequence[str], some: Sequence[str]) -> tuple[list[float], list[float]]:
        """Return what ``some`` ops of a chain take as the first has them, and as the second.

        What the rest of the chain takes more in the second is theirs.
        """
        firsts, seconds = [], []
        for first, second in zip(*self._seconds, strict=True):
            own = fsum(first.get(op, 0.0) for op in some)
            saved = fsum(first.get(op, 0.0) - second.get(op, 0.0) for op in chain)
            firsts.append(max(own, _LEAST_SECONDS))
            seconds.append(max(own - saved, _LEAST_SECONDS))
        return firsts, seconds


class ProgramTimes(Protocol):
    """The ops of one program."""

    @property
    def chains(self) -> Sequence[set[str]]:
        """The ops between which values stay integers."""

    def int8(self) -> Mapping[str, float]:
        """Run it as it was first, and return the seconds of each op."""

    def make(self) -> Callable[[], Mapping[str, float]]:
        """Return what runs the program as its ops are now, and gives the seconds of each op."""


def _sorted(ops: set[str]) -> tuple[str, ...]:
    return tuple(sorted(ops))


@contextmanager
def noted(owners: Mapping[str, Any], name: str) -> Iterator[dict[str, list[tuple[Any, Any]]]]:
    """Let what the method ``name`` of some objects is called with be noted, by their keys."""
    calls: dict[str, list[tuple[Any, Any]]] = {key: [] for key in owners}
    before = {key: vars(owner).get(name) for key, owner in owners.items()}
    noting = {key: _noting(getattr(one, name), calls[key]) for key, one in owners.items()}
    try:
        for key, owner in owners.items():
            vars(owner)[name] = noting[key]
        yield calls
    finally:
        for key, owner in owners.items():
            _put_back(vars(owner), name, noting[key], before[key])


def _put_back(own: dict[str, Any], name: str, ours: object, before: object) -> None:
    if own.get(name) is not ours:
        return  # it was made anew meanwhile
    own[name] = before
    if before is None:
        del own[name]


def _noting(work: Callable[..., Any], calls: list[tuple[Any, Any]]) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        calls.append((args, kwargs))
        return work(*args, **kwargs)

    return call
