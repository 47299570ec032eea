"""Post-training quantization layer by layer: observe, prove, convert."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from statistics import median
from time import perf_counter
from typing import Any

import torch
from torch import Tensor, nn

from lpot_lightning.module.calls import ModuleCalls
from lpot_lightning.module.flow import is_in
from lpot_lightning.module.stand_in import StandIn
from lpot_lightning.quantization.capability import AS_TRAINED, configs_of
from lpot_lightning.quantization.corrections import BIAS, EQUALIZATION, WEIGHT, corrected
from lpot_lightning.quantization.damage import RootErrors
from lpot_lightning.quantization.equalization import Equalization
from lpot_lightning.quantization.functions.owners import SOME_ONLY, UNSEEN, Owners
from lpot_lightning.quantization.graph.capture import Captured
from lpot_lightning.quantization.kernels.grid import Grid
from lpot_lightning.quantization.kernels.proof import shapes_like, wrong_kernel
from lpot_lightning.quantization.observed_layer import ObservedLayer, input_of
from lpot_lightning.quantization.op_clock import LayerTimes, StepTimes, noted
from lpot_lightning.quantization.op_profile import OpProfile
from lpot_lightning.quantization.program.node_times import NodeTimes
from lpot_lightning.quantization.program.program import Program
from lpot_lightning.quantization.quantized_layer import (
    TABLES,
    Int8Form,
    LayerForward,
    QuantizedLayer,
    kind_of_class,
    quantized,
    unquantizable,
)
from lpot_lightning.quantization.ranges.choice import grid_for
from lpot_lightning.quantization.ranges.histogram import Histogram
from lpot_lightning.quantization.training.functions import FunctionSign, view_in
from lpot_lightning.quantization.training.state import TrainedOps
from lpot_lightning.quantization.training.training import LayersTraining
from lpot_lightning.recipe import FP32, Op, OpConfig, Recipe

RUNS = 3
Verdict = tuple[dict[str, str], dict[str, str], dict[str, Equalization]]
"""Ops that cannot be int8, with the reason, ops whose kernel is wrong here, with how, and how the
inputs of ops can be equalized."""


def _own(verdict: Verdict) -> Verdict:
    return verdict


class PreparedLayers:
    """The layers of one model that can be int8, watched.

    Args:
        layers: by path, of a kind that has an int8 form.
        calls: of each module, in a dry run.
        excluded: what has weights and is no op, with the reason.
        roots: by path, the modules that are called from outside of all others: graphs are made of
            them, and errors measured at their outputs.
        bits: 8, or 7 where kernels saturate.
        owners: modules that compute with their own weights, by path.
        order: the paths of all, in the order of the model.
        shared: ids of tensors that more than one module has.
        for_training: whether a model is to be trained for int8, and not to become so.
        trained: what such a training came to.
        left_out: paths of modules whose ops stay floats, with the reason; where it is given,
            other frozen layers may be called in training only.
    """

    def __init__(
        self,
        layers: Mapping[str, nn.Module],
        calls: Mapping[int, ModuleCalls],
        excluded: dict[str, str],
        roots: Mapping[str, nn.Module],
        *,
        bits: int,
        owners: Mapping[str, nn.Module],
        order: Sequence[str],
        shared: Collection[int] = (),
        for_training: bool = False,
        trained: TrainedOps | None = None,
        left_out: Mapping[str, str] | None = None,
    ) -> None:
        self._for_training, self._trained = for_training, trained
        self._knows_frozen = left_out is not None
        self._left_out = dict(left_out or {}) if trained is None else dict(trained.left_out)
        self._layers = {path: ObservedLayer(layer) for path, layer in layers.items()}
        self._owners = Owners(owners, calls, self._found, shared)
        self._order = {path: number for number, path in enumerate(order)}
        self._forwards = {path: LayerForward(layer, None) for path, layer in layers.items()}
        self._forms: dict[str, tuple[OpConfig, Int8Form]] = {}
        self._captured: dict[str, Captured] | None = None
        self._calls = {path: calls.get(id(layer), ModuleCalls()) for path, layer in layers.items()}
        self.excluded = excluded
        self.exact: dict[str, str] = {}
        self._bits, self._roots = bits, tuple(roots)
        called = {path: calls.get(id(root), ModuleCalls()) for path, root in roots.items()}
        self._damage = RootErrors(roots, called, layers)
        self._wrong: dict[str, str] = {}
        self._refused: dict[str, str] = {}
        self._equalizations: dict[str, Equalization] = {}
        self._measured = 0.0

    @property
    def observed(self) -> dict[str, StandIn]:
        """The watched layers, and modules with functions that have weights, by their path."""
        layers = {path: self._layers[path] for path in self._forwards}
        return {
            path: StandIn(one) for path, one in (*layers.items(), *self._owners.observed.items())
        }

    def _found(self, name: str, seen: ObservedLayer, x: Tensor) -> None:
        """Take a function with a weight in as one of the layers."""
        self._layers[name], self._calls[name] = seen, ModuleCalls(args=(x,), count=1)

    @contextmanager
    def asleep(self) -> Iterator[None]:
        """Let data through that the calibration is not to count."""
        watched = [part.graph for part in self.observed.values()]
        for one in watched:
            one.awake = False  # type: ignore[union-attr]
        try:
            yield
        finally:
            for one in watched:
                one.awake = True  # type: ignore[union-attr]

    def statistics(self) -> dict[str, Any]:
        """Return what was seen, as plain values."""
        layers = {path: layer.statistics() for path, layer in self._layers.items()}
        owners = self._owners
        return {"layers": layers, "what": owners.signatures(), "refused": owners.refused()}

    def merge(self, seen: Sequence[dict[str, Any]]) -> None:
        """Take what all processes saw, the own part included, in place of the own part."""
        self._owners.agree([one["what"] for one in seen])
        self._refused = {name: why for one in seen for name, why in one["refused"].items()}
        for path, layer in self._layers.items():
            layer.merge([one["layers"][path] for one in seen if path in one["layers"]])

    def settle(self, agreed: Callable[[Verdict], Verdict] = _own) -> None:
        """End the calibration; what saw no data, or what 8 bits cannot hold, stays fp32.

        A kernel that is wrong on this machine leaves its op to plain arithmetic, alone.
        """
        self._sort_out()
        refused = self._refused
        unusable = {path: self._unusable(path) for path in self._layers}
        left_out = self._out_of(self._left_out, self._layers)
        wrong = {path: why for path, why in {**unusable, **refused, **left_out}.items() if why}
        usable = [path for path in self._layers if path not in wrong]
        exact = {path: why for path in usable if (why := self._disproved(path))}
        evened = {path: one for path in usable if (one := self._equalization(path))}
        self._wrong, self.exact, self._equalizations = agreed((wrong, exact, evened))
        self.excluded.update(self._wrong)
        unseen = [path for path, why in self.excluded.items() if why == UNSEEN]
        self.excluded.update(self._out_of(self._left_out, unseen))

    def _out_of(self, modules: Mapping[str, str], ops: Iterable[str]) -> dict[str, str]:
        """Return why those of ``ops`` that are in ``modules`` stay floats."""
        return {op: why for path, why in modules.items() for op in ops if is_in(op, path)}

    def _unusable(self, path: str) -> str | None:
        layer = self._layers[path]
        why = unquantizable(layer.layer)
        if why is None and not self._is_seen(path) and not self._may_be_unseen(path):
            why = layer.seen.refused or UNSEEN
        return why

    def _is_seen(self, path: str) -> bool:
        layer = self._layers[path]
        known = isinstance(layer.layer, TABLES) or layer.seen.batches and not layer.seen.refused
        return layer.called and bool(known)

    def _may_be_unseen(self, path: str) -> bool:
        """Whether training batches are to show what a layer reads, and no calibration."""
        layer = self._layers[path]
        learns = any(one.requires_grad for one in layer.layer.parameters())
        may = learns or self._knows_frozen  # what to leave out is known: the training may call it
        return self._for_training and may and not layer.called

    def _sort_out(self) -> None:
        """Put functions where their modules stand, and leave out what others compute with."""
        self._refused |= self._owners.refused()
        uncalled = [path for path in self._forwards if not self._layers[path].called]
        taken = {path for path in uncalled if self._owners.takes(self._layers[path].layer)}
        unlike = {name for name, why in self._refused.items() if why == SOME_ONLY}
        names = [path for path in self._layers if path not in taken | unlike]
        self._layers = {path: self._layers[path] for path in sorted(names, key=self._place)}
        for path in taken:
            del self._forwards[path]
        self.excluded.update(self._owners.left() | dict.fromkeys(unlike, SOME_ONLY))

    def _place(self, op: str) -> tuple[int, str, int]:
        path, _, function = op.partition("#")
        name, _, number = function.rpartition("_")
        return self._order[path], name, int(number or 0)

    def _equalization(self, path: str) -> Equalization | None:
        layer, calls = self._layers[path], self._calls[path]
        if isinstance(layer.layer, TABLES):
            return None
        return Equalization.of(layer, input_of(calls.args, calls.kwargs))

    def _disproved(self, path: str) -> str | None:
        layer = self._layers[path]
        if self._for_training or isinstance(layer.layer, TABLES):
            return None
        config, *_ = self._configs(path)
        made = None if config.is_fp32 else self._made(path, config)
        if not isinstance(made, QuantizedLayer):
            return None
        shapes = [one for shape in layer.shapes for one in shapes_like(made.kernel_shape(shape))]
        return wrong_kernel(made.kernel, shapes)

    def _configs(self, path: str) -> tuple[OpConfig, ...]:
        """Return what a usable op can be, the first choice first."""
        known, trained = configs_of(_kind(self._layers[path])), self._trained
        if self._for_training:
            table = isinstance(self._layers[path].layer, TABLES)
            return known if table else (AS_TRAINED, FP32)
        config = None if trained is None else trained.configs.get(path)
        if trained is None or config is None:
            return known
        if config.is_fp32:
            return (FP32,)
        return (config, *known) if path in trained.grids else known

    @property
    def ops(self) -> tuple[Op, ...]:
        """The ops in the order of the model."""
        return tuple(
            Op(
                name=path,
                kind=_kind(layer),
                configs=(FP32,) if path in self._wrong else self._configs(path),
                weight_bytes=_weight_bytes(layer.layer),
                corrections=self._corrections(path),
            )
            for path, layer in self._layers.items()
        )

    def _corrections(self, path: str) -> tuple[str, ...]:
        if path in self._wrong or self._layers[path].means is None:
            return ()
        return (EQUALIZATION, WEIGHT, BIAS) if path in self._equalizations else (WEIGHT, BIAS)

    def convert(self, recipe: Recipe) -> dict[str, StandIn]:
        """Return the int8 layers by path, and those in fp32: graphs are the same for all recipes.

        What computes for a layer is one object for all of them, so that what an earlier call gave
        computes as this recipe says.
        """
        configs = recipe.as_mapping()
        found = {path: self._chosen(path, configs[path]) for path in self._forwards}
        int8 = [op for op in recipe.int8_ops if op not in found]
        forms = {op: self._kept(op, configs[op]) for op in int8}
        return found | self._owners.chosen(forms, _as_they_are(recipe))  # type: ignore[arg-type]

    def _chosen(self, path: str, config: OpConfig) -> StandIn:
        forward = self._forwards[path]
        forward.int8 = None if config.is_fp32 else self._kept(path, config)
        gone = () if config.is_fp32 else self._gone(path)
        return StandIn(forward.int8, gone=gone, forward=forward)

    def _kept(self, path: str, config: OpConfig) -> Int8Form:
        """Return what computes in int8 for an op; the last one is kept, with what it has packed."""
        known = self._forms.get(path)
        if known is None or known[0] != config:
            known = self._forms[path] = config, self._made(path, config)
        return known[1]

    def graphs(self, model: nn.Module) -> dict[str, Captured]:
        """Return what computes over the layers of ``model`` where their calls can be captured.

        It is the same for all recipes.
        """
        if self._captured is None:
            roots = {path: model.get_submodule(path) for path in self._roots}
            self._captured = {
                path: Captured(one, Program, self._owners.forward_of(path))
                for path, one in roots.items()
            }
        return self._captured

    def _gone(self, path: str) -> tuple[str, ...]:
        """Return which tensors of a layer nobody needs any more."""
        read = self._calls[path].read
        own = dict(self._layers[path].layer.named_parameters(recurse=False))
        return tuple(name for name in ("weight", "bias") if name in own and not read)

    def _made(self, path: str, config: OpConfig) -> Int8Form:
        observed, x = self._layers[path], self._grid(path, config)
        if x is None:
            return quantized(observed.layer, None)
        made = corrected(observed, x, config, self._equalized(path, config))
        if isinstance(made, QuantizedLayer):
            made.kernel.exact, made.kernel.op = path in self.exact, path
            made.kernel.is_trained = config.is_trained
        return made

    def _equalized(self, path: str, config: OpConfig) -> Equalization | None:
        if config.is_trained and self._trained is not None and path in self._trained.factors:
            return Equalization(self._trained.factors[path], Histogram())  # whose range is trained
        return self._equalizations.get(path)

    def _grid(self, path: str, config: OpConfig) -> Grid | None:
        observed, asked = self._layers[path], config.activation
        if isinstance(observed.layer, TABLES):
            return None
        if config.is_trained and self._trained is not None:
            return self._trained.grids[path]
        evened = EQUALIZATION in config.corrections
        seen = self._equalizations[path].seen if evened else observed.seen
        algorithm = "minmax" if config.is_trained else str(asked.algorithm)
        return grid_for(seen, str(asked.scheme), algorithm, bits=self._bits)

    def rank(self, recipe: Recipe) -> list[tuple[str, float]]:
        """Return for each int8 op the error of what the model gives, on the batch of the dry run.

        Where that does not say anything, since the batch takes another way for one, it is the error
        of the op's own output.
        """
        configs = recipe.as_mapping()
        found = self._damage.of((op, *self._alone(op, configs[op])) for op in recipe.int8_ops)
        return [(op, found[op] or self.error(recipe, [op])) for op in recipe.int8_ops]

    def _alone(self, op: str, config: OpConfig) -> tuple[str, Callable[..., Any]]:
        """Return the path of the module of ``op``, and what computes for it with that in int8."""
        form = self._made(op, config)
        if op in self._forwards or not isinstance(form, QuantizedLayer):
            return op, form.forward
        return self._owners.alone(op, form)

    def error(self, recipe: Recipe, ops: Collection[str]) -> float:
        """Return the sum of the errors that ``ops`` make, each where it stands.

        The error of an op is the squared difference of its output over its squared size.
        """
        configs = recipe.as_mapping()
        return sum(self._error(op, configs[op]) for op in ops if not configs[op].is_fp32)

    def _error(self, path: str, config: OpConfig) -> float:
        calls, layer = self._calls[path], self._layers[path].layer
        if not calls.count:
            return 0.0
        self._measured += 2 / max(1, len(self._layers))
        with torch.no_grad():
            clean = type(layer).forward(layer, *calls.args, **calls.kwargs)
            noisy = self._made(path, config)(*calls.args, **calls.kwargs)
        return float((noisy - clean).square().sum() / clean.square().sum().clamp_min(1e-30))

    @property
    def forwards(self) -> float:
        """What ``rank`` and ``error`` cost so far, in forward passes of the dry run's batch."""
        return self._measured + self._damage.forwards

    def profile(self) -> dict[str, OpProfile]:
        """Return what each op costs in floating point, on the batch of the dry run."""
        return {path: self._profile(path) for path in self._layers if self._calls[path].count}

    def _profile(self, path: str) -> OpProfile:
        calls, layer = self._calls[path], self._layers[path].layer
        taken = []
        with torch.no_grad():
            for _ in range(RUNS):
                started = perf_counter()
                given = type(layer).forward(layer, *calls.args, **calls.kwargs)
                taken.append(perf_counter() - started)
        return OpProfile(median(taken), given.numel() * given.element_size())

    def training(self, recipe: Recipe) -> LayersTraining:
        """Return how a model is trained to be what ``recipe`` says, from the calibration on."""
        configs, int8 = recipe.as_mapping(), recipe.int8_ops
        tables = [op for op in int8 if isinstance(self._layers[op].layer, TABLES)]
        seen = [op for op in int8 if op not in tables and self._is_seen(op)]
        grids = {op: self._grid(op, configs[op]) for op in seen}
        ops = TrainedOps(
            configs=configs,
            grids={op: grid for op, grid in grids.items() if grid is not None},
            factors={
                op: self._equalizations[op].factors.float()
                for op in seen
                if EQUALIZATION in configs[op].corrections
            },
            functions={op: self._signed(op) for op in int8 if op not in self._forwards},
            gone={op: self._gone(op) for op in int8 if op in self._forwards and op in seen},
            roots=self._roots,
            bits=self._bits,
            left_out=self._left_out,
        )
        return LayersTraining(ops, tables=frozenset(tables), excluded=self.excluded)

    def _signed(self, op: str) -> tuple[tuple[str, ...], FunctionSign]:
        owners, call = self._owners, self._owners.call_of(op)
        shift = view_in(call.bias, owners.held_by(op))
        return owners.lent_to(op), FunctionSign.of(call, owners.made_of(op), shift)

    def op_clock(
        self,
        model: nn.Module,
        recipe: Recipe,
        step: Callable[[], float],
        clock: Callable[[], float],
    ) -> StepTimes:
        """Return what times the ops of ``model``, which is ``recipe`` now.

        What a graph could not be made for is timed layer by layer; functions outside of graphs are
        not.
        """
        step()  # graphs are captured, and weights packed
        programs = _programs(self.graphs(model).values())
        with noted(programs, "_computes") as given, noted(self._forwards, "_computed") as alone:
            seconds = step()
        seconds = min(seconds, step(), step())
        timed = [
            (NodeTimes(programs[key], calls[0][0], clock), len(calls))
            for key, calls in given.items()
            if calls
        ]
        inside = {op for one, _ in timed for op in one.ops}
        single = {
            path: LayerTimes(form.forward, _in_floats(self._forwards[path].layer), calls, clock)
            for path, calls in alone.items()
            if calls and path not in inside and (form := self._single(path, recipe)) is not None
        }
        return StepTimes(timed, single, recipe, self.convert, seconds)

    def _single(self, path: str, recipe: Recipe) -> QuantizedLayer | None:
        form = self._forwards[path].int8
        timed = path not in recipe.fp32_ops and isinstance(form, QuantizedLayer)
        return form if timed else None  # type: ignore[return-value]

    def describe(self, recipe: Recipe) -> dict[str, Any]:
        """Return what ``rebuild`` needs besides the tensors, as plain values."""
        return {
            "engine": "onednn",
            "reduce_range": self._bits < 8,
            "parts": [
                {"path": path, "wrapped": False, "fixed": {}, "kept": []} for path in self._roots
            ],
            "op": {path: self._described(path, config, recipe) for path, config in recipe.ops},
        }

    def _described(self, path: str, config: OpConfig, recipe: Recipe) -> dict[str, Any]:
        layer = self._layers[path]
        found = {"kind": _kind(layer), **config.to_dict()}
        if config.is_fp32:
            return found
        if path in self._forwards:
            found["gone"] = list(self._gone(path))
        else:
            found["function"] = self._owners.described(path, _as_they_are(recipe))
        grid = self._grid(path, config)
        if grid is not None:
            found["activation"] |= {"scale": grid.scale, "zero_point": grid.zero_point}
        return found


def _as_they_are(recipe: Recipe) -> set[str]:
    """Return the int8 ops whose weights nothing is done to before they are rounded."""
    plain = {op for op, config in recipe.ops if set(config.corrections) <= {BIAS}}
    return plain - set(recipe.fp32_ops)


def _programs(captured: Iterable[Captured]) -> dict[str, Program]:
    found = [one for each in captured for one in each.lowered if isinstance(one, Program)]
    return {str(number): one for number, one in enumerate(found)}


def _in_floats(layer: nn.Module) -> Callable[..., Any]:
    return partial(type(layer).forward, layer)


def _kind(layer: ObservedLayer) -> str:
    return str(kind_of_class(type(layer.layer)))


def _weight_bytes(layer: nn.Module) -> int:
    tensors: list[Tensor | None] = [getattr(layer, name, None) for name in ("weight", "bias")]
    return sum(one.numel() * one.element_size() for one in tensors if isinstance(one, Tensor))
