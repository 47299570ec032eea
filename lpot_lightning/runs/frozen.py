"""Which frozen modules keep their exact outputs while a model trains for int8."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from torch import nn

from lpot_lightning.module.flow import is_in, roles

TEACHER = (
    "is a frozen teacher: its output goes only into losses and metrics; name it in `modules` to"
    " quantize it"
)


class ExactModules:
    """The frozen modules of a training that nothing rounds: what trains is only compared with them.

    There can only be fewer of them as the training goes on: one that is unfrozen, or found to feed
    what trains, rounds from the next batch on.

    Args:
        paths: of these modules.

    Example::

        exact, flow = ExactModules(["teacher"]), Flow(lit)
        with flow.looking():
            lit.training_step(batch, 0)
        exact = exact.after(lit, flow.feeding, flow.called)  # without those that feed a head
    """

    def __init__(self, paths: Iterable[str] = ()) -> None:
        self.paths = frozenset(paths)
        self._held: tuple[nn.Module | None, dict[str, list[dict[str, Any]]]] = (None, {})

    def unfrozen(self, module: nn.Module) -> set[str]:
        """Return which of ``paths`` train now; it takes microseconds."""
        return {
            path
            for path, tensors in self._tensors(module).items()
            if any(
                one is not None and one.requires_grad for held in tensors for one in held.values()
            )
        }

    def _tensors(self, module: nn.Module) -> dict[str, list[dict[str, Any]]]:
        """Return what holds the parameters of each; they themselves may be exchanged."""
        whose, tensors = self._held
        if whose is not module:
            found = {path: module.get_submodule(path) for path in self.paths}
            tensors = {
                path: [part._parameters for part in one.modules() if part._parameters]
                for path, one in found.items()
            }
            self._held = module, tensors
        return tensors

    def without(self, paths: Collection[str]) -> ExactModules:
        """Return the others, where ``paths`` are unfrozen."""
        return ExactModules(self.paths.difference(paths))

    def after(
        self, module: nn.Module, feeding: Collection[str], called: Collection[str]
    ) -> ExactModules:
        """Return what is left when it was looked: of what only holds others, those that are."""
        fed = {path for path in self.paths if any(is_in(one, path) for one in feeding)}
        found = roles(module, feeding, called).items() if fed else ()
        parts = {one for one, feeds in found if not feeds and _are_in(one, fed)}
        return ExactModules(self.paths - fed | parts)


def _are_in(name: str, paths: Iterable[str]) -> bool:
    return any(is_in(name, one) for one in paths)


def told(found: Mapping[str, bool], ops: Collection[str]) -> str:
    """Return a line that says which frozen modules round and which stay exact.

    Args:
        found: of ``roles``.
        ops: what can be int8; modules without any are left out.
    """
    lines = []
    for feeds, text in _WORDS.items():
        names = [
            f"`{path}`"
            for path, does in found.items()
            if does is feeds and any(is_in(op, path) for op in ops)
        ]
        if names:
            lines.append(f"frozen {', '.join(names)} {text[len(names) > 1]}")
    return "; ".join(lines)


_WORDS = {
    True: (
        "feeds modules that train: it rounds as they do",
        "feed modules that train: they round as these do",
    ),
    False: (
        "is only compared with: it stays exact",
        "are only compared with: they stay exact",
    ),
}
