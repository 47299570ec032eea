"""A model that is trained for int8: its own layers, which round."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from lpot_lightning.errors import ArtifactError
from lpot_lightning.module.stand_in import Undo, let_compute, without_compiler
from lpot_lightning.quantization.quantized_layer import CONVOLUTIONS
from lpot_lightning.quantization.training.functions import FunctionSign, RoundingOwner
from lpot_lightning.quantization.training.layers import RoundedInput, RoundingLayer
from lpot_lightning.quantization.training.ranges import Ranges
from lpot_lightning.quantization.training.state import TrainedOps, function_to_plain
from lpot_lightning.quantization.training.sums import RoundingSums, Sums


def give_back_copies(model: nn.Module) -> None:
    """Let what was copied of a model while it rounded compute by itself, as its class does.

    Args:
        model: is not being trained for int8 at the moment; a module in it may be such a copy.
    """
    for module in model.modules():
        if isinstance(vars(module).get("forward"), RoundingLayer | RoundingOwner):
            del vars(module)["forward"]


class LayersTraining:
    """The rounding of one model while it is trained.

    Args:
        ops: what each op is to be, and where its range begins.
        tables: int8 ops whose input are ids.
        excluded: what stays in fp32 whatever is asked, with the reason.

    Example::

        training = backend.training(prepared, recipe)
        training.attach(model)
        fit(model)
        training.detach()
    """

    def __init__(
        self, ops: TrainedOps, *, tables: frozenset[str], excluded: Mapping[str, str]
    ) -> None:
        self._excluded = dict(excluded)
        self._undo: list[Undo] = []
        self._set_up(ops, tables)

    def _set_up(self, ops: TrainedOps, tables: frozenset[str]) -> None:
        self._ops, self._tables = ops, tables
        names = [op for op in ops.int8_ops if op not in tables]
        self._places = {op: place for place, op in enumerate(names)}
        self._ranges = Ranges([ops.grids.get(op) for op in names], bits=ops.bounds.bits)

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of the modules whose weights are rounded."""
        return tuple(dict.fromkeys(self._path(op) for op in self._ops.int8_ops))

    def _path(self, op: str) -> str:
        return op.rpartition("#")[0] if op in self._ops.functions else op

    @property
    def int8_ops(self) -> tuple[str, ...]:
        """The ops that are trained for int8."""
        return self._ops.int8_ops

    @property
    def excluded(self) -> dict[str, str]:
        """What stays in floating point whatever is asked, with the reason."""
        return dict(self._excluded)

    @property
    def fp32_ops(self) -> tuple[str, ...]:
        """The other ops that stay in floating point."""
        fp32 = (op for op, config in self._ops.configs.items() if config.is_fp32)
        return tuple(op for op in fp32 if op not in self._excluded)

    @property
    def left_out(self) -> Mapping[str, str]:
        """The modules that were left out, with the reason."""
        return self._ops.left_out

    def take_over(self, other: LayersTraining, ops: Collection[str]) -> None:
        """Round ``ops`` as ``other`` does, with the ranges that they have learned there.

        It is for the same model after some of its layers were exchanged, which are not in ``ops``;
        so are those that either training does not know.
        """
        kept = {op for op in ops if op in other._ops.configs}
        tables = {op for op in self._tables if op not in kept} | (other._tables & kept)
        self._set_up(self._ops.with_those_of(other._ops, kept), frozenset(tables))
        pairs = {
            place: other._places[op]
            for op, place in self._places.items()
            if op in kept and op in other._places
        }
        self._ranges.take_over(other._ranges, pairs)
        for op in kept & set(self.int8_ops):
            self._excluded.pop(op, None)

    def learn_only(self, ops: Collection[str] | None) -> None:
        """While ``observing``, let the ranges of ``ops`` alone be learned; of all for ``None``."""
        places = self._places.items()
        self._ranges.only = None if ops is None else {at for op, at in places if op in ops}

    @property
    def observing(self) -> bool:
        """Whether the ranges of activations are learned from what passes."""
        return self._ranges.observing

    @observing.setter
    def observing(self, wanted: bool) -> None:
        self._ranges.observing = wanted

    def follow(self, model: nn.Module) -> None:
        """Learn only while ``model`` itself is in training mode, whatever its parts are in."""
        self._ranges.follows = model

    def attach(self, model: nn.Module) -> None:
        """Let the layers of ``model`` compute as int8 will, rounded, until ``detach``.

        No layer, tensor, name or hook of ``model`` changes, nor its ``state_dict``. What
        ``torch.compile`` gave computes as it is written meanwhile: it would be compiled piece by
        piece, between the layers.
        """
        self.detach()
        layers = [op for op in self.int8_ops if op not in self._ops.functions]
        sums = Sums()
        forwards: dict[str, Callable[..., Any]] = {
            op: RoundingLayer(model.get_submodule(op), self._input(op), sums) for op in layers
        }
        owners: dict[str, list[tuple[FunctionSign, RoundedInput]]] = {}
        lent: dict[str, tuple[str, ...]] = {}
        for op, (names, sign) in self._ops.functions.items():
            input = self._input(op)
            if input is not None:
                owners.setdefault(self._path(op), []).append((sign, input))
                lent[self._path(op)] = names
        for path, ops in owners.items():
            forwards[path] = RoundingOwner(model.get_submodule(path), lent[path], ops)
        for path in self._ops.roots if any(map(_is_conv, forwards.values())) else ():
            forwards[path] = RoundingSums(model.get_submodule(path), sums, forwards.get(path))
        self._undo = [let_compute(model, forwards), without_compiler(model)]

    def _input(self, op: str) -> RoundedInput | None:
        place = self._places.get(op)
        if place is None:
            return None
        pair, factors = self._ops.bounds.pair, self._ops.factors.get(op)
        return RoundedInput(self._ranges, place, pair, factors)

    def detach(self) -> None:
        """Let the model compute as it did."""
        while self._undo:
            self._undo.pop()()

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

    @property
    def has_seen_data(self) -> bool:
        """Whether anything taught a range; where no activation is rounded, it is true."""
        return not self._ranges.seen or any(self._ranges.seen)

    def check_finite(self) -> None:
        """Raise a ``DataError`` if the training went to NaN or infinity."""
        self._ranges.check_finite()

    def state(self) -> dict[str, Any]:
        """Return all that is needed to go on, or to make int8, as tensors and plain values."""
        ops = self._ops
        return {
            "backend": "onednn",
            "excluded": dict(self._excluded),
            "reduce_range": ops.bounds.bits < 8,
            "pair": ops.bounds.pair,
            "parts": [
                {"path": path, "wrapped": False, "fixed": {}, "kept": []} for path in ops.roots
            ],
            "op": {op: config.to_dict() for op, config in ops.configs.items()},
            "function": {op: function_to_plain(*one) for op, one in ops.functions.items()},
            "gone": {op: list(names) for op, names in ops.gone.items()},
            "places": list(self._places),
            "ranges": self._ranges.state(),
            "factors": {op: one.cpu().clone() for op, one in ops.factors.items()},
            "left_out": dict(ops.left_out),
        }

    def load_ranges(self, state: Mapping[str, Any]) -> None:
        """Go on with the ranges of ``state``.

        Raises:
            ArtifactError: if they are of other activations.
        """
        if state["places"] != list(self._places):
            raise ArtifactError(
                "the trained ranges are of other activations than the model has: it was changed"
                " since"
            )
        self._ranges.load(state["ranges"])


def _is_conv(forward: Callable[..., Any]) -> bool:
    return isinstance(forward, RoundingLayer) and isinstance(forward.layer, CONVOLUTIONS)
