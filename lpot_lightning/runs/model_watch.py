"""What becomes of a model's layers while it trains for int8."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from torch import nn

from lpot_lightning.errors import quoted
from lpot_lightning.module.flow import Flow, is_in, roles
from lpot_lightning.module.structure import Structure
from lpot_lightning.quantization.backend import Training
from lpot_lightning.runs.frozen import ExactModules

Gather = Callable[[Any], Iterable[Any]]
_SHOWN = 6
_AT_FIRST = 2
"""Batches that are looked at: steps may differ by turns."""


def _alone(seen: Any) -> list[Any]:
    """Return what the only process has seen, as ``Ranks.gather`` does."""
    return [seen]


@dataclass(frozen=True, kw_only=True)
class Changes:
    """What is otherwise than at the last batch.

    Args:
        exchanged: paths at which there is another module, a new one, or none any more.
        rounds: frozen modules that stayed exact, and are to round now.
        exact: those that go on to stay exact.
        frozen: modules that were frozen after the training was prepared, and before it began.
        others: whether more than these are otherwise: a teacher may be exchanged in each batch.
    """

    exchanged: frozenset[str] = frozenset()
    rounds: frozenset[str] = frozenset()
    exact: ExactModules
    frozen: frozenset[str] = frozenset()
    others: bool = True

    def kept(self, training: Training) -> set[str]:
        """Return the ops of ``training`` that are what they were."""
        return {op for op in training.int8_ops if not self._concerns(op)}

    def is_new(self, path: str) -> bool:
        """Whether what the module at ``path`` is to the others is to be found out."""
        return path in self.exchanged or path in self.frozen

    def _concerns(self, op: str) -> bool:
        path = op.partition("#")[0]
        inside = "#" in op and any(is_in(one, path) for one in self.exchanged)  # may lend weights
        return path in self.exchanged or inside or _is_in_any(path, self.rounds | self.frozen)


class ModelWatch:
    """Notices between batches that modules were exchanged, unfrozen, or feed what trains.

    Args:
        module: that trains.
        exact: what of it nothing rounds.

    Example::

        watch = ModelWatch(lit, ExactModules(["teacher"]))
        if flow := watch.flow(lit):
            with flow.looking():
                lit.training_step(batch, 0)
        watch.changes(lit)  # None
    """

    def __init__(self, module: nn.Module, exact: ExactModules) -> None:
        self._structure, self.exact = Structure(module), exact
        self._frozen = set(roles(module, (), ()))
        self._unfrozen: set[str] = set()
        self._flow: Flow | None = None
        self._to_look_at = _AT_FIRST

    def flow(self, module: nn.Module, *, first: bool = False) -> Flow | None:
        """Return what is to follow the next step; ``None`` where nothing is to be found out.

        Args:
            module: that trains.
            first: whether the step is the first one of an epoch.
        """
        wanted = self.exact.paths and (first or self._to_look_at > 0)
        self._flow = Flow(module) if wanted else None
        self._to_look_at -= bool(wanted)
        return self._flow

    def note_backward(self, module: nn.Module) -> None:
        """Note what trains in this very moment: GANs freeze nets between their steps."""
        if self.exact.paths:
            self._unfrozen |= self.exact.unfrozen(module)

    def frozen_since(self, module: nn.Module) -> frozenset[str]:
        """Return the outermost modules that were frozen since this was made."""
        return frozenset(roles(module, (), ())) - self._frozen

    def changes(self, module: nn.Module, gather: Gather = _alone) -> Changes | None:
        """Return what is otherwise than it was, ``None`` where nothing is.

        Where there are several processes, ``gather`` asks them for what they have seen in a
        training step; all of them look at the same steps, and exchange the same modules.
        """
        new = not self._structure.is_of(module)
        exchanged = self._structure.exchanged(module) if new else set()
        exact = ExactModules(self.exact.paths - exchanged) if new else self.exact
        if exact.paths:
            exact = exact.without(self._unfrozen | exact.unfrozen(module))
        flow, self._flow = self._flow, None
        if flow is not None:
            exact = exact.after(module, *_union(gather((flow.feeding, flow.called))))
        rounds = self.exact.paths - exact.paths - exchanged
        if not new and not rounds:
            return None
        teachers = {path for path in self.exact.paths & exchanged if _is_frozen(module, path)}
        others = rounds or any(not _is_in_any(one, exact.paths | teachers) for one in exchanged)
        if not others:
            exact = ExactModules(exact.paths | teachers)
        return Changes(
            exchanged=frozenset(exchanged),
            rounds=frozenset(rounds),
            exact=exact,
            others=bool(others),
        )


def _is_frozen(module: nn.Module, path: str) -> bool:
    """Whether there is something at ``path``, and nothing of it trains."""
    try:
        found = module.get_submodule(path)
    except AttributeError:
        return False
    return not any(one.requires_grad for one in found.parameters())


def _is_in_any(name: str, paths: Iterable[str]) -> bool:
    return any(is_in(name, one) for one in paths)


def _union(seen: Iterable[tuple[Collection[str], Collection[str]]]) -> tuple[set[str], set[str]]:
    feeding: set[str] = set()
    called: set[str] = set()
    for one, other in seen:
        feeding.update(one)
        called.update(other)
    return feeding, called


def told(changes: Changes, training: Training) -> Iterator[str]:
    """Yield what the user should know of ``changes``, which ``training`` has taken in."""
    new = [op for op in training.int8_ops if op.partition("#")[0] in changes.exchanged]
    if new:
        names = quoted(new, _SHOWN)
        yield f"{names}: another layer from here on, which rounds with ranges of its own"
    fp32 = "another layer now, which trains in fp32"
    for op in training.fp32_ops:
        if op.partition("#")[0] in changes.exchanged:
            yield f"`{op}`: {fp32}, as `op_wise`, `model_wise` or `modules` say"
    for path in training.left_out:
        if any(is_in(one, path) for one in changes.exchanged):
            yield f"frozen `{path}` is another module now, which stays exact"
    for op, why in training.excluded.items():
        if op.partition("#")[0] in changes.exchanged and not _is_in_any(op, training.left_out):
            yield f"`{op}`: {fp32}: {why}"
    if changes.rounds:
        names = quoted(sorted(changes.rounds), _SHOWN)
        yield f"frozen {names}: trains, or feeds what trains, and rounds from here on"
