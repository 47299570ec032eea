"""Repairs that cost no speed: weights and biases changed before they are rounded."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.fx import GraphModule, Node
from torch.utils.hooks import RemovableHandle

from lpot_lightning.quantization.fx.equalization import Boundary, balance, find_boundaries
from lpot_lightning.quantization.fx.graph import GraphOps
from lpot_lightning.quantization.fx.input_mean import InputMean
from lpot_lightning.quantization.fx.layer import LinearLayer, prefix_of, rounded
from lpot_lightning.quantization.fx.observer import RangeObserver
from lpot_lightning.recipe import OpConfig

EQUALIZATION, BIAS, WEIGHT = (
    "cross_layer_equalization",
    "fast_bias_correction",
    "weight_correction",
)


@dataclass(frozen=True)
class Changed:
    """A layer's tensors, corrected and not yet rounded, and by what its channels were divided."""

    layer: LinearLayer
    weight: Tensor
    bias: Tensor | None
    given: Tensor
    taken: Tensor

    def put(self) -> None:
        """Let the layer hold them; what it held before is left as it is."""
        inner = self.layer.inner
        inner.weight = nn.Parameter(self.weight, requires_grad=False)
        if self.bias is not None:
            inner.bias = nn.Parameter(self.bias, requires_grad=False)

    def simulated(self) -> dict[str, Tensor]:
        """Return them rounded and for channels as they were, by their names in the module."""
        layer, prefix = self.layer, prefix_of(self.layer.module)
        weight = rounded(layer.module, self.weight)
        assert weight is not None
        back = layer.per_output(self.given) / layer.per_input(self.taken)
        found = {f"{prefix}weight": layer.back(layer.by_groups(weight) * back)}
        if self.bias is not None:
            found[f"{prefix}bias"] = self.bias * self.given
        return found


class Corrections:
    """What may be done to the weighted ops of one prepared graph.

    Args:
        graph: prepared; while it is calibrated, its layers are watched.
        ops: its ops.
        reduce_range: as its observers.
    """

    def __init__(
        self, graph: GraphModule, ops: GraphOps, reduce_range: bool, *, balanced: bool
    ) -> None:
        self._targets = {
            op: str(nodes[0].target) for op, nodes in ops.nodes.items() if _is_linear(nodes, graph)
        }
        self._layers = {
            op: LinearLayer(graph.get_submodule(target)) for op, target in self._targets.items()
        }
        self.boundaries = find_boundaries(graph, ops, self._layers, reduce_range)
        if balanced:
            balance(self.boundaries, self._layers)
        self.means = {op: InputMean(layer) for op, layer in self._layers.items()}
        self._hooks: list[RemovableHandle] = []
        self._watch()

    @property
    def watchers(self) -> list[RangeObserver | InputMean]:
        """What takes in calibration data besides the observers of the graph."""
        return [*(one.range for one in self.boundaries), *self.means.values()]

    def _watch(self) -> None:
        seers = [(boundary.producer, boundary.see) for boundary in self.boundaries]
        seers += [(op, mean.see) for op, mean in self.means.items()]
        for op, see in seers:
            layer = self._layers[op].module
            self._hooks.append(layer.register_forward_hook(see, with_kwargs=True))

    def unwatch(self) -> None:
        """Take in no more of what the layers read and give."""
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()

    def possible(self, op: str) -> tuple[str, ...]:
        """Return what may be done to ``op``."""
        if op not in self._layers:
            return ()
        found = [EQUALIZATION] if any(one.consumer == op for one in self.boundaries) else []
        return (*found, WEIGHT) + ((BIAS,) if self._layers[op].bias is not None else ())

    def in_force(self, configs: Mapping[str, OpConfig]) -> list[Boundary]:
        """Return the boundaries that ``configs`` equalize: those with both ends in int8."""
        return [
            one
            for one in self.boundaries
            if EQUALIZATION in configs[one.consumer].corrections
            and not configs[one.consumer].is_fp32
            and not configs[one.producer].is_fp32
        ]

    def touched(self, configs: Mapping[str, OpConfig]) -> set[str]:
        """Return the int8 ops whose tensors ``configs`` correct."""
        ends = {end for one in self.in_force(configs) for end in (one.producer, one.consumer)}
        own = {op for op in self._layers if configs[op].corrections and not configs[op].is_fp32}
        return ends | own

    def changed(
        self, configs: Mapping[str, OpConfig], op: str, graph: GraphModule | None = None
    ) -> Changed | None:
        """Return the tensors of ``op`` as ``configs`` correct them; ``None`` if it holds none.

        Args:
            configs: of every op of the part.
            op: is int8.
            graph: a copy of the prepared graph, where its layers are to be changed.
        """
        layer = self._layers.get(op)
        if layer is None:
            return None
        if graph is not None:
            layer = LinearLayer(graph.get_submodule(self._targets[op]))
        given, taken = self._factors(op, self.in_force(configs))
        return _changed(layer, configs[op].corrections, given, taken, self.means[op].mean)

    def equalized(self, consumers: Collection[str]) -> dict[str, Tensor]:
        """Return the graph's tensors, by name, where the boundaries of ``consumers`` are equalized.

        They are not rounded: the graph computes the same with them.
        """
        chosen = [one for one in self.boundaries if one.consumer in consumers]
        found: dict[str, Tensor] = {}
        for op in {end for one in chosen for end in (one.producer, one.consumer)}:
            changed = _changed(self._layers[op], (), *self._factors(op, chosen), None)
            prefix = f"{self._targets[op]}.{prefix_of(changed.layer.module)}"
            found[f"{prefix}weight"] = changed.weight
            if changed.bias is not None:
                found[f"{prefix}bias"] = changed.bias
        return found

    def leave_out(self, consumers: Collection[str]) -> None:
        """Let the boundaries of ``consumers`` be none."""
        self.boundaries = [one for one in self.boundaries if one.consumer not in consumers]

    def done(self, op: str, configs: Mapping[str, OpConfig]) -> OpConfig:
        """Return the config of ``op`` without an equalization that is not in force."""
        config = configs[op]
        if any(one.consumer == op for one in self.in_force(configs)):
            return config
        done = tuple(one for one in config.corrections if one != EQUALIZATION)
        return replace(config, corrections=done)

    def _factors(self, op: str, boundaries: Iterable[Boundary]) -> tuple[Tensor, Tensor]:
        """Return the factors of what ``op`` gives and of what it takes."""
        layer = self._layers[op]
        given, taken = torch.ones(layer.outputs), torch.ones(layer.inputs)
        for boundary in boundaries:
            given = boundary.factors if boundary.producer == op else given
            taken = boundary.read_factors if boundary.consumer == op else taken
        return given, taken


