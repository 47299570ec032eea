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
    """Let a loaded program hold its weights packed; by itself it packs each of them in each call.

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
    held = dict(module.named_buffers())
    for node in list(module.graph.nodes):
        if node.op == "call_function" and getattr(node.target, "__name__", "").startswith(_NAMES):
            given = fx.map_arg(node.args, lambda one: held[str(one.target)])
            _hold(module, node, node.target(*given))
    module.recompile()
    return module


_NAMES = tuple(f"{name}." for name in _PACKS)


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
