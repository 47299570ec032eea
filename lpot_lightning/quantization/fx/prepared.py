"""The traced parts of a model: calibrated, proved, converted, measured."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from torch import nn

from lpot_lightning.errors import in_short
from lpot_lightning.module.calls import ModuleCalls
from lpot_lightning.module.stand_in import StandIn
from lpot_lightning.quantization.fx.capability import configs_of, trained_configs_of
from lpot_lightning.quantization.fx.correction import EQUALIZATION
from lpot_lightning.quantization.fx.damage import Damage, changes_function
from lpot_lightning.quantization.fx.engine import choose_engine, engines, quiet
from lpot_lightning.quantization.fx.input_mean import InputMean
from lpot_lightning.quantization.fx.kernels import check_kernels
from lpot_lightning.quantization.fx.observer import RangeObserver
from lpot_lightning.quantization.fx.part import Part
from lpot_lightning.quantization.fx.profile import profile
from lpot_lightning.quantization.fx.ranges import trained_ranges
from lpot_lightning.quantization.fx.training import FxTraining, places_in
from lpot_lightning.quantization.op_profile import OpProfile
from lpot_lightning.recipe import FP32, Op, OpConfig, Recipe

Verdict = tuple[str, dict[str, str], list[str]]
"""The engine, the ops that its kernels get wrong, each with the reason, and the ops that cannot be
equalized with what they read."""


def _own(verdict: Verdict) -> Verdict:
    return verdict


class FxPrepared:
    """The traced parts of one model.

    Args:
        parts: observed.
        calls: of each part, in a dry run.
        excluded: what is no op, with the reason.
        reduce_range: whether activations keep to 7 bits.
        for_training: whether the model is to be trained for int8: an op has one way to be it then.
        trained: what ``FxTraining.state`` gave, where that is over: its ranges are gone by.
    """

    def __init__(
        self,
        parts: list[Part],
        calls: list[ModuleCalls],
        excluded: dict[str, str],
        *,
        reduce_range: bool,
        for_training: bool = False,
        trained: Mapping[str, Any] | None = None,
    ) -> None:
        self._parts = parts
        self._calls = calls
        self.excluded = excluded
        self.exact: dict[str, str] = {}
        self._reduce_range = reduce_range
        self._choices = trained_configs_of if for_training or trained else configs_of
        self._trained = trained
        self._wrong = {
            op: why for part in parts for op, why in excluded.items() if op in part.ops.nodes
        }
        self._engine = choose_engine()
        self._damage = Damage(parts, calls)

    @property
    def observed(self) -> dict[str, StandIn]:
        """The observed graphs by the path of the module they stand for."""
        return {part.spec.path: part.observed for part in self._parts}

    @contextmanager
    def asleep(self) -> Iterator[None]:
        """Let data through the observed graphs that the calibration is not to count."""
        watchers = self._watchers()
        for watcher in watchers:
            watcher.awake = False
        try:
            yield
        finally:
            for watcher in watchers:
                watcher.awake = True

    def _watchers(self) -> list[RangeObserver | InputMean]:
        return [watcher for part in self._parts for watcher in part.watchers]

    def statistics(self) -> list[Any]:
        """Return what was seen, to be merged with what other processes saw of the same model."""
        return [watcher.statistics() for watcher in self._watchers()]

    def merge(self, seen: Sequence[list[Any]]) -> None:
        """Take what all processes saw, the own part included, in place of the own part."""
        for watcher, *of_each in zip(self._watchers(), *seen, strict=True):
            watcher.merge(of_each)

    def settle(self, agreed: Callable[[Verdict], Verdict] = _own) -> None:
        """End the calibration; an op whose kernel is wrong, or that saw no data, stays fp32.

        Where the best engine has wrong kernels, the one with the fewest is taken.

        Args:
            agreed: makes one verdict of those of several processes.
        """
        for part in self._parts:
            part.settle()
        if self._trained is not None:
            self._take(self._trained)
        for part in self._parts:
            self._wrong.update(part.unusable())
        found: dict[str, dict[str, str]] = {}
        for engine in engines():
            found[engine] = self._wrong_kernels(engine)
            if not found[engine]:
                break
        best = min(found, key=lambda engine: len(found[engine]))
        self._engine, wrong, unequal = agreed((best, found[best], self._unequal()))
        self._wrong.update(wrong)
        for part in self._parts:
            part.corrections.leave_out(unequal)
        self.excluded.update(self._wrong)

    def _take(self, trained: Mapping[str, Any]) -> None:
        """Go by the ranges of a training; what it left in floating point stays so."""
        found, places = trained_ranges(trained["ranges"]), places_in(trained)
        for part in self._parts:
            path = part.spec.path
            part.take(
                {name: found[at] for (at_path, name), at in places.items() if at_path == path}
            )

    def _wrong_kernels(self, engine: str) -> dict[str, str]:
        """Return ops that cannot be int8 on ``engine`` though nothing was known against them."""
        wrong: dict[str, str] = {}
        for part, calls in zip(self._parts, self._calls, strict=True):
            with quiet(engine):
                while more := self._unproved(part, calls, self._wrong | wrong):
                    wrong.update(more)
        return wrong

    def _unequal(self) -> list[str]:
        """Return the ops that compute something else when they are equalized with what they read.

        Where the channels are after a reshape is read from the graph alone, so it is tried out.
        """
        found: list[str] = []
        for part, calls in zip(self._parts, self._calls, strict=True):
            consumers = [boundary.consumer for boundary in part.corrections.boundaries]
            if consumers and changes_function(part, calls, consumers):
                found += [one for one in consumers if changes_function(part, calls, [one])]
        return found

    def _unproved(self, part: Part, calls: ModuleCalls, known: Mapping[str, str]) -> dict[str, str]:
        choice = {
            op: FP32 if op in known else self._configs(op, kind)[0]
            for op, kind in part.ops.kinds.items()
        }
        try:
            converted = part.convert(choice)
        except Exception as error:  # whatever torch's convert meets in a user's layer
            why = f"cannot be converted ({in_short(error)})"
            return {op: why for op, config in choice.items() if not config.is_fp32}
        if converted is None:
            return {}
        assert converted.graph is not None
        wrong = check_kernels(part, converted.graph, calls.args, calls.kwargs)
        return {op: why for op, why in wrong.items() if why and not choice[op].is_fp32}

    @property
    def ops(self) -> tuple[Op, ...]:
        """The ops in the order of the graphs."""
        return tuple(
            Op(
                name=name,
                kind=kind,
                configs=(FP32,) if name in self._wrong else self._configs(name, kind),
                weight_bytes=part.weight_bytes(name),
                reads=part.reads(name),
                corrections=self._corrections(part, name),
            )
            for part in self._parts
            for name, kind in part.ops.kinds.items()
        )

    def _configs(self, op: str, kind: str) -> tuple[OpConfig, ...]:
        """Return what ``op`` may be; what was trained in floating point may be nothing else."""
        left_out = self._trained is not None and OpConfig.from_dict(self._trained["op"][op]).is_fp32
        return (FP32,) if left_out else self._choices(kind)

    def _corrections(self, part: Part, op: str) -> tuple[str, ...]:
        """Return what may be done to ``op``, given what cannot be int8."""
        if self._choices is trained_configs_of:  # its weights were trained to be rounded
            return ()
        found = () if op in self._wrong else part.corrections.possible(op)
        alone = not set(part.reads(op)) - set(self._wrong)
        return tuple(one for one in found if one != EQUALIZATION or not alone)

    def convert(self, recipe: Recipe) -> dict[str, StandIn]:
        """Return the int8 graphs by path."""
        self._damage.forget()  # a trial comes: its validation needs the memory
        configs = recipe.as_mapping()
        found = {}
        with quiet(self._engine):
            for part in self._parts:
                int8 = part.convert({op: configs[op] for op in part.ops.nodes})
                if int8 is not None:
                    found[part.spec.path] = int8
        return found

    def convert_as_trained(self) -> dict[str, StandIn]:
        """Return the int8 graphs that the training was for, proved by nothing but itself."""
        assert self._trained is not None
        self._engine = self._trained["engine"]
        for part in self._parts:
            part.settle()
        self._take(self._trained)
        configs = {op: OpConfig.from_dict(one) for op, one in self._trained["op"].items()}
        return self.convert(Recipe.of(configs))

    def graphs(self, model: nn.Module) -> dict[str, Callable[..., Any]]:
        """Return nothing: the parts are graphs."""
        return {}

    def rank(self, recipe: Recipe) -> list[tuple[str, float]]:
        """Return for each int8 op the error of its part's output with that op alone in int8."""
        return [(op, self.error(recipe, [op])) for op in recipe.int8_ops]

    def error(self, recipe: Recipe, ops: Collection[str]) -> float:
        """Return the error of the output with ``ops`` alone in int8, as ``recipe`` has them.

        The error of a part is the squared difference of its outputs over their squared size; the
        price is the part of a forward of the dry run's batch that ``ops`` reach.
        """
        return self._damage.of(recipe.as_mapping(), ops)

    @property
    def forwards(self) -> float:
        """What ``rank`` and ``error`` cost so far, in forward passes of the dry run's batch."""
        return self._damage.forwards

    def profile(self) -> dict[str, OpProfile]:
        """Return what each op costs in floating point, on the batch of the dry run."""
        found: dict[str, OpProfile] = {}
        for part, calls in zip(self._parts, self._calls, strict=True):
            found |= profile(part, calls.args, calls.kwargs)
        return found

    def training(self, recipe: Recipe) -> FxTraining:
        """Return how the model is trained to be what ``recipe`` says."""
        known = {"backend": "pytorch_fx", "engine": self._engine, "excluded": dict(self.excluded)}
        with quiet(self._engine):
            return FxTraining(
                self._parts, recipe.as_mapping(), reduce_range=self._reduce_range, known=known
            )

    def describe(self, recipe: Recipe) -> dict[str, Any]:
        """Return engine, range and parts, and each op with its scale and zero point."""
        configs = recipe.as_mapping()
        ops: dict[str, Any] = {}
        for part in self._parts:
            own = {op: configs[op] for op in part.ops.nodes}
            given, taken = part.output_qparams(own), part.input_qparams(own)
            for op, config in own.items():
                ops[op] = {"kind": part.ops.kinds[op], **part.corrections.done(op, own).to_dict()}
                if op in given and not config.is_fp32:
                    ops[op]["activation"] |= _named(given[op])
                if op in taken and not config.is_fp32:
                    ops[op]["input"] = _named(taken[op])
        return {
            "engine": self._engine,
            "reduce_range": self._reduce_range,
            "parts": [part.spec.to_dict() for part in self._parts],
            "op": ops,
        }


def _named(qparams: tuple[float, int]) -> dict[str, float]:
    return {"scale": qparams[0], "zero_point": qparams[1]}
