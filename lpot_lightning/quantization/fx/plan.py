"""How a part of a model computes while it is trained for int8."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import SimpleNamespace

from torch import nn
from torch.ao.quantization.observer import FixedQParamsObserver
from torch.fx import Graph, GraphModule, Node

from lpot_lightning.errors import QuantizationError
from lpot_lightning.quantization.fx.capability import OP_LAYERS
from lpot_lightning.quantization.fx.chain import Chain
from lpot_lightning.quantization.fx.detour import lead_around, take_fences_out
from lpot_lightning.quantization.fx.fake_quant import FakeQuant, FixedFakeQuant
from lpot_lightning.quantization.fx.graph import is_observer
from lpot_lightning.quantization.fx.part import Part
from lpot_lightning.quantization.fx.ranges import Ranges
from lpot_lightning.quantization.fx.spec import WRAPPED, PartSpec
from lpot_lightning.quantization.fx.training_layer import Read, training_layer
from lpot_lightning.recipe import OpConfig

Place = tuple[str, str]
"""An observed activation: path of the part, name of the observer in it."""
_WEIGHTED = frozenset(kind.__name__ for kind in OP_LAYERS)
Make = Callable[[nn.Module, Ranges], nn.Module]


@dataclass(frozen=True)
class Plan:
    """The graph that a module trains with, to be made from the module's own layers.

    Args:
        spec: where the module is and how it was traced.
        graph: each of its nodes that calls a module has a name in ``makers``.
        makers: give for the user's module what the node calls.
        layers: names in the module of the layers whose weights are rounded.
    """

    spec: PartSpec
    graph: Graph
    makers: Mapping[str, Make]
    layers: tuple[str, ...]

    def made_for(self, module: nn.Module, ranges: Ranges) -> GraphModule:
        """Return the graph that computes for ``module`` and shares all of its layers."""
        called = {name: make(module, ranges) for name, make in self.makers.items()}
        made = GraphModule(called, copy.deepcopy(self.graph))
        type(made).forward._torchdynamo_disable = True  # type: ignore[attr-defined]
        return made


def plan_of(part: Part, configs: Mapping[str, OpConfig], places: dict[Place, int]) -> Plan | None:
    """Return how ``part`` trains for what it will be in int8, ``None`` if nothing of it will.

    Activations are rounded exactly where the conversion will round them, so ops that stay in
    floating point read what they will read then.

    Args:
        part: settled.
        configs: of every op of the part.
        places: of the activations; those of this part are added.
    """
    fp32 = {op for op in part.ops.nodes if configs[op].is_fp32}
    if fp32 >= set(part.ops.nodes):
        return None
    graph = copy.deepcopy(part.graph)
    lead_around(graph, part.ops.int8_nodes(fp32))
    take_fences_out(graph)
    int8 = (op for op in part.ops.nodes if op not in fp32)
    rounding = {node.name: op for op in int8 for node in part.ops.nodes[op]}
    makers: dict[str, Make] = {}
    layers: list[str] = []
    for node in graph.graph.nodes:
        node.meta = {}
        if node.op == "get_attr":
            node.op, makers[node.name] = "call_module", _reading(part, graph, str(node.target))
        elif node.op != "call_module":
            continue
        elif is_observer(node, graph):
            makers[node.name] = _rounding(part, graph, node, places)
        else:
            chain = part.chains.get(node.name, (str(node.target),))
            rounds = node.name in rounding
            makers[node.name] = _layers(part, chain, rounds)
            if rounds and part.ops.kinds[rounding[node.name]] in _WEIGHTED:
                layers.append(_own(part.spec, str(node.target)))
        node.target = node.name
    bare = graph.graph
    bare.owning_module = None
    return Plan(part.spec, bare, makers, tuple(dict.fromkeys(layers)))


def _own(spec: PartSpec, name: str) -> str:
    """Return what the module calls what the graph calls ``name``."""
    return name.removeprefix(WRAPPED).removeprefix(".") if spec.wrapped else name


def _reading(part: Part, graph: GraphModule, target: str) -> Make:
    owner, _, name = _own(part.spec, target).rpartition(".")
    if name.startswith("_tensor_constant"):  # made in `forward`; the tracer keeps it
        constant = SimpleNamespace(tensor=getattr(graph, target))
        return lambda *_: Read(constant, "tensor")
    return lambda module, _: Read(module.get_submodule(owner), name)


def _rounding(part: Part, graph: GraphModule, node: Node, places: dict[Place, int]) -> Make:
    target = str(node.target)
    found = graph.get_submodule(target)
    if isinstance(found, FixedQParamsObserver):
        scale, zero_point = float(found.scale), int(found.zero_point)
        return lambda *_: FixedFakeQuant(scale, zero_point)
    if target not in part.ranges:
        raise QuantizationError(
            f"`{part.spec.path}` has a `{type(found).__name__}`, which training does not know"
        )
    place = _place_of(part, target, places)
    return lambda module, ranges: FakeQuant(ranges, place, module)


def _place_of(part: Part, target: str, places: dict[Place, int]) -> int:
    """Return the place of an activation; several that share an observer have one."""
    seen = part.ranges[target]
    for other, observer in part.ranges.items():
        if observer is seen and (part.spec.path, other) in places:
            return places.setdefault((part.spec.path, target), places[part.spec.path, other])
    return places.setdefault((part.spec.path, target), len(set(places.values())))


def _layers(part: Part, chain: Chain, rounds: bool) -> Make:
    names = [None if name is None else _own(part.spec, name) for name in chain]

    def make(module: nn.Module, _: Ranges) -> nn.Module:
        layers = [None if name is None else module.get_submodule(name) for name in names]
        return training_layer(layers, rounds=rounds)

    return make
