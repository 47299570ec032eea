"""A model that is trained for int8: its own layers, called by graphs that round."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from lpot_lightning.errors import ArtifactError
from lpot_lightning.module.calls import Scalar, fixed_arguments
from lpot_lightning.module.stand_in import Undo, let_compute
from lpot_lightning.quantization.fx.engine import quiet
from lpot_lightning.quantization.fx.part import Part
from lpot_lightning.quantization.fx.plan import Place, Plan, plan_of
from lpot_lightning.quantization.fx.ranges import Ranges, check_finite, check_ranges
from lpot_lightning.quantization.fx.spec import PartSpec
from lpot_lightning.recipe import OpConfig


class FxTraining:
    """The rounding of one model while it is trained.

    Args:
        parts: settled.
        configs: what each op will be.
        reduce_range: whether activations keep to 7 bits.
        known: what is in the state besides parts, ops and ranges, as plain values.
    """

    def __init__(
        self,
        parts: Sequence[Part],
        configs: Mapping[str, OpConfig],
        *,
        reduce_range: bool,
        known: Mapping[str, Any],
    ) -> None:
        self._configs, self._known, self._reduce_range = dict(configs), dict(known), reduce_range
        self._specs = [part.spec for part in parts]
        self._places: dict[Place, int] = {}
        plans = [
            plan_of(part, {op: configs[op] for op in part.ops.nodes}, self._places)
            for part in parts
        ]
        self._plans: list[Plan] = [plan for plan in plans if plan is not None]
        self._ranges = Ranges(len(set(self._places.values())), reduce_range=reduce_range)
        self._undo: Undo | None = None

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of the layers whose weights are rounded."""
        return tuple(
            ".".join(piece for piece in (plan.spec.path, layer) if piece)
            for plan in self._plans
            for layer in plan.layers
        )

    @property
    def paths(self) -> tuple[str, ...]:
        """Paths of the modules that graphs compute for."""
        return tuple(plan.spec.path for plan in self._plans)

    @property
    def int8_ops(self) -> tuple[str, ...]:
        """The ops that are trained for int8."""
        return tuple(op for op, config in self._configs.items() if not config.is_fp32)

    @property
    def observing(self) -> bool:
        """Whether the ranges of activations are learned from what passes in training mode."""
        return self._ranges.observing

    @observing.setter
    def observing(self, wanted: bool) -> None:
        self._ranges.observing = wanted

    def attach(self, model: nn.Module) -> None:
        """Let the modules of ``model`` compute as int8 will, rounded, until ``detach``.

        No layer, tensor, name or hook of ``model`` changes, nor its ``state_dict``. A module that
        is called with other constants than it was traced with computes as it did.
        """
        self.detach()
        forwards: dict[str, Callable[..., Any]] = {}
        with quiet():
            for plan in self._plans:
                module = model.get_submodule(plan.spec.path)
                graph = plan.made_for(module, self._ranges)
                forwards[plan.spec.path] = AsTraced.of(plan.spec, graph.forward, module.forward)
        self._undo = let_compute(model, forwards)

    def detach(self) -> None:
        """Let the model compute as it did."""
        undo, self._undo = self._undo, None
        if undo is not None:
            undo()

    @contextmanager
    def attached(self, model: nn.Module) -> Iterator[nn.Module]:
        """Attach for the time of the ``with``."""
        self.attach(model)
        try:
            yield model
        finally:
            self.detach()

    def end_batch(self, maximum: Callable[[Tensor], None] | None = None) -> None:
        """Make the ranges the same in all processes; see ``Ranges.end_batch``."""
        self._ranges.end_batch(maximum)

    def state(self) -> dict[str, Any]:
        """Return all that is needed to go on, or to make int8, as tensors and plain values."""
        return {
            **self._known,
            "reduce_range": self._reduce_range,
            "parts": [spec.to_dict() for spec in self._specs],
            "op": {op: config.to_dict() for op, config in self._configs.items()},
            "places": [[path, target, at] for (path, target), at in self._places.items()],
            "ranges": self._ranges.state(),
        }

    def load_ranges(self, state: Mapping[str, Any]) -> None:
        """Go on with the ranges of ``state``.

        Raises:
            ArtifactError: if they are of other activations.
        """
        if places_in(state) != self._places:
            raise ArtifactError(
                "the trained ranges are of other activations than the model has: it was changed"
                " since, or torch traces it in another way"
            )
        self._ranges.load(state["ranges"])

    @property
    def has_seen_data(self) -> bool:
        """Whether anything passed in training mode; where no activation is rounded, it is true."""
        return not self._ranges.seen or any(self._ranges.seen)

    def check_finite(self) -> None:
        """Raise a ``DataError`` if the training went to NaN or infinity."""
        check_finite(self._ranges)


class AsTraced:
    """A graph for the calls that it was traced for, and the module's own ``forward`` for others.

    A trace takes ``scale=2.0`` or ``mask=None`` as a constant. The layers that other calls reach
    are then found to be called past the graph.

    Args:
        graph: computes the calls whose arguments that are no tensors are ``fixed``.
        own: the ``forward`` that it stands for.
        fixed: by name.
    """

    def __init__(
        self, graph: Callable[..., Any], own: Callable[..., Any], fixed: Mapping[str, Scalar]
    ) -> None:
        self._graph, self._own, self._fixed = graph, own, dict(fixed)
        self.__signature__ = inspect.signature(own)

    @staticmethod
    def of(
        spec: PartSpec, graph: Callable[..., Any], own: Callable[..., Any]
    ) -> Callable[..., Any]:
        """Return what computes for the module of ``spec``."""
        return AsTraced(graph, own, dict(spec.fixed)) if spec.fixed else graph

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Compute by the one or by the other."""
        fits = fixed_arguments(self, args, kwargs) == self._fixed
        return (self._graph if fits else self._own)(*args, **kwargs)


_STATE = {
    "backend": str,
    "engine": str,
    "excluded": dict,
    "reduce_range": bool,
    "parts": list,
    "op": dict,
    "places": list,
    "ranges": dict,
}


def check_state(state: Mapping[str, Any]) -> None:
    """Raise an ``ArtifactError`` unless ``state`` has the fields of ``FxTraining.state``."""
    for name, kind in _STATE.items():
        if not isinstance(state.get(name), kind):
            raise ArtifactError(
                f"the state of the training is damaged: `{name}` is"
                f" `{type(state.get(name)).__name__}`, it has to be `{kind.__name__}`"
            )
    check_ranges(state["ranges"], len(set(places_in(state).values())))


def places_in(state: Mapping[str, Any]) -> dict[Place, int]:
    """Return where the ranges of ``FxTraining.state`` are from."""
    return {(path, target): at for path, target, at in state["places"]}
