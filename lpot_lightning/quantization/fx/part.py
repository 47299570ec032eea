"""One traced module: prepared once, converted once a trial."""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import cast

import torch
from torch import nn
from torch.ao.quantization.fx.fuse import fuse
from torch.ao.quantization.quantize_fx import (
    _attach_meta_to_node_if_not_exist,
    _swap_ff_with_fxff,
    convert_fx,
)
from torch.fx import GraphModule

from lpot_lightning.quantization.calls import Calls, Scalar
from lpot_lightning.quantization.fx.detour import lead_around, take_fences_out
from lpot_lightning.quantization.fx.engine import quiet
from lpot_lightning.quantization.fx.graph import GraphOps, observer_nodes, read_ops
from lpot_lightning.quantization.fx.observe import observe
from lpot_lightning.quantization.fx.observer import QParams, RangeObserver, SettledObserver
from lpot_lightning.quantization.fx.sharing import SharedTensors
from lpot_lightning.quantization.fx.tidy import tidy
from lpot_lightning.quantization.fx.trace import check_equal, told, trace
from lpot_lightning.quantization.replace import StandIn
from lpot_lightning.recipe import OpConfig, TensorConfig

WRAPPED = "0"  # where a single layer sits in the Sequential that is traced in its stead


@dataclass(frozen=True)
class PartSpec:
    """What is needed to trace and prepare a part again: plain values, kept in the files.

    Args:
        path: dotted path of the module in the user's model; ``""`` is the model itself.
        wrapped: whether the module is a single layer, traced inside a ``Sequential``.
        fixed: the non-tensor arguments of its ``forward``.
        kept: layers inside of it, by their names in it, that are no ops: others use their weights.
    """

    path: str
    wrapped: bool
    fixed: tuple[tuple[str, Scalar], ...] = ()
    kept: tuple[str, ...] = ()

    def name_of(self, inner: str) -> str:
        """Return the full name of what the graph calls ``inner``."""
        if self.wrapped:
            inner = inner.removeprefix(WRAPPED)
        return ".".join(piece for piece in (self.path, inner) if piece)


