"""One traced module: prepared once, converted once a trial."""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping

import torch
from torch import nn
from torch.ao.quantization.fx.fuse import fuse
from torch.ao.quantization.quantize_fx import (
    _attach_meta_to_node_if_not_exist,
    _swap_ff_with_fxff,
    convert_fx,
)
from torch.fx import GraphModule

from lpot_lightning.module.calls import ModuleCalls
from lpot_lightning.module.stand_in import StandIn
from lpot_lightning.quantization.fx.chain import Chain, chains_of
from lpot_lightning.quantization.fx.correction import Corrections
from lpot_lightning.quantization.fx.detour import lead_around, take_fences_out
from lpot_lightning.quantization.fx.graph import GraphOps, observer_nodes, read_ops
from lpot_lightning.quantization.fx.input_mean import InputMean
from lpot_lightning.quantization.fx.int8_graph import Int8Graph
from lpot_lightning.quantization.fx.observe import observe
from lpot_lightning.quantization.fx.observer import QParams, RangeObserver, SettledObserver
from lpot_lightning.quantization.fx.ranges import TrainedRange
from lpot_lightning.quantization.fx.sharing import SharedTensors
from lpot_lightning.quantization.fx.spec import WRAPPED, PartSpec, alone
from lpot_lightning.quantization.fx.tidy import tidy
from lpot_lightning.quantization.fx.trace import check_equal, told, trace
from lpot_lightning.recipe import OpConfig, TensorConfig


class Part:
    """A module of the user's model as an observed graph."""

    def __init__(
        self,
        spec: PartSpec,
        graph: GraphModule,
        ops: GraphOps,
        tensors: SharedTensors,
        corrections: Corrections,
        chains: Mapping[str, Chain],
    ) -> None:
        self.spec = spec
        self.chains = chains
        self.graph = graph
        self.ops = ops
        self.corrections = corrections
        self._tensors = tensors
        self.ranges: dict[str, RangeObserver | TrainedRange] = {}
        self._last: tuple[tuple[object, ...], StandIn] | None = None

    @classmethod
    def build(
        cls,
        spec: PartSpec,
        module: nn.Module,
        *,
        reduce_range: bool,
        calls: ModuleCalls | None = None,
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
        root = alone(module) if spec.wrapped else module
        graph, scopes = trace(root, dict(spec.fixed), stands_for=WRAPPED if spec.wrapped else "")
        tidy(graph, scopes)
        _swap_ff_with_fxff(graph)
        _attach_meta_to_node_if_not_exist(graph)
        with told("torch cannot prepare it"):
            prefix = f"{WRAPPED}." if spec.wrapped else ""
            tensors = SharedTensors(graph, module, prefix, spec.kept)
            traced = graph.graph
            graph = fuse(graph, is_qat=False)
            chains = chains_of(traced, graph.graph)
            tensors.follow(graph)
            if calls is not None:
                check_equal(graph, module, calls)
            graph = observe(graph, scopes, reduce_range, spec.kept)
        ops = read_ops(graph, scopes, spec.name_of)
        corrections = Corrections(graph, ops, reduce_range, balanced=calls is not None)
        return cls(spec, graph, ops, tensors, corrections, chains)

    @property
    def size(self) -> int:
        """How many nodes compute something."""
        nodes = (self.ops.followers, self.ops.bystanders, *self.ops.nodes.values())
        return sum(map(len, nodes))

    @property
    def watchers(self) -> list[RangeObserver | InputMean]:
        """All that takes in calibration data, in an order that is the same in every process."""
        found = [one for one in self.graph.modules() if isinstance(one, RangeObserver)]
        return [*found, *self.corrections.watchers]

    @property
    def observed(self) -> StandIn:
        """The graph that watches the calibration, in place of the module."""
        layers = [str(n.target) for nodes in self.ops.nodes.values() for n in nodes]
        return StandIn(self.graph, gone=self._tensors.under(layers))

    def settle(self) -> None:
        """Take the observers out of the graph; from here on it is read only."""
        self.corrections.unwatch()
        for node in observer_nodes(self.graph):
            target = str(node.target)
            found = self.graph.get_submodule(target)
            if isinstance(found, RangeObserver):
                self.ranges[target] = found
                setattr(self.graph, target, SettledObserver())

    def take(self, trained: Mapping[str, TrainedRange]) -> None:
        """Go by ranges that were learned in training, in place of observed ones."""
        unseen = TrainedRange(1.0, 0)  # nothing int8 is there
        self.ranges = {target: trained.get(target, unseen) for target in self.ranges}

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
        seen: dict[str, RangeObserver | TrainedRange] = {}
        equalized = self._equalized_ranges(configs)
        for node in observer_nodes(self.graph):
            target = str(node.target)
            if target in self.ranges:
                seen[target] = equalized.get(target, self.ranges[target])
                wish = _first_int8(configs, self.ops.owners(node))
                if wish is not None:
                    wishes.setdefault(id(seen[target]), wish)
        return {target: _qparams(one, wishes.get(id(one))) for target, one in seen.items()}

    def _equalized_ranges(self, configs: Mapping[str, OpConfig]) -> dict[str, RangeObserver]:
        """Return what the observers would have seen where ``configs`` equalize."""
        return {
            str(node.target): boundary.range
            for boundary in self.corrections.in_force(configs)
            for node in (*boundary.inner, *boundary.outer)
        }

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

    def reads(self, op: str) -> tuple[str, ...]:
        """Return the ops whose outputs ``op`` takes, seen through what only passes on."""
        ends = {one.producer for one in self.corrections.boundaries if one.consumer == op}
        return tuple(sorted({*self.ops.reads(op), *ends}))

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
        for op in self.corrections.touched(configs):
            if changed := self.corrections.changed(configs, op, graph):
                changed.put()
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


def _first_int8(configs: Mapping[str, OpConfig], ops: list[str]) -> TensorConfig | None:
    """Return what the first of ``ops`` that is int8 wants of its activations."""
    wishes = (configs[op].activation for op in ops if op in configs and not configs[op].is_fp32)
    return next(wishes, None)


def _qparams(seen: RangeObserver | TrainedRange, wish: TensorConfig | None) -> QParams:
    if seen.unusable:
        return 1.0, 0
    scheme = wish.scheme if wish and wish.scheme else "asym"
    return seen.qparams(scheme, (wish and wish.algorithm) or "kl")
