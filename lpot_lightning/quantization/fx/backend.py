"""Int8 by torch's FX graph mode."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from lpot_lightning.errors import ArtifactError, in_short
from lpot_lightning.quantization.calls import Calls
from lpot_lightning.quantization.fx import state
from lpot_lightning.quantization.fx.capability import configs_of
from lpot_lightning.quantization.fx.engine import choose_engine, engines, needs_reduced_range, quiet
from lpot_lightning.quantization.fx.kernels import check_kernels
from lpot_lightning.quantization.fx.observer import RangeObserver, Statistics
from lpot_lightning.quantization.fx.part import Part, PartSpec
from lpot_lightning.quantization.fx.probe import ToggleRun
from lpot_lightning.quantization.fx.profile import OpProfile, profile
from lpot_lightning.quantization.fx.search import Search
from lpot_lightning.quantization.fx.trace import NotTraceable
from lpot_lightning.quantization.replace import StandIn
from lpot_lightning.recipe import FP32, Op, OpConfig, Recipe

Verdict = tuple[str, dict[str, str]]
"""The engine, and the ops that its kernels get wrong, each with the reason."""


def _own(verdict: Verdict) -> Verdict:
    return verdict


class FxPrepared:
    """The traced parts of one model."""

    def __init__(self, parts: list[Part], calls: list[Calls], excluded: dict[str, str]) -> None:
        self._parts = parts
        self._calls = calls
        self.excluded = excluded
        self._wrong: dict[str, str] = {}
        self._engine = choose_engine()

    @property
    def observed(self) -> dict[str, StandIn]:
        """The observed graphs by the path of the module they stand for."""
        return {part.spec.path: part.observed for part in self._parts}

    @contextmanager
    def asleep(self) -> Iterator[None]:
        """Let data through the observed graphs that the calibration is not to count."""
        observers = self._observers()
        for observer in observers:
            observer.awake = False
        try:
            yield
        finally:
            for observer in observers:
                observer.awake = True

    def _observers(self) -> list[RangeObserver]:
        return [
            observer
            for part in self._parts
            for observer in part.graph.modules()
            if isinstance(observer, RangeObserver)
        ]

    def statistics(self) -> list[Statistics]:
        """Return what was seen, to be merged with what other processes saw of the same model."""
        return [observer.statistics() for observer in self._observers()]

    def merge(self, seen: Sequence[list[Statistics]]) -> None:
        """Take what all processes saw, the own part included, in place of the own part."""
        for observer, *of_each in zip(self._observers(), *seen, strict=True):
            observer.merge(of_each)

    def settle(self, agreed: Callable[[Verdict], Verdict] = _own) -> None:
        """End the calibration; an op whose kernel is wrong, or that saw no data, stays fp32.

        Where the best engine has wrong kernels, the one with the fewest is taken.

        Args:
            agreed: makes one verdict of those of several processes.
        """
        for part in self._parts:
            part.settle()
            self._wrong.update(part.unusable())
        found: dict[str, dict[str, str]] = {}
        for engine in engines():
            found[engine] = self._wrong_kernels(engine)
            if not found[engine]:
                break
        best = min(found, key=lambda engine: len(found[engine]))
        self._engine, wrong = agreed((best, found[best]))
        self._wrong.update(wrong)
        self.excluded.update(self._wrong)

    def _wrong_kernels(self, engine: str) -> dict[str, str]:
        """Return ops that cannot be int8 on ``engine`` though nothing was known against them."""
        wrong: dict[str, str] = {}
        for part, calls in zip(self._parts, self._calls, strict=True):
            with quiet(engine):
                while more := self._unproved(part, calls, self._wrong | wrong):
                    wrong.update(more)
        return wrong

    def _unproved(self, part: Part, calls: Calls, known: Mapping[str, str]) -> dict[str, str]:
        choice = {
            op: FP32 if op in known else configs_of(kind)[0] for op, kind in part.ops.kinds.items()
        }
        try:
            converted = part.convert(choice)
        except Exception as error:  # whatever torch's convert meets in a user's layer
            why = f"cannot be converted ({in_short(error)})"
            return {op: why for op, config in choice.items() if not config.is_fp32}
        if converted is None:
            return {}
        wrong = check_kernels(part, converted.graph, calls.args, calls.kwargs)
        return {op: why for op, why in wrong.items() if why and op not in known}

    @property
    def ops(self) -> tuple[Op, ...]:
        """The ops in the order of the graphs."""
        return tuple(
            Op(
                name=name,
                kind=kind,
                configs=(FP32,) if name in self._wrong else configs_of(kind),
                weight_bytes=part.weight_bytes(name),
                reads=part.ops.reads(name),
            )
            for part in self._parts
            for name, kind in part.ops.kinds.items()
        )

    def convert(self, recipe: Recipe) -> dict[str, StandIn]:
        """Return the int8 graphs by path."""
        configs = recipe.as_mapping()
        found = {}
        with quiet(self._engine):
            for part in self._parts:
                int8 = part.convert({op: configs[op] for op in part.ops.nodes})
                if int8 is not None:
                    found[part.spec.path] = int8
        return found

    def rank(self, recipe: Recipe) -> list[tuple[str, float]]:
        """Return for each int8 op the error of its part's output with that op alone in int8.

        The error is the squared difference of the outputs over their squared size; the price is
        one forward of one calibration batch an op, from that op on.
        """
        configs = recipe.as_mapping()
        found: list[tuple[str, float]] = []
        for part, calls in zip(self._parts, self._calls, strict=True):
            names = [op for op in part.ops.nodes if not configs[op].is_fp32]
            if names:
                found += _rank_part(part, calls, configs, names)
        return found

    def profile(self) -> dict[str, OpProfile]:
        """Return what each op costs in floating point, on the batch of the dry run."""
        found: dict[str, OpProfile] = {}
        for part, calls in zip(self._parts, self._calls, strict=True):
            found |= profile(part, calls.args, calls.kwargs)
        return found

    def describe(self, recipe: Recipe) -> dict[str, Any]:
        """Return engine, range and parts, and each op with its scale and zero point."""
        configs = recipe.as_mapping()
        ops: dict[str, Any] = {}
        for part in self._parts:
            own = {op: configs[op] for op in part.ops.nodes}
            given, taken = part.output_qparams(own), part.input_qparams(own)
            for op, config in own.items():
                ops[op] = {"kind": part.ops.kinds[op], **config.to_dict()}
                if op in given and not config.is_fp32:
                    ops[op]["activation"] |= _named(given[op])
                if op in taken and not config.is_fp32:
                    ops[op]["input"] = _named(taken[op])
        return {
            "engine": self._engine,
            "reduce_range": needs_reduced_range(),
            "parts": [
                {
                    "path": part.spec.path,
                    "wrapped": part.spec.wrapped,
                    "fixed": dict(part.spec.fixed),
                    "kept": list(part.spec.kept),
                }
                for part in self._parts
            ],
            "op": ops,
        }


class FxBackend:
    """Backend ``pytorch_fx``: the largest traceable modules become graphs of int8 kernels."""

    name = "pytorch_fx"

    def prepare(
        self,
        model: nn.Module,
        calls: Mapping[int, Calls],
        *,
        avoid: Collection[str] = (),
        whole: bool = True,
    ) -> FxPrepared:
        """Trace and observe what can be traced, from the outside in; ``model`` is left alone.

        Args:
            model: in eval mode, on the CPU, in float32.
            calls: of every module, from a dry run.
            avoid: paths of modules that may not become graphs; what they hold may.
            whole: whether the model itself is to be one graph, and not only where most of its
                layers are its own.

        Raises:
            QuantizationError: if the machine has no int8 engine.
        """
        choose_engine()
        search = Search(calls, reduce_range=needs_reduced_range(), avoid=avoid)
        with quiet(), torch.no_grad():
            search.go(model, whole=whole)
        return FxPrepared(search.parts, search.kept_calls, search.excluded)

    def rebuild(self, model: nn.Module, described: Mapping[str, Any]) -> dict[str, StandIn]:
        """Take exactly the path that tuning took; the tensors come afterwards, by ``fill``."""
        configs = {name: _config(op) for name, op in described["op"].items()}
        found: dict[str, StandIn] = {}
        known: set[str] = set()
        with quiet(described["engine"]), torch.no_grad():
            for plain in described["parts"]:
                fixed, kept = tuple(plain["fixed"].items()), tuple(plain["kept"])
                spec = PartSpec(plain["path"], plain["wrapped"], fixed, kept)
                part = self._rebuild_part(model, spec, configs, described["reduce_range"])
                known |= part.ops.nodes.keys()
                int8 = part.convert({op: configs[op] for op in part.ops.nodes})
                if int8 is not None:
                    found[spec.path] = int8
        for op in configs.keys() - known:
            raise ArtifactError(f"op `{op}` of the tune config is not in the model")
        return found

    def _rebuild_part(
        self, model: nn.Module, spec: PartSpec, configs: Mapping[str, OpConfig], reduce_range: bool
    ) -> Part:
        try:
            module = model.get_submodule(spec.path)
            part = Part.build(spec, module, reduce_range=reduce_range)
        except (AttributeError, NotTraceable) as error:
            raise ArtifactError(
                f"the model's `{spec.path}` is not the one that was quantized: {error}"
            ) from error
        unknown = [op for op in part.ops.nodes if op not in configs]
        if unknown:
            raise ArtifactError(f"op `{unknown[0]}` of the model is not in the tune config")
        part.settle()
        return part

    def to_plain(self, model: nn.Module) -> dict[str, Tensor]:
        """Return the whole state as dense tensors."""
        return state.to_plain(model)

    def fill(self, model: nn.Module, plain: Mapping[str, Tensor], engine: str) -> None:
        """Put such a state into a model of the same structure, packed for ``engine``."""
        with quiet(engine):
            state.fill(model, plain)


def _rank_part(
    part: Part, calls: Calls, configs: Mapping[str, OpConfig], names: list[str]
) -> list[tuple[str, float]]:
    with torch.no_grad():
        run = ToggleRun(part, {op: configs[op] for op in part.ops.nodes})
        clean = run.in_fp32(calls.args, calls.kwargs)
        return [(op, _error(run.with_int8([op]), clean)) for op in names]


def _error(noisy: list[Tensor], clean: list[Tensor]) -> float:
    """Return the mean over the outputs of ``|noisy - clean|² / |clean|²``."""
    shares = [
        float((a - b).square().sum() / b.square().sum().clamp_min(1e-30))
        for a, b in zip(noisy, clean, strict=True)
    ]
    return sum(shares) / len(shares) if shares else 0.0


def _named(qparams: tuple[float, int]) -> dict[str, float]:
    return {"scale": qparams[0], "zero_point": qparams[1]}


def _config(plain: Mapping[str, Any]) -> OpConfig:
    fields = ("dtype", "scheme", "granularity", "algorithm")
    return OpConfig.from_dict(
        {
            which: {key: tensor[key] for key in fields if key in tensor}
            for which, tensor in plain.items()
            if which in ("activation", "weight")
        }
    )
