"""Int8 by torch's FX graph mode."""

from __future__ import annotations

import contextlib
import linecache
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.ao.quantization.fx.utils import assert_and_get_unique_device
from torch.fx import graph_module

from lpot_lightning.errors import ArtifactError, QuantizationError
from lpot_lightning.quantization.calls import Calls, entered_only_through_forward
from lpot_lightning.quantization.fx import state
from lpot_lightning.quantization.fx.capability import OP_LAYERS, configs_of
from lpot_lightning.quantization.fx.part import Part, PartSpec
from lpot_lightning.quantization.fx.probe import ToggleRun, check_kernels
from lpot_lightning.quantization.fx.trace import NotTraceable, check_equal
from lpot_lightning.recipe import FP32, Op, OpConfig, Recipe

ENGINES = ("x86", "onednn", "fbgemm", "qnnpack")


class FxPrepared:
    """The traced parts of one model."""

    def __init__(self, parts: list[Part], calls: list[Calls], excluded: dict[str, str]) -> None:
        self._parts = parts
        self._calls = calls
        self.excluded = excluded
        self._wrong: dict[str, str] = {}

    @property
    def observed(self) -> dict[str, nn.Module]:
        """The observed graphs by the path of the module they stand for."""
        return {part.spec.path: part.graph for part in self._parts}

    def settle(self) -> None:
        """End the calibration; an op whose kernel is wrong, or that saw no data, stays fp32."""
        for part, calls in zip(self._parts, self._calls, strict=True):
            part.settle()
            self._wrong.update(part.unusable())
            with _quiet():
                converted = part.convert(self._first_choice(part))
                if converted is not None:
                    wrong = check_kernels(part, converted, calls.args, calls.kwargs)
                    self._wrong.update({op: _kernel_reason(error) for op, error in wrong.items()})
        self.excluded.update(self._wrong)

    def _first_choice(self, part: Part) -> dict[str, OpConfig]:
        return {
            op: FP32 if op in self._wrong else configs_of(kind)[0]
            for op, kind in part.ops.kinds.items()
        }

    @property
    def ops(self) -> tuple[Op, ...]:
        """The ops in the order of the graphs."""
        return tuple(
            Op(
                name=name,
                kind=kind,
                configs=(FP32,) if name in self._wrong else configs_of(kind),
                weight_bytes=part.weight_bytes(name),
            )
            for part in self._parts
            for name, kind in part.ops.kinds.items()
        )

    def convert(self, recipe: Recipe) -> dict[str, nn.Module]:
        """Return the int8 graphs by path."""
        configs = recipe.as_mapping()
        found = {}
        with _quiet():
            for part in self._parts:
                module = part.convert({op: configs[op] for op in part.ops.nodes})
                if module is not None:
                    found[part.spec.path] = module
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

    def describe(self, recipe: Recipe) -> dict[str, Any]:
        """Return engine, range and parts, and each op with its scale and zero point."""
        configs = recipe.as_mapping()
        ops: dict[str, Any] = {}
        for part in self._parts:
            scales = part.output_qparams({op: configs[op] for op in part.ops.nodes})
            for op in part.ops.nodes:
                ops[op] = {"kind": part.ops.kinds[op], **configs[op].to_dict()}
                if op in scales and not configs[op].is_fp32:
                    ops[op]["activation"] |= {"scale": scales[op][0], "zero_point": scales[op][1]}
        return {
            "engine": choose_engine(),
            "reduce_range": needs_reduced_range(),
            "parts": [
                {
                    "path": part.spec.path,
                    "wrapped": part.spec.wrapped,
                    "fixed": dict(part.spec.fixed),
                }
                for part in self._parts
            ],
            "op": ops,
        }


class FxBackend:
    """Backend ``pytorch_fx``: the largest traceable modules become graphs of int8 kernels."""

    name = "pytorch_fx"

    def prepare(self, model: nn.Module, calls: Mapping[int, Calls]) -> FxPrepared:
        """Trace and observe what can be traced, from the outside in; ``model`` is left alone.

        Args:
            model: in eval mode, on the CPU, in float32.
            calls: of every module, from a dry run.

        Raises:
            QuantizationError: if the machine has no int8 engine.
        """
        choose_engine()
        search = _Search(calls, reduce_range=needs_reduced_range())
        with _quiet(), torch.no_grad():
            search.visit("", model)
        return FxPrepared(search.parts, search.kept_calls, search.excluded)

    def rebuild(self, model: nn.Module, described: Mapping[str, Any]) -> dict[str, nn.Module]:
        """Take exactly the path that tuning took; the tensors come afterwards, by ``fill``."""
        configs = {name: _config(op) for name, op in described["op"].items()}
        found: dict[str, nn.Module] = {}
        with _quiet(), _engine(described["engine"]), torch.no_grad():
            for plain in described["parts"]:
                spec = PartSpec(plain["path"], plain["wrapped"], tuple(plain["fixed"].items()))
                module = self._rebuild_part(model, spec, configs, described["reduce_range"])
                if module is not None:
                    found[spec.path] = module
        return found

    def _rebuild_part(
        self, model: nn.Module, spec: PartSpec, configs: Mapping[str, OpConfig], reduce_range: bool
    ) -> nn.Module | None:
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
        return part.convert({op: configs[op] for op in part.ops.nodes})

    def to_plain(self, model: nn.Module) -> dict[str, Tensor]:
        """Return the whole state as dense tensors."""
        return state.to_plain(model)

    def fill(self, model: nn.Module, plain: Mapping[str, Tensor]) -> None:
        """Put such a state into a model of the same structure."""
        with _quiet():
            state.fill(model, plain)


