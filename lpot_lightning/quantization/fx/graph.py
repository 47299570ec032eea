"""The ops of a prepared graph: their names, kinds and neighbours."""

from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from functools import cache

import torch
from torch import nn
from torch.ao.nn.intrinsic import _FusedModule  # type: ignore[attr-defined]
from torch.ao.quantization.backend_config import ObservationType, get_native_backend_config
from torch.ao.quantization.observer import ObserverBase
from torch.fx import GraphModule, Node

from lpot_lightning.quantization.fx.trace import Scopes

_NAMES = {operator.iadd: "add", operator.imul: "mul", torch.concat: "cat"}
_ALSO_FOLLOW: tuple[object, ...] = (nn.Dropout, torch.nn.functional.dropout)
WEIGHT_ONLY = ("Embedding", "EmbeddingBag")
"""Kinds that read integers and give floating point, whatever their weight is."""


@dataclass
class GraphOps:
    """Which nodes of one prepared graph are which op."""

    nodes: dict[str, list[Node]] = field(default_factory=dict)
    kinds: dict[str, str] = field(default_factory=dict)
    producers: dict[str, frozenset[str]] = field(default_factory=dict)
    consumers: dict[str, frozenset[str]] = field(default_factory=dict)
    followers: list[Node] = field(default_factory=list)
    bystanders: list[Node] = field(default_factory=list)

    def reads(self, op: str) -> tuple[str, ...]:
        """Return the ops whose outputs ``op`` takes, seen through what only passes on."""
        found = {name for node in self.nodes[op] for name in self.producers[node.name]}
        return tuple(sorted(found - {op}))

    def around(self, observer: Node) -> frozenset[str]:
        """Return the nearest ops before and after ``observer`` that work on activations."""
        return self.producers[observer.name] | self.consumers[observer.name]

    def owners(self, observer: Node) -> list[str]:
        """Return the ops whose config may decide the qparams: the producers first."""
        before, after = self.producers[observer.name], self.consumers[observer.name]
        return [*sorted(before), *sorted(after - before)]

    def int8_nodes(self, fp32: Collection[str]) -> frozenset[str]:
        """Return the names of the nodes that read and give int8 where ``fp32`` stay as they are.

        A pass-through node (relu, pooling, reshape) goes with what comes before it, else with
        what comes after it.
        """
        found = [
            node.name
            for op, nodes in self.nodes.items()
            if op not in fp32 and self.kinds[op] not in WEIGHT_ONLY
            for node in nodes
        ]
        for node in self.followers:
            near = self.producers[node.name] or self.consumers[node.name]
            found += [node.name] if near - set(fp32) else []
        return frozenset(found)


def read_ops(graph: GraphModule, scopes: Scopes, name_of: Callable[[str], str]) -> GraphOps:
    """Sort the nodes of a prepared graph.

    Args:
        graph: what torch's prepare gave.
        scopes: for each node of the trace, the path of the module it was written in.
        name_of: from a path inside the graph to the op's full name.
    """
    ops = GraphOps()
    counters: Counter[str] = Counter()
    observed = graph.meta["_observed_graph_module_attrs"].observed_node_names
    for node in graph.graph.nodes:
        if node.op in ("placeholder", "output", "get_attr") or is_observer(node, graph):
            continue
        if node.name not in observed:
            ops.bystanders.append(node)
        elif follows(_target(node, graph)):
            ops.followers.append(node)
        else:
            name = _op_name(node, scopes, counters, name_of)
            ops.nodes.setdefault(name, []).append(node)
            ops.kinds[name] = kind_of(node, graph)
    _connect(ops, graph)
    return ops


def is_observer(node: Node, graph: GraphModule) -> bool:
    """Whether ``node`` calls an observer."""
    return node.op == "call_module" and isinstance(
        graph.get_submodule(str(node.target)), ObserverBase
    )


def observer_nodes(graph: GraphModule) -> Iterator[Node]:
    """Yield the nodes that call observers."""
    return (node for node in graph.graph.nodes if is_observer(node, graph))


def kind_of(node: Node, graph: GraphModule) -> str:
    """Return the kind that capability and LPOT's model-wise settings go by."""
    target = _target(node, graph)
    if isinstance(target, type):
        return target.__name__
    return _function_name(target)


def _target(node: Node, graph: GraphModule) -> object:
    """Return the module class, function or method name that ``node`` calls."""
    if node.op != "call_module":
        return node.target
    module = graph.get_submodule(str(node.target))
    return type(module[0]) if isinstance(module, _FusedModule) else type(module)


def _function_name(target: object) -> str:
    name = _NAMES.get(target) or getattr(target, "__name__", str(target))  # type: ignore[call-overload]
    return str(name).rstrip("_")


def _op_name(
    node: Node, scopes: Scopes, counters: Counter[str], name_of: Callable[[str], str]
) -> str:
    if node.op == "call_module":
        return name_of(str(node.target))
    owner = name_of(scopes[node.name][0])
    base = f"{owner}#{_function_name(node.target)}"
    counters[base] += 1
    return f"{base}_{counters[base] - 1}"


@cache
def _sharing() -> frozenset[object]:
    """Everything that keeps its input's scale, as torch's backend config lists it."""
    shared = ObservationType.OUTPUT_SHARE_OBSERVER_WITH_INPUT
    return frozenset(
        config.pattern
        for config in get_native_backend_config().configs
        if config.observation_type is shared and config.pattern is not torch.cat
    )


def follows(target: object) -> bool:
    """Whether such a node takes the precision of its neighbours instead of having its own."""
    return target in _sharing() or target in _ALSO_FOLLOW


def _connect(ops: GraphOps, graph: GraphModule) -> None:
    """Fill ``producers`` and ``consumers``: the nearest ops, seen through pass-through nodes."""
    op_of = {
        node: name
        for name, nodes in ops.nodes.items()
        if ops.kinds[name] not in WEIGHT_ONLY
        for node in nodes
    }
    through = {*ops.followers, *observer_nodes(graph)}
    order = list(graph.graph.nodes)

    def near(node: Node, neighbours: list[Node], known: dict[str, frozenset[str]]) -> None:
        found: set[str] = set()
        for other in neighbours:
            if other in op_of:
                found.add(op_of[other])
            elif other in through:
                found |= known[other.name]
        known[node.name] = frozenset(found)

    for node in order:
        near(node, node.all_input_nodes, ops.producers)
    for node in reversed(order):
        near(node, list(node.users), ops.consumers)
