"""The ops of a prepared graph: their names, kinds and neighbours."""

from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Callable, Iterator
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


@dataclass
class GraphOps:
    """Which nodes of one prepared graph are which op."""

    nodes: dict[str, list[Node]] = field(default_factory=dict)
    kinds: dict[str, str] = field(default_factory=dict)
    producers: dict[str, frozenset[str]] = field(default_factory=dict)
    consumers: dict[str, frozenset[str]] = field(default_factory=dict)
    followers: list[Node] = field(default_factory=list)
    bystanders: list[Node] = field(default_factory=list)

    def touching(self, observer: Node) -> set[str]:
        """Return the ops whose input or output ``observer`` is."""
        around = [node for node in (*observer.all_input_nodes, *observer.users)]
        return {op for op, nodes in self.nodes.items() if any(node in nodes for node in around)}

    def owner(self, observer: Node) -> str | None:
        """Return the op whose config decides the qparams: the producer, else a consumer."""
        for near, far in ((observer.all_input_nodes, self.producers), (observer.users, None)):
            for node in near:
                for op, nodes in self.nodes.items():
                    if node in nodes:
                        return op
                if far is not None and far[node.name]:
                    return min(far[node.name])
        after = self.consumers[observer.name]
        return min(after) if after else None

    def follows_fp32(self, node: Node, fp32: set[str]) -> bool:
        """Whether a pass-through node (relu, pooling, reshape) is to stay in floating point."""
        before, after = self.producers[node.name], self.consumers[node.name]
        return before <= fp32 if before else after <= fp32


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
    """Fill ``producers`` and ``consumers``: the nearest ops before and after every node."""
    op_of = {node: name for name, nodes in ops.nodes.items() for node in nodes}
    order = list(graph.graph.nodes)

    def near(node: Node, neighbours: list[Node], known: dict[str, frozenset[str]]) -> None:
        found: set[str] = set()
        for other in neighbours:
            found |= {op_of[other]} if other in op_of else known.get(other.name, frozenset())
        known[node.name] = frozenset(found)

    for node in order:
        near(node, node.all_input_nodes, ops.producers)
    for node in reversed(order):
        near(node, list(node.users), ops.consumers)
