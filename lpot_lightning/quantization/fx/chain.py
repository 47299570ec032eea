"""Which layers int8 computes as one."""

from __future__ import annotations

from torch.fx import Graph, Node

Chain = tuple[str | None, ...]
"""Names of layers in the order of computing; ``None`` for a ReLU that is no layer."""


def chains_of(traced: Graph, fused: Graph) -> dict[str, Chain]:
    """Return the layers that became one, by the name of the node that is left of them.

    Torch's fusion leaves the first node of a chain, such as convolution, norm and ReLU, with all
    of them in it.

    Args:
        traced: before the fusion.
        fused: after it.
    """
    left = {node.name for node in fused.nodes}
    chains = {node.name: _from(node, left) for node in traced.nodes if node.name in left}
    return {name: chain for name, chain in chains.items() if len(chain) > 1}


def _from(node: Node, left: set[str]) -> Chain:
    found = [_layer(node)]
    while len(node.users) == 1:
        (node,) = node.users
        if node.name in left:
            break
        found.append(_layer(node))
    return tuple(found)


def _layer(node: Node) -> str | None:
    return str(node.target) if node.op == "call_module" else None