def _is_linear(nodes: list[Node], graph: GraphModule) -> bool:
    return nodes[0].op == "call_module" and LinearLayer.fits(
        graph.get_submodule(str(nodes[0].target))
    )


def _changed(
    layer: LinearLayer,
    corrections: tuple[str, ...],
    given: Tensor,
    taken: Tensor,
    mean: Tensor | None,
) -> Changed:
    """Return the tensors of a layer with corrections done, in the order of ``CORRECTIONS``.

    The bias is corrected as in LPOT's ``fast_bias_correction``
    (``lpot/algorithm/fast_bias_correction.py``), by the mean over the calibration data of what
    int8 gives differently for what the layer reads in fp32. LPOT runs the layer for it, in its
    search for each setting; the weights and the mean of their inputs say the same. LPOT leaves a
    bias alone that is zero anywhere, or that would change to more than three times its size; here
    neither matters. It is done last, since the other corrections change what it corrects.
    """
    exact = layer.by_groups(layer.weight) * layer.per_input(taken) / layer.per_output(given)
    bias = None if layer.bias is None else layer.bias / given
    weight = exact
    if WEIGHT in corrections:
        weight = _same_spread(exact, _rounded(layer, exact))
    if BIAS in corrections and bias is not None and mean is not None:
        lost = exact - _rounded(layer, weight)
        bias = bias + (lost * mean / layer.per_input(taken)).sum((2, 3)).flatten()
    return Changed(layer, layer.back(weight), bias, given, taken)


def _rounded(layer: LinearLayer, by_groups: Tensor) -> Tensor:
    found = rounded(layer.module, layer.back(by_groups))
    assert found is not None
    return layer.by_groups(found)


def _same_spread(exact: Tensor, held: Tensor) -> Tensor:
    """Return the weights whose rounding has nearly the spread and the mean of ``exact``.

    LPOT's ``weight_correction`` (``lpot/algorithm/weight_correction.py``): per output channel,
    ``r * exact + u`` with ``r = std(exact) / std(held)`` and ``u = mean(exact) - mean(r * held)``.
    LPOT adds 1e-5 to the second spread, which pulls channels of small weights towards zero, and
    rounds in the old scale, which cuts the largest weight off; here neither is done. Weights that
    are zero, as pruned ones, stay so: the others of the channel make up for the mean.
    """
    places = (2, 3)
    spread = held.std(places, correction=0, keepdim=True)
    ratio = torch.where(spread > 0, exact.std(places, correction=0, keepdim=True) / spread, 1.0)
    kept = exact != 0
    missing = (exact - ratio * held).sum(places, keepdim=True)
    shift = missing / kept.sum(places, keepdim=True).clamp(min=1)
    return ratio * exact + shift * kept
