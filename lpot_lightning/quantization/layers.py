"""Post-training quantization layer by layer: observe, prove, convert."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from statistics import median
from time import perf_counter
from typing import Any

import torch
from torch import Tensor, nn

from lpot_lightning.module.calls import ModuleCalls
from lpot_lightning.module.stand_in import StandIn
from lpot_lightning.quantization.capability import configs_of
from lpot_lightning.quantization.functions.owners import SOME_ONLY, Owners
from lpot_lightning.quantization.graph.capture import Captured
from lpot_lightning.quantization.kernels.grid import Grid
from lpot_lightning.quantization.kernels.proof import wrong_for
from lpot_lightning.quantization.observed_layer import ObservedLayer
from lpot_lightning.quantization.op_profile import OpProfile
from lpot_lightning.quantization.program.program import Program
from lpot_lightning.quantization.quantized_layer import (
    TABLES,
    Int8Form,
    LayerForward,
    QuantizedLayer,
    kind_of_class,
    quantized,
    unquantizable,
    weight_of,
)
from lpot_lightning.quantization.ranges.choice import grid_for
from lpot_lightning.recipe import FP32, Op, OpConfig, Recipe

BIAS = "fast_bias_correction"
RUNS = 3
Verdict = tuple[dict[str, str], dict[str, str]]
"""Ops that cannot be int8, with the reason, and ops whose kernel is wrong here, with how."""


def _own(verdict: Verdict) -> Verdict:
    return verdict


class PreparedLayers:
    """The layers of one model that can be int8, watched.

    Args:
        layers: by path, of a kind that has an int8 form.
        calls: of each module, in a dry run.
        excluded: what has weights and is no op, with the reason.
        roots: the modules that are called from outside of all others: graphs are made of them.
        bits: 8, or 7 where kernels saturate.
        owners: modules that compute with their own weights, by path.
        order: the paths of all, in the order of the model.
        shared: ids of tensors that more than one module has.
    """

    def __init__(
        self,
        layers: Mapping[str, nn.Module],
        calls: Mapping[int, ModuleCalls],
        excluded: dict[str, str],
        roots: Sequence[str],
        *,
        bits: int,
        owners: Mapping[str, nn.Module],
        order: Sequence[str],
        shared: Collection[int] = (),
    ) -> None:
        self._layers = {path: ObservedLayer(layer) for path, layer in layers.items()}
        self._owners = Owners(owners, calls, self._found, shared)
        self._order = {path: number for number, path in enumerate(order)}
        self._forwards = {path: LayerForward(layer, None) for path, layer in layers.items()}
        self._captured: dict[str, Captured] | None = None
        self._calls = {path: calls.get(id(layer), ModuleCalls()) for path, layer in layers.items()}
        self.excluded = excluded
        self.exact: dict[str, str] = {}
        self._bits, self._roots = bits, roots
        self._wrong: dict[str, str] = {}
        self._refused: dict[str, str] = {}
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
        unusable = {path: _unusable(one) for path, one in self._layers.items()}
        wrong = {path: why for path, why in {**unusable, **refused}.items() if why}
        usable = [path for path in self._layers if path not in wrong]
        exact = {path: why for path in usable if (why := self._disproved(path))}
        self._wrong, self.exact = agreed((wrong, exact))
        self.excluded.update(self._wrong)

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

    def _disproved(self, path: str) -> str | None:
        layer = self._layers[path]
        if not layer.shapes:
            return None
        made = self._made(path, configs_of(_kind(layer))[0])
        if not isinstance(made, QuantizedLayer):
            return None
        shapes = [_with_border(shape, made.border) for shape in layer.shapes]
        return wrong_for(made.kernel, shapes)

    @property
    def ops(self) -> tuple[Op, ...]:
        """The ops in the order of the model."""
        return tuple(
            Op(
                name=path,
                kind=_kind(layer),
                configs=(FP32,) if path in self._wrong else configs_of(_kind(layer)),
                weight_bytes=_weight_bytes(layer.layer),
                corrections=() if path in self._wrong or layer.means is None else (BIAS,),
            )
            for path, layer in self._layers.items()
        )

    def convert(self, recipe: Recipe) -> dict[str, StandIn]:
        """Return the int8 layers by path, and those in fp32: graphs are the same for all recipes.

        What computes for a layer is one object for all of them, so that what an earlier call gave
        computes as this recipe says.
        """
        configs = recipe.as_mapping()
        found = {path: self._chosen(path, configs[path]) for path in self._forwards}
        int8 = [op for op in recipe.int8_ops if op not in found]
        forms = {op: self._made(op, configs[op]) for op in int8}
        return found | self._owners.chosen(forms, _as_they_are(recipe))  # type: ignore[arg-type]

    def _chosen(self, path: str, config: OpConfig) -> StandIn:
        forward = self._forwards[path]
        forward.int8 = None if config.is_fp32 else self._made(path, config)
        gone = () if config.is_fp32 else self._gone(path)
        return StandIn(forward.int8, gone=gone, forward=forward)

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
        observed = self._layers[path]
        made = quantized(observed.layer, self._grid(observed, config))
        if isinstance(made, QuantizedLayer):
            made.kernel.exact = path in self.exact
            if BIAS in config.corrections:
                _correct_bias(made, observed)
        return made

    def _grid(self, observed: ObservedLayer, config: OpConfig) -> Grid | None:
        if isinstance(observed.layer, TABLES):
            return None
        asked = config.activation
        return grid_for(observed.seen, str(asked.scheme), str(asked.algorithm), bits=self._bits)

    def rank(self, recipe: Recipe) -> list[tuple[str, float]]:
        """Return for each int8 op the error of its own output, on the batch of the dry run."""
        return [(op, self.error(recipe, [op])) for op in recipe.int8_ops]

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
        return self._measured

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
        grid = self._grid(layer, config)
        if grid is not None:
            found["activation"] |= {"scale": grid.scale, "zero_point": grid.zero_point}
        return found


def _as_they_are(recipe: Recipe) -> set[str]:
    """Return the int8 ops whose weights nothing is done to before they are rounded."""
    plain = {op for op, config in recipe.ops if set(config.corrections) <= {BIAS}}
    return plain - set(recipe.fp32_ops)


def _kind(layer: ObservedLayer) -> str:
    return str(kind_of_class(type(layer.layer)))


def _unusable(layer: ObservedLayer) -> str | None:
    if not layer.called:
        return "saw no calibration data"
    if why := unquantizable(layer.layer):
        return why
    if layer.seen.refused:
        return layer.seen.refused
    if not layer.seen.batches and not isinstance(layer.layer, TABLES):
        return "saw no calibration data"
    return None


def _weight_bytes(layer: nn.Module) -> int:
    tensors: list[Tensor | None] = [getattr(layer, name, None) for name in ("weight", "bias")]
    return sum(one.numel() * one.element_size() for one in tensors if isinstance(one, Tensor))


def _with_border(shape: tuple[int, ...], border: tuple[int, ...]) -> tuple[int, ...]:
    sizes = list(shape)
    for number in range(len(border) // 2):
        sizes[-1 - number] += border[2 * number] + border[2 * number + 1]
    return tuple(sizes)


def _correct_bias(made: QuantizedLayer, observed: ObservedLayer) -> None:
    """Let the mean of each output be what it was: rounding the weight has moved it.

    The shift is the sum of the weight's error times the mean of the input; see Nagel et al., 2019
    (arXiv:1906.04721), section 4.2, whose means are computed and not seen.
    """
    layer: Any = observed.layer
    means, weight = observed.means, weight_of(layer).detach().double()
    assert means is not None
    error = weight - made.kernel.rounded.dequantize().double()
    a_channel = error.flatten(2).sum(2) if error.dim() > 2 else error
    groups = getattr(layer, "groups", 1)
    own = means.view(groups, -1).repeat_interleave(len(weight) // groups, 0)
    shift = (a_channel * own).sum(1).float()
    bias = made.kernel.bias
    made.kernel.bias = shift if bias is None else bias + shift
