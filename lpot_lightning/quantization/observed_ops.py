"""What the calibration of one model saw of each op that may be int8."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from lpot_lightning.module.calls import ModuleCalls
from lpot_lightning.module.flow import is_in
from lpot_lightning.module.stand_in import StandIn
from lpot_lightning.quantization.functions.owners import Owners
from lpot_lightning.quantization.observed_layer import ObservedLayer
from lpot_lightning.quantization.quantized_layer import RANGELESS, unquantizable, weight_names
from lpot_lightning.quantization.reasons import SOME_ONLY, UNSEEN
from lpot_lightning.quantization.training.state import TrainedOps


class ObservedOps:
    """The layers, and the functions with a weight, that are watched in one model.

    Args:
        layers: by path, of a kind that has an int8 form.
        calls: of each module, in a dry run.
        owners: modules that compute with their own weights, by path.
        order: the paths of all, in the order of the model.
        shared: ids of tensors that more than one module has.
        for_training: whether the model is to be trained for int8, and not to become so.
        trained: what such a training came to.
        left_out: paths of modules whose ops stay floats, with the reason; where it is given,
            other frozen layers may be called in training only.

    Attributes:
        layers: of the ops, by name; of functions only once a call has shown them.
        alone: the layers that compute by themselves, by path.
        calls: of each op, in the dry run.
        owners: what has functions.
        left_out: of the training that is over, if there was one.
    """

    def __init__(
        self,
        layers: Mapping[str, nn.Module],
        calls: Mapping[int, ModuleCalls],
        *,
        owners: Mapping[str, nn.Module],
        order: Sequence[str],
        shared: Collection[int],
        for_training: bool,
        trained: TrainedOps | None,
        left_out: Mapping[str, str] | None,
    ) -> None:
        self._for_training, self._knows_frozen = for_training, left_out is not None
        self.left_out = dict(left_out or {}) if trained is None else dict(trained.left_out)
        self.layers = {path: ObservedLayer(layer) for path, layer in layers.items()}
        self.alone = dict(layers)
        self.owners = Owners(owners, calls, self._found, shared)
        self.calls = {path: calls.get(id(layer), ModuleCalls()) for path, layer in layers.items()}
        self._order = {path: number for number, path in enumerate(order)}
        self._refused: dict[str, str] = {}

    @property
    def parts(self) -> dict[str, StandIn]:
        """The watched layers, and modules with functions that have weights, by their path."""
        layers = {path: self.layers[path] for path in self.alone}
        return {
            path: StandIn(one) for path, one in (*layers.items(), *self.owners.observed.items())
        }

    def _found(self, name: str, seen: ObservedLayer, x: Tensor) -> None:
        """Take a function with a weight in as one of the layers."""
        self.layers[name], self.calls[name] = seen, ModuleCalls(args=(x,), count=1)

    @contextmanager
    def asleep(self) -> Iterator[None]:
        """Let data through that the calibration is not to count."""
        watched = [part.graph for part in self.parts.values()]
        for one in watched:
            one.awake = False  # type: ignore[union-attr]
        try:
            yield
        finally:
            for one in watched:
                one.awake = True  # type: ignore[union-attr]

    def statistics(self) -> dict[str, Any]:
        """Return what was seen, as plain values."""
        layers = {path: layer.statistics() for path, layer in self.layers.items()}
        owners = self.owners
        return {"layers": layers, "what": owners.signatures(), "refused": owners.refused()}

    def merge(self, seen: Sequence[dict[str, Any]]) -> None:
        """Take what all processes saw, the own part included, in place of the own part."""
        self.owners.agree([one["what"] for one in seen])
        self._refused = {name: why for one in seen for name, why in one["refused"].items()}
        for path, layer in self.layers.items():
            layer.merge([one["layers"][path] for one in seen if path in one["layers"]])

    def end(self) -> dict[str, str]:
        """End the calibration, and return what of it is no op, with the reason."""
        self._refused |= self.owners.refused()
        uncalled = [path for path in self.alone if not self.layers[path].called]
        taken = {path for path in uncalled if self.owners.takes(self.layers[path].layer)}
        unlike = {name for name, why in self._refused.items() if why == SOME_ONLY}
        names = [path for path in self.layers if path not in taken | unlike]
        self.layers = {path: self.layers[path] for path in sorted(names, key=self._place)}
        for path in taken:
            del self.alone[path]
        return self.owners.left() | dict.fromkeys(unlike, SOME_ONLY)

    def _place(self, op: str) -> tuple[int, str, int]:
        path, _, function = op.partition("#")
        name, _, number = function.rpartition("_")
        return self._order[path], name, int(number or 0)

    def unusable(self) -> dict[str, str]:
        """Return the ops that 8 bits cannot hold, or that saw no data, with the reason."""
        unusable = {path: self._unusable(path) for path in self.layers}
        wrong = {**unusable, **self._refused, **self.out(self.layers)}
        return {path: why for path, why in wrong.items() if why}

    def out(self, ops: Iterable[str]) -> dict[str, str]:
        """Return why those of ``ops`` that are in modules that were left out stay floats."""
        return {op: why for path, why in self.left_out.items() for op in ops if is_in(op, path)}

    def _unusable(self, path: str) -> str | None:
        layer = self.layers[path]
        why = unquantizable(layer.layer)
        if why is None and not self.is_seen(path) and not self._may_be_unseen(path):
            why = layer.seen.refused or UNSEEN
        return why

    def is_seen(self, path: str) -> bool:
        """Whether the calibration has shown what an op reads."""
        layer = self.layers[path]
        known = isinstance(layer.layer, RANGELESS) or layer.seen.batches and not layer.seen.refused
        return layer.called and bool(known)

    def _may_be_unseen(self, path: str) -> bool:
        """Whether training batches are to show what a layer reads, and no calibration."""
        layer = self.layers[path]
        learns = any(one.requires_grad for one in layer.layer.parameters())
        may = learns or self._knows_frozen  # what to leave out is known: the training may call it
        return self._for_training and may and not layer.called

    def gone(self, path: str) -> tuple[str, ...]:
        """Return which tensors of a layer nobody needs any more."""
        read = self.calls[path].read
        layer = self.layers[path].layer
        own = dict(layer.named_parameters(recurse=False))
        return tuple(name for name in weight_names(layer) if name in own and not read)