class Part:
    """A module of the user's model as an observed graph."""

    def __init__(
        self, spec: PartSpec, graph: GraphModule, ops: GraphOps, tensors: SharedTensors
    ) -> None:
        self.spec = spec
        self.graph = graph
        self.ops = ops
        self._tensors = tensors
        self.ranges: dict[str, RangeObserver] = {}
        self._last: tuple[tuple[object, ...], StandIn] | None = None

    @classmethod
    def build(
        cls, spec: PartSpec, module: nn.Module, *, reduce_range: bool, calls: Calls | None = None
    ) -> Part:
        """Trace, fuse and observe ``module``; it is left as it is.

        Args:
            spec: where it is and how it is traced.
            module: in eval mode.
            reduce_range: whether activations keep to 7 bits.
            calls: of the module, to hold the graph against it.

        Raises:
            NotTraceable: if the module cannot become one graph.
        """
        root = _alone(module) if spec.wrapped else module
        graph, scopes = trace(root, dict(spec.fixed), stands_for=WRAPPED if spec.wrapped else "")
        tidy(graph, scopes)
        _swap_ff_with_fxff(graph)
        _attach_meta_to_node_if_not_exist(graph)
        with told("torch cannot prepare it"):
            prefix = f"{WRAPPED}." if spec.wrapped else ""
            tensors = SharedTensors(graph, module, prefix, spec.kept)
            graph = fuse(graph, is_qat=False)
            tensors.follow(graph)
            if calls is not None:
                check_equal(graph, module, calls)
            graph = observe(graph, scopes, reduce_range, spec.kept)
        return cls(spec, graph, read_ops(graph, scopes, spec.name_of), tensors)

    @property
    def observed(self) -> StandIn:
        """The graph that watches the calibration, in place of the module."""
        layers = [str(n.target) for nodes in self.ops.nodes.values() for n in nodes]
        return StandIn(self.graph, gone=self._tensors.under(layers))

    def settle(self) -> None:
        """Take the observers out of the graph; from here on it is read only."""
        for node in observer_nodes(self.graph):
            target = str(node.target)
            found = self.graph.get_submodule(target)
            if isinstance(found, RangeObserver):
                self.ranges[target] = found
                setattr(self.graph, target, SettledObserver())

    def unusable(self) -> dict[str, str]:
        """Return the ops whose observers saw nothing that int8 can hold, each with the reason."""
        found: dict[str, str] = {}
        for node in observer_nodes(self.graph):
            seen = self.ranges.get(str(node.target))
            if seen is not None and seen.unusable:
                found.update(dict.fromkeys(self.ops.around(node), seen.unusable))
        return found

    def chosen_qparams(self, configs: Mapping[str, OpConfig]) -> dict[str, QParams]:
        """Return scale and zero point of every observer, by its name in the graph."""
        wishes: dict[int, TensorConfig] = {}
        seen: dict[str, RangeObserver] = {}
        for node in observer_nodes(self.graph):
            target = str(node.target)
            if target in self.ranges:
                seen[target] = self.ranges[target]
                wish = _first_int8(configs, self.ops.owners(node))
                if wish is not None:
                    wishes.setdefault(id(seen[target]), wish)
        return {target: _qparams(one, wishes.get(id(one))) for target, one in seen.items()}

    def output_qparams(self, configs: Mapping[str, OpConfig]) -> dict[str, QParams]:
        """Return scale and zero point of what each op gives on, where an observer follows it."""
        chosen = self.chosen_qparams(configs)
        found: dict[str, QParams] = {}
        for node in observer_nodes(self.graph):
            for op in self.ops.producers[node.name]:
                if str(node.target) in chosen:
                    found.setdefault(op, chosen[str(node.target)])
        return found

    def input_qparams(self, configs: Mapping[str, OpConfig]) -> dict[str, QParams]:
        """Return scale and zero point of what the ops read that nothing int8 comes before."""
        chosen = self.chosen_qparams(configs)
        found: dict[str, QParams] = {}
        for node in observer_nodes(self.graph):
            if not self.ops.producers[node.name] and str(node.target) in chosen:
                for op in self.ops.consumers[node.name]:
                    found.setdefault(op, chosen[str(node.target)])
        return found

    def weight_bytes(self, op: str) -> int:
        """Return the bytes of the fp32 parameters of ``op``."""
        layers = {str(n.target) for n in self.ops.nodes[op] if n.op == "call_module"}
        modules = (self.graph.get_submodule(layer) for layer in layers)
        return sum(p.numel() * p.element_size() for m in modules for p in m.parameters())

    def leaves(self) -> list[str]:
        """Return the names of the layers in the graph that are no ops."""
        return sorted({str(n.target) for n in self.ops.bystanders if n.op == "call_module"})

    def without_kernel(self) -> dict[str, str]:
        """Return the layers with parameters that are not ops, by name, with their type."""
        found = {name: self.graph.get_submodule(name) for name in self.leaves()}
        return {
            self.spec.name_of(name): type(layer).__name__
            for name, layer in found.items()
            if list(layer.parameters()) and name not in self.spec.kept
        }

    def convert(self, configs: Mapping[str, OpConfig]) -> StandIn | None:
        """Return an int8 graph, or ``None`` where every op of this part stays fp32.

        Args:
            configs: of every op of this part.
        """
        key = (torch.backends.quantized.engine, *(configs[op] for op in self.ops.nodes))
        fp32 = {op for op in self.ops.nodes if configs[op].is_fp32}
        if fp32 >= set(self.ops.nodes):
            return None
        if self._last is None or self._last[0] != key:
            self._last = key, self._convert(configs, fp32)
        return self._last[1]

    def _convert(self, configs: Mapping[str, OpConfig], fp32: set[str]) -> StandIn:
        graph = copy.deepcopy(self.graph)
        for target, (scale, zero_point) in self.chosen_qparams(configs).items():
            setattr(graph, target, SettledObserver(scale, zero_point))
        int8 = self.ops.int8_nodes(fp32)
        qconfigs = graph.meta["_observed_graph_module_attrs"].node_name_to_qconfig
        for name in self._left_in_fp32(fp32, int8):
            qconfigs[name] = None
        lead_around(graph, int8)
        converted = convert_fx(graph)
        take_fences_out(converted)
        int8_graph = Int8Graph(converted)
        for one in (graph, converted, int8_graph):  # torch's own step between shares the first's
            # else module and graph hold each other, and a trial's weights wait for a full
            # collection (12 MiB a trial of a 48 MiB model, torch 2.13)
            one.graph.owning_module = None
        return self._tensors.stand_in(int8_graph)

    def _left_in_fp32(self, fp32: set[str], int8: Collection[str]) -> list[str]:
        nodes = [node for op in fp32 for node in self.ops.nodes[op]]
        nodes += [node for node in self.ops.followers if node.name not in int8]
        return [node.name for node in (*nodes, *self.ops.bystanders)]


class _BagAlone(nn.Sequential):
    """An ``nn.EmbeddingBag``, which takes more than one argument, with a graph around it."""

    def forward(
        self,
        input: torch.Tensor,
        offsets: torch.Tensor | None = None,
        per_sample_weights: torch.Tensor | None = None,
    ) -> torch.Tensor:
        return self[0](input, offsets, per_sample_weights)  # type: ignore[no-any-return]


def _alone(layer: nn.Module) -> nn.Module:
    """Return a module that holds nothing but ``layer``, as ``WRAPPED``, and can be traced."""
    return _BagAlone(layer) if isinstance(layer, nn.EmbeddingBag) else nn.Sequential(layer)


class Int8Graph(GraphModule):
    """A converted graph. A copy of it is packed for the same engine.

    Torch packs a copy for the engine of the moment, whose kernels may be the wrong ones.
    """

    def __init__(self, converted: GraphModule) -> None:
        super().__init__(converted, converted.graph)
        self.meta["engine"] = torch.backends.quantized.engine

    def __deepcopy__(self, memo: dict[int, object]) -> Int8Graph:
        """Return a copy that computes the same."""
        with quiet(self.meta["engine"]):
            return cast(Int8Graph, super().__deepcopy__(memo))


def _first_int8(configs: Mapping[str, OpConfig], ops: list[str]) -> TensorConfig | None:
    """Return what the first of ``ops`` that is int8 wants of its activations."""
    wishes = (configs[op].activation for op in ops if op in configs and not configs[op].is_fp32)
    return next(wishes, None)


def _qparams(seen: RangeObserver, wish: TensorConfig | None) -> QParams:
    if seen.unusable:
        return 1.0, 0
    scheme = wish.scheme if wish and wish.scheme else "asym"
    return seen.qparams(scheme, (wish and wish.algorithm) or "kl")
