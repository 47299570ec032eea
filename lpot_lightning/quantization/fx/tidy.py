"""One way to write what a traced graph may say in several."""

from __future__ import annotations

import operator

import torch
import torch.nn.functional as F
from torch import nn
from torch.fx import GraphModule, Node

from lpot_lightning.quantization.fx.trace import NotTraceable, Scopes

_OPERATORS = {
    getattr(operator, f"i{name}"): getattr(operator, name)
    for name in ("add", "sub", "mul", "truediv", "matmul", "pow")
}
_RELU = (torch.relu, "relu")


def tidy(graph: GraphModule, scopes: Scopes) -> None:
    """Let no node change the value of another, and write what torch reads in one way only.

    Single nodes are run again when ranking, and int8 values are read through copies, so no node
    may change what another one reads.

    Args:
        graph: is changed.
        scopes: where each node was written; new nodes are added.

    Raises:
        NotTraceable: if a node does, and there is no form of it that does not.
    """
    for node in [node for node in graph.graph.nodes if _works_in_place(node, graph)]:
        if any(other.op == "get_attr" for other in node.all_input_nodes[:1]):
            raise NotTraceable(f"it changes its own `{node.all_input_nodes[0].target}`")
        _use_result_from_here(node)
        _take_out_in_place(node, graph)
    for node in list(graph.graph.nodes):
        if _changes_a_tensor(node):
            raise NotTraceable("it changes a tensor in place")
        if node.target in _RELU and node.op != "call_module":
            node.op, node.target = "call_function", F.relu
        elif node.target is torch.add and "alpha" in node.kwargs:
            _spell_out_alpha(node, scopes)
    for module in graph.modules():
        if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d):
            _spell_out_padding(module)
    graph.recompile()


def _changes_a_tensor(node: Node) -> bool:
    if node.op == "call_method":
        name = str(node.target)
        return name == "__setitem__" or name.endswith("_") and not name.endswith("__")
    return node.target is operator.setitem or "out" in node.kwargs


def _spell_out_alpha(node: Node, scopes: Scopes) -> None:
    """Write ``add(a, b, alpha=c)`` as ``a + b * c``: the int8 kernel drops ``alpha`` silently."""
    first, second = node.args
    with node.graph.inserting_before(node):
        scaled = node.graph.call_function(operator.mul, (second, node.kwargs["alpha"]))
    scopes[scaled.name] = scopes[node.name]
    node.target, node.args, node.kwargs = operator.add, (first, scaled), {}


def _spell_out_padding(layer: nn.Conv1d | nn.Conv2d | nn.Conv3d) -> None:
    """Write ``"same"`` and ``"valid"`` as numbers where both sides are equal: int8 needs them."""
    if layer.padding == "valid":
        layer.padding = (0,) * len(layer.kernel_size)
    elif layer.padding == "same":
        total = [d * (k - 1) for d, k in zip(layer.dilation, layer.kernel_size, strict=True)]
        if not any(one % 2 for one in total):
            layer.padding = tuple(one // 2 for one in total)


def _works_in_place(node: Node, graph: GraphModule) -> bool:
    if node.op == "call_module":
        return getattr(graph.get_submodule(str(node.target)), "inplace", False) is True
    return bool(node.kwargs.get("inplace")) or _pure(node) is not None


def _pure(node: Node) -> object:
    """Return what computes the same and leaves its arguments alone, ``None`` if nothing does."""
    if node.target in _OPERATORS:
        return _OPERATORS[node.target]
    name = node.target if node.op == "call_method" else getattr(node.target, "__name__", "")
    if not str(name).endswith("_") or str(name).endswith("__"):
        return None
    plain = str(name)[:-1]
    if node.op == "call_method":
        return plain if callable(getattr(torch.Tensor, plain, None)) else None
    return getattr(F, plain, None) or getattr(torch, plain, None)


def _use_result_from_here(node: Node) -> None:
    """Give the readers after ``node`` its result where they read what it used to change."""
    changed = node.args[0]
    if isinstance(changed, Node):
        order = {other: number for number, other in enumerate(node.graph.nodes)}
        changed.replace_all_uses_with(node, lambda user: order[user] > order[node])


def _take_out_in_place(node: Node, graph: GraphModule) -> None:
    if node.op == "call_module":
        graph.get_submodule(str(node.target)).inplace = False  # type: ignore[assignment]
    elif node.kwargs.get("inplace"):
        node.kwargs = {**node.kwargs, "inplace": False}
    else:
        node.target = _pure(node)  # type: ignore[assignment]
