"""What each op of one model can be, and what computes for it in int8."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lpot_lightning.quantization.capability import AS_TRAINED, configs_of
from lpot_lightning.quantization.corrections import BIAS, EQUALIZATION, corrected
from lpot_lightning.quantization.equalization import Equalization
from lpot_lightning.quantization.kernels.bounds import Bounds
from lpot_lightning.quantization.kernels.grid import Grid
from lpot_lightning.quantization.kernels.proof import shapes_like, usual_shapes, wrong_kernel
from lpot_lightning.quantization.observed_layer import ObservedLayer, input_of
from lpot_lightning.quantization.observed_ops import ObservedOps
from lpot_lightning.quantization.quantized_layer import (
    RANGELESS,
    TABLES,
    QuantizedLayer,
    kind_of_class,
    quantized,
)
from lpot_lightning.quantization.ranges.choice import grid_for
from lpot_lightning.quantization.ranges.histogram import Histogram
from lpot_lightning.quantization.recurrent import DynamicRecurrent
from lpot_lightning.quantization.rungs import DynamicLayer, LayerForm, layer_on_rung
from lpot_lightning.quantization.training.functions import FunctionSign, view_in
from lpot_lightning.quantization.training.state import TrainedOps
from lpot_lightning.recipe import FP32, OpConfig, Recipe, Rung


class OpForms:
    """The int8 forms of the ops of one model, by what the calibration saw or a training came to.

    Args:
        seen: the ops.
        bounds: of integers that are multiplied.
        for_training: whether the model is to be trained for int8, and not to become so.
        trained: what such a training came to.

    Attributes:
        exact: ops whose kernel is wrong here, with how: plain arithmetic computes in its place.
        equalizations: how the inputs of ops can be equalized.
    """

    def __init__(
        self, seen: ObservedOps, *, bounds: Bounds, for_training: bool, trained: TrainedOps | None
    ) -> None:
        self._seen, self.bounds = seen, bounds
        self._for_training, self._trained = for_training, trained
        self.exact: Mapping[str, str] = {}
        self.equalizations: Mapping[str, Equalization] = {}
        self._kept: dict[str, tuple[OpConfig, LayerForm]] = {}

    def configs(self, path: str) -> tuple[OpConfig, ...]:
        """Return what a usable op can be, the first choice first."""
        known, trained = configs_of(kind(self._seen.layers[path])), self._trained
        if self._for_training:
            table = isinstance(self._seen.layers[path].layer, TABLES)
            return known if table else (AS_TRAINED, FP32)
        config = None if trained is None else trained.configs.get(path)
        if trained is None or config is None:
            return known
        if config.is_fp32:
            return (FP32,)
        return (config, *known) if path in trained.grids else known

    def equalization(self, path: str) -> Equalization | None:
        """Return how the input of an op can be equalized, ``None`` where it cannot."""
        layer, calls = self._seen.layers[path], self._seen.calls[path]
        if isinstance(layer.layer, RANGELESS):
            return None
        return Equalization.of(layer, input_of(calls.args, calls.kwargs))

    def disproved(self, path: str) -> str | None:
        """Return how the kernel of an op is wrong on this machine, ``None`` where it is right."""
        layer = self._seen.layers[path]
        if self._for_training or isinstance(layer.layer, TABLES):
            return None
        rungs = {config.rung: config for config in reversed(self.configs(path))}
        found = (self._disproved(path, rungs.get(one)) for one in (Rung.STATIC, Rung.DYNAMIC))
        return next((why for why in found if why), None)

    def _disproved(self, path: str, config: OpConfig | None) -> str | None:
        made = None if config is None else self.made(path, config)
        if isinstance(made, DynamicRecurrent):
            found = (wrong_kernel(one, usual_shapes(one)) for one in made.kernels)
            return next((why for why in found if why), None)
        if not isinstance(made, QuantizedLayer | DynamicLayer):
            return None
        seen = self._seen.layers[path].shapes
        shapes = [one for shape in seen for one in shapes_like(made.kernel_shape(shape))]
        return wrong_kernel(made.kernel, shapes)

    def kept(self, path: str, config: OpConfig) -> LayerForm:
        """Return what computes in int8 for an op; the last one is kept, with what it has packed."""
        known = self._kept.get(path)
        if known is None or known[0] != config:
            known = self._kept[path] = config, self.made(path, config)
        return known[1]

    def made(self, path: str, config: OpConfig) -> LayerForm:
        """Return what computes in int8 for an op, a new one."""
        observed, x = self._seen.layers[path], self.grid(path, config)
        if isinstance(observed.layer, TABLES):
            return quantized(observed.layer, None, group_size=group_size_of(config))
        if x is None:
            return self._on_rung(path, config)
        evened, pair = self._equalized(path, config), self.bounds.pair
        made = corrected(observed, x, config, evened, pair)
        if isinstance(made, QuantizedLayer):
            made.kernel.exact, made.kernel.op = path in self.exact, path
            made.kernel.is_trained = config.is_trained
        return made

    def _on_rung(self, path: str, config: OpConfig) -> LayerForm:
        made = layer_on_rung(self._seen.layers[path].layer, config, bounds=self.bounds)
        kernels = [made.kernel] if isinstance(made, DynamicLayer) else []
        for one in made.kernels if isinstance(made, DynamicRecurrent) else kernels:
            one.exact, one.op = path in self.exact, path
        return made

    def _equalized(self, path: str, config: OpConfig) -> Equalization | None:
        if config.is_trained and self._trained is not None and path in self._trained.factors:
            return Equalization(self._trained.factors[path], Histogram())  # whose range is trained
        return self.equalizations.get(path)

    def grid(self, path: str, config: OpConfig) -> Grid | None:
        """Return the grid that an op reads its input on, ``None`` where none is known before."""
        observed, asked = self._seen.layers[path], config.activation
        if config.rung is not Rung.STATIC:
            return None
        if config.is_trained and self._trained is not None:
            return self._trained.grids[path]
        evened = EQUALIZATION in config.corrections
        seen = self.equalizations[path].seen if evened else observed.seen
        algorithm = "minmax" if config.is_trained else str(asked.algorithm)
        return grid_for(seen, str(asked.scheme), algorithm, bits=self.bounds.bits)

    def tables(self, recipe: Recipe) -> frozenset[str]:
        """Return the int8 ops whose input are ids."""
        layers = self._seen.layers
        return frozenset(op for op in recipe.int8_ops if isinstance(layers[op].layer, TABLES))

    def trained_ops(self, recipe: Recipe, roots: tuple[str, ...]) -> TrainedOps:
        """Return where a training for int8 begins that is to come to ``recipe``.

        Args:
            recipe: of these ops.
            roots: modules that graphs are made of.
        """
        configs, int8, tables = recipe.as_mapping(), recipe.int8_ops, self.tables(recipe)
        seen = [op for op in int8 if op not in tables and self._seen.is_seen(op)]
        grids = {op: self.grid(op, configs[op]) for op in seen}
        alone = self._seen.alone
        return TrainedOps(
            configs=configs,
            grids={op: grid for op, grid in grids.items() if grid is not None},
            factors={
                op: self.equalizations[op].factors.float()
                for op in seen
                if EQUALIZATION in configs[op].corrections
            },
            functions={op: self._signed(op) for op in int8 if op not in alone},
            gone={op: self._seen.gone(op) for op in int8 if op in alone and op in seen},
            roots=roots,
            bounds=self.bounds,
            left_out=self._seen.left_out,
        )

    def _signed(self, op: str) -> tuple[tuple[str, ...], FunctionSign]:
        owners, call = self._seen.owners, self._seen.owners.call_of(op)
        shift = view_in(call.bias, owners.held_by(op))
        return owners.lent_to(op), FunctionSign.of(call, owners.made_of(op), shift)

    def described(self, path: str, config: OpConfig, recipe: Recipe) -> dict[str, Any]:
        """Return what ``rebuild`` needs of an op of ``recipe``, as plain values."""
        layer = self._seen.layers[path]
        found = {"kind": kind(layer), **config.to_dict()}
        if config.is_fp32:
            return found
        if path in self._seen.alone:
            found["gone"] = list(self._seen.gone(path))
        else:
            found["function"] = self._seen.owners.described(path, as_they_are(recipe))
        grid = self.grid(path, config)
        if grid is not None:
            found["activation"] |= {"scale": grid.scale, "zero_point": grid.zero_point}
        return found


def group_size_of(config: OpConfig) -> int | None:
    """Return how many inputs of a weight have a scale of their own, ``None`` for a whole row."""
    return None if config.weight is None else config.weight.group_size


def as_they_are(recipe: Recipe) -> set[str]:
    """Return the int8 ops whose weights nothing is done to before they are rounded."""
    plain = {op for op, config in recipe.ops if set(config.corrections) <= {BIAS}}
    return plain - set(recipe.fp32_ops)


def kind(layer: ObservedLayer) -> str:
    """Return what kind of op a layer is, as the tune config names it."""
    return str(kind_of_class(type(layer.layer)))
