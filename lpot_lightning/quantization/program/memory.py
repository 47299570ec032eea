"""Which values of a captured graph are written to while others may still read them."""

from __future__ import annotations

from torch import Tensor, fx
from torch.utils import _pytree as pytree

_VIEWS = frozenset(
    (
        "flatten", "view", "reshape", "permute", "transpose", "contiguous", "unflatten", "squeeze",
        "unsqueeze", "chunk", "split", "unbind", "narrow", "select", "expand", "expand_as", "to",
        "detach", "view_as", "t", "swapaxes", "movedim", "getitem", "getattr", "diagonal", "float",
        "dropout",
    )
)  # fmt: skip
"""What gives memory that it gets, and does not write to it. Others that give such memory do, as far
as is known here: `h **= 2`, or `hardswish(h, True)`."""


def written(graph: fx.Graph) -> set[fx.Node]:
    """Return the nodes whose memory is written to, unless only its last reader can see that.

    A chain of nodes that each have one reader, the next one, may be written along, as by
    activations in place. What comes from outside of the graph is always seen.
    """
    at: dict[int, list[fx.Node]] = {}
    changed = set[int]()
    for node in graph.nodes:
        writes = _written_by(node)
        changed |= writes
        for memory in _memory(node) | writes:  # `h[0] = 1` gives nothing
            at.setdefault(memory, []).append(node)
    return {node for one in changed if not _is_chain(at.get(one, [])) for node in at.get(one, [])}


def _memory(node: fx.Node) -> set[int]:
    """Return the memory of the tensors that a node gives, by what Dynamo has noted of them."""
    leaves = pytree.tree_leaves(node.meta.get("example_value"))
    return {_place(one) for one in leaves if isinstance(one, Tensor)}


def _place(tensor: Tensor) -> int:
    """Return a number for the memory of a tensor, one for all of which nobody can tell."""
    try:
        return int(tensor.untyped_storage()._cdata)
    except (RuntimeError, NotImplementedError):  # those that `vmap` goes over, for instance
        return -1


def _written_by(node: fx.Node) -> set[int]:
    if node.op not in ("call_function", "call_method"):
        return set()
    given: set[int] = set().union(*map(_memory, node.all_input_nodes))
    if node.meta.get("example_value") is None:  # it was called for what it writes, if for anything
        return given
    own, name = _memory(node), _name(node)
    if name.endswith("_") and not name.startswith("_") and node.all_input_nodes:
        own |= _memory(node.all_input_nodes[0])
    return set() if name in _VIEWS else own & given


def _name(node: fx.Node) -> str:
    return node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")


def _is_chain(nodes: list[fx.Node]) -> bool:
    if not nodes or nodes[0].op in ("placeholder", "get_attr"):
        return False
    pairs = zip(nodes, nodes[1:], strict=False)
    return all(set(one.users) == {following} for one, following in pairs)
