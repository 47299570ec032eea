"""Keeps int8 away from whatever a graph computes in floating point."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from torch.fx import GraphModule, Node

from lpot_lightning.quantization.fx.graph import observer_nodes


def fence(value: Any) -> Any:
    """Stand before a floating-point op, so that torch's lowering does not see it."""
    return value


def lead_around(graph: GraphModule, int8: Collection[str]) -> None:
    """Let the nodes of ``graph`` outside of ``int8`` read and give floating point.

    A qconfig of ``None`` alone does not do that (torch 2.13): between two int8 neighbours sigmoid,
    tanh, hardswish and cat are lowered all the same, and a floating-point value is rounded for
    every reader as soon as one reader is int8.

    Args:
        graph: a copy of a prepared graph; it is changed.
        int8: names of the nodes that read and give int8.
    """
    qconfigs = graph.meta["_observed_graph_module_attrs"].node_name_to_qconfig
    for observer in list(observer_nodes(graph)):
        source = observer.all_input_nodes[0]
        for user in [user for user in observer.users if user.name not in int8]:
            if source.name not in int8:
                user.replace_input_with(observer, source)
            elif user.op != "output":
                qconfigs[_put_fence(graph, observer, user).name] = None
        if not observer.users:
            graph.graph.erase_node(observer)


def take_fences_out(graph: GraphModule) -> None:
    """Remove what ``lead_around`` put in, after the conversion."""
    for node in list(graph.graph.nodes):
        if node.target is fence:
            node.replace_all_uses_with(node.args[0])
            graph.graph.erase_node(node)
    graph.recompile()


def _put_fence(graph: GraphModule, observer: Node, user: Node) -> Node:
    with graph.graph.inserting_before(user):
        node = graph.graph.call_function(fence, (observer,))
    user.replace_input_with(observer, node)
    return node
