"""Which inputs of a captured graph belong to modules, by where Dynamo found them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, fx


def constants(graph: fx.GraphModule, inputs: Sequence[Any]) -> set[str]:
    """Return the names of the placeholders that stand for tensors which belong to modules.

    It can be told as long as a graph is being captured, and not later.
    """
    places = [node for node in graph.graph.nodes if node.op == "placeholder"]
    return {
        node.name
        for node, value in zip(places, inputs, strict=True)
        if isinstance(value, Tensor) and _is_held(node)
    }


def _is_held(node: fx.Node) -> bool:
    """Whether a module holds the tensor as a parameter or buffer, by where Dynamo found it."""
    source = source_of(node)
    return "._parameters[" in source or "._buffers[" in source


def attributes(graph: fx.GraphModule) -> set[str]:
    """Return the names of the placeholders that stand for what modules have, as ``constants``."""
    places = [node for node in graph.graph.nodes if node.op == "placeholder"]
    return {node.name for node in places if _is_attribute(source_of(node))}


def _is_attribute(source: str) -> bool:
    """Whether a source begins with a module: one of a frame, or those of ``_forward_of``."""
    return any(one in source for one in ("L['self']", "L['module']", "L['given']", "._modules["))


def source_of(node: fx.Node) -> str:
    """Return where Dynamo found a placeholder, empty where it did not say."""
    found = node.meta.get("grapharg")
    return "" if found is None else str(found.source.name)
