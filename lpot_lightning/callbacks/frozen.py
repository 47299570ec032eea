"""Which frozen modules keep their exact outputs while a model trains for int8."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

from lightning.pytorch import LightningModule
from torch import nn

from lpot_lightning.module.flow import Flow, is_in, roles

TEACHER = (
    "is a frozen teacher: its output goes only into losses and metrics; name it in `modules` to"
    " quantize it"
)


class ExactModules:
    """The frozen modules of a fit that nothing rounds: what trains is only compared with them.

    There can only be fewer of them as the training goes on: one that is unfrozen, or found to feed
    what trains, rounds from the next batch on.

    Args:
        paths: of these modules.

    Attributes:
        paths: of those that are left.

    Example::

        exact = ExactModules(["teacher"])
        exact.look(lit)
        lit.training_step(batch, 0)
        exact = exact.after(lit, *exact.looked())  # without those that feed a head
    """

    def __init__(self, paths: Iterable[str] = ()) -> None:
        self.paths = frozenset(paths)
        self._held: tuple[nn.Module | None, dict[str, list[dict[str, Any]]]] = (None, {})
        self._flow: Flow | None = None
        self._give_back: Callable[[], None] | None = None

    def look(self, module: LightningModule) -> None:
        """Let the next training step tell where the outputs of frozen modules go."""
        self.stop()
        self._flow = Flow(module)
        own, step, flow = vars(module), module.training_step, self._flow
        before = own.get("training_step")

        def looked_at(*args: Any, **kwargs: Any) -> Any:
            with flow.looking():
                return step(*args, **kwargs)

        # Lightning reads from its signature whether it wants the number of the batch
        vars(looked_at)["__wrapped__"] = getattr(step, "__wrapped__", step)
        own["training_step"] = looked_at

        def give_back() -> None:
            if own.get("training_step") is looked_at:
                del own["training_step"]
                own.update({} if before is None else {"training_step": before})

        self._give_back = give_back

    def stop(self) -> None:
        """Leave the module as it was before ``look``."""
        give_back, self._give_back = self._give_back, None
        if give_back is not None:
            give_back()

    def looked(self) -> tuple[set[str], set[str]]:
        """End ``look``, and return which layers feed what trains, and which modules were called."""
        self.stop()
        flow, self._flow = self._flow, None
        return (set(), set()) if flow is None else (flow.feeding, flow.called)

    def unfrozen(self, module: LightningModule) -> set[str]:
        """Return which of ``paths`` train now; it takes microseconds."""
        return {
            path
            for path, tensors in self._tensors(module).items()
            if any(
                one is not None and one.requires_grad for held in tensors for one in held.values()
            )
        }

    def _tensors(self, module: LightningModule) -> dict[str, list[dict[str, Any]]]:
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
        self, module: LightningModule, feeding: Collection[str], called: Collection[str]
    ) -> ExactModules:
        """Return what is left when it was looked: of what only holds others, those that are."""
        fed = {path for path in self.paths if any(is_in(one, path) for one in feeding)}
        found = roles(module, feeding, called).items() if fed else ()
        parts = {one for one, feeds in found if not feeds and _are_in(one, fed)}
        return ExactModules(self.paths - fed | parts)


def _are_in(name: str, paths: Iterable[str]) -> bool:
    return any(is_in(name, one) for one in paths)


def reasons(ops: Iterable[str], exact: Collection[str]) -> dict[str, str]:
    """Return why the ops in modules that stay exact are not int8."""
    return {op: TEACHER for op in ops if _are_in(op, exact)}


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
