"""What torch is told of its int8 kernels, to open a file that holds them and to run it fast."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx

_PACKS = "qlinear_prepack", "qconv_prepack"


def register() -> None:
    """Tell torch the shapes of packed weights, where it does not know them; a second call is none.

    Torch 2.13 does not, and can neither export nor load what packs a weight.

    Example::

        register()
        program = torch.export.load("model.pt2")
    """
    for name, fake in zip(_PACKS, (_linear, _conv), strict=True):
        if not _is_known(f"onednn::{name}"):
            torch.library.register_fake(f"onednn::{name}", fake)


def packed_once(module: fx.GraphModule) -> fx.GraphModule:
    """Let a loaded program hold its weights packed, and as floats those that are kept as integers
    alone; by itself it makes that of each of them in each call.

    It cannot be saved or copied then.

    Args:
        module: what ``torch.export.load(path).module()`` gives; it is changed.

    Returns:
        The same module. It gives the same bits.

    Example::

        register()
        model = packed_once(torch.export.load("model.pt2").module())
        model(images)
    """
    values = _of_weights(module)
    for node in reversed(values):
        if any(user not in values for user in node.users):
            _hold(module, node, values[node])
        elif not node.users:
            module.graph.erase_node(node)
    module.recompile()
    return module


def _of_weights(module: fx.GraphModule) -> dict[fx.Node, Tensor]:
    """Return what nodes give that make something of weights of integers, and of nothing else."""
    held = dict(module.named_buffers())
    known: dict[fx.Node, Tensor] = {}
    found: dict[fx.Node, Tensor] = {}
    for node in module.graph.nodes:
        if _is_written(node):
            continue
        if node.op == "get_attr" and str(node.target) in held:
            known[node] = held[str(node.target)]
        elif _is_op(node) and node.all_input_nodes and known.keys() >= {*node.all_input_nodes}:
            args, kwargs = fx.map_arg((node.args, node.kwargs), known.__getitem__)
            known[node] = node.target(*args, **kwargs)
            if any(one in found or known[one].dtype is torch.int8 for one in node.all_input_nodes):
                found[node] = known[node]
    return found


def _is_op(node: fx.Node) -> bool:
    """Whether a node is an op that gives one tensor, always the same of the same."""
    op = node.target
    return (
        isinstance(op, torch._ops.OpOverload)
        and torch.Tag.nondeterministic_seeded not in op.tags
        and [str(one.type) for one in op._schema.returns] == ["Tensor"]
    )


def _is_written(node: fx.Node) -> bool:
    """Whether a node writes, or somebody writes into what it gives."""
    return bool(_written_by(node)) or any(node in _written_by(user) for user in node.users)


def _written_by(node: fx.Node) -> list[Any]:
    """Return what a node writes into."""
    op = node.target
    if not isinstance(op, torch._ops.OpOverload):
        return []
    given = dict(enumerate(node.args)) | node.kwargs
    places = [
        (number, one.name)
        for number, one in enumerate(op._schema.arguments)
        if one.alias_info is not None and one.alias_info.is_write
    ]
    return [given[key] for place in places for key in place if key in given]


def _hold(module: fx.GraphModule, node: fx.Node, pack: Tensor) -> None:
    """Let what is packed stand in the place of the node that packs it."""
    module.register_buffer(f"{node.name}_once", pack, persistent=False)
    with module.graph.inserting_before(node):
        node.replace_all_uses_with(module.graph.get_attr(f"{node.name}_once"))
    module.graph.erase_node(node)


def _is_known(name: str) -> bool:
    """Whether there is a fake, of torch itself or of who came first."""
    from torch._library.simple_registry import singleton

    own = torch._C._dispatch_has_kernel_for_dispatch_key(name, "Meta")
    return own or singleton.find(name).fake_impl.kernel is not None


def _linear(weight: Tensor, _: Any) -> Tensor:
    return weight.new_empty(weight.shape[1], weight.shape[0])


def _conv(weight: Tensor, *_: Any) -> Tensor:
    return torch.empty_like(weight)