class _Search:
    """Walks a model from the outside in and takes the largest modules that can be traced."""

    def __init__(self, calls: Mapping[int, Calls], *, reduce_range: bool) -> None:
        self._known = calls
        self._reduce_range = reduce_range
        self._seen: set[int] = set()
        self.parts: list[Part] = []
        self.kept_calls: list[Calls] = []
        self.excluded: dict[str, str] = {}

    def visit(self, path: str, module: nn.Module) -> None:
        if id(module) in self._seen or not _holds_op(module):
            return
        self._seen.add(id(module))
        calls = self._known.get(id(module))
        reason = "is never called by the validation loop"
        if calls is not None:
            reason = self._take(path, module, calls)
            if not reason:
                return
        if isinstance(module, OP_LAYERS):
            self.excluded[path] = reason
        for name, child in module.named_children():
            self.visit(f"{path}.{name}" if path else name, child)

    def _take(self, path: str, module: nn.Module, calls: Calls) -> str:
        """Make a part of ``module`` and return ``""``, or return why it cannot be one."""
        if not calls.same_shape:
            return "is called with changing non-tensor arguments"
        if not entered_only_through_forward(module, dict(self._known)):
            return "has parts that are called past its `forward`"
        single = isinstance(module, OP_LAYERS)
        fixed = () if single else tuple(calls.fixed[0].items())
        try:
            part = Part.build(
                PartSpec(path, single, fixed), module, reduce_range=self._reduce_range
            )
            if not part.ops.nodes:
                return "has no int8 kernel"
            check_equal(part.graph, module, calls)
        except NotTraceable as error:
            return str(error)
        self.parts.append(part)
        self.kept_calls.append(calls)
        self._note_floats(path, module, part)
        return ""

    def _note_floats(self, path: str, module: nn.Module, part: Part) -> None:
        """Name the layers inside a graph that have no int8 kernel."""
        for name, layer in module.named_modules():
            self._seen.add(id(layer))
            full = ".".join(piece for piece in (path, name) if piece)
            own = list(layer.parameters(recurse=False))
            if own and full not in part.ops.nodes and not part.was_fused(name):
                self.excluded[full] = f"no int8 kernel for `{type(layer).__name__}`"


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


def _holds_op(module: nn.Module) -> bool:
    return any(isinstance(part, OP_LAYERS) for part in module.modules())


def _kernel_reason(error: float) -> str:
    return f"its int8 kernel is wrong on this machine (relative error {error:.2g} against fp32)"


def _config(plain: Mapping[str, Any]) -> OpConfig:
    fields = ("dtype", "scheme", "granularity", "algorithm")
    return OpConfig.from_dict(
        {
            which: {key: tensor[key] for key in fields if key in tensor}
            for which, tensor in plain.items()
            if which in ("activation", "weight")
        }
    )


def choose_engine() -> str:
    """Return the best int8 engine of this machine's torch.

    Raises:
        QuantizationError: if there is none.
    """
    supported = torch.backends.quantized.supported_engines
    for engine in ENGINES:
        if engine in supported:
            return engine
    raise QuantizationError(f"this torch has no int8 engine: it supports {supported}")


def needs_reduced_range() -> bool:
    """Whether 8 x 8 bit products would overflow: x86 before VNNI adds pairs in 16 bits."""
    vnni = getattr(torch.cpu, "_is_vnni_supported", lambda: False)
    return choose_engine() != "qnnpack" and not vnni()


@contextlib.contextmanager
def _engine(wanted: str) -> Iterator[None]:
    """Pack weights for ``wanted`` where this machine has it, else for its own best."""
    before = torch.backends.quantized.engine
    supported = torch.backends.quantized.supported_engines
    torch.backends.quantized.engine = wanted if wanted in supported else choose_engine()
    try:
        yield
    finally:
        torch.backends.quantized.engine = before


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep torch's deprecation notices, caches and engine choice to ourselves.

    ``assert_and_get_unique_device`` caches on the module and would keep every trial's model
    alive (54 MiB a trial on a 40 MiB model, torch 2.13); the source cache of FX grows as well.
    """
    before = torch.backends.quantized.engine
    sources = graph_module._loader.eval_cache
    known = set(sources)
    torch.backends.quantized.engine = choose_engine()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        torch.backends.quantized.engine = before
        assert_and_get_unique_device.cache_clear()
        for source in set(sources) - known:
            del sources[source]
            linecache.cache.pop(source, None)
