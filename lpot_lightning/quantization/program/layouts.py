"""Int8 convolutions give channels-last memory: what was written for another layout goes on."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, fx

from lpot_lightning.quantization.program.draft import MADE_BY, Drafted, dims_of

_STRIDED = {
    "as_strided", "view_as_real", "view_as_complex",
    torch.as_strided, torch.view_as_complex, torch.view_as_real,
}  # fmt: skip
"""What takes memory as it lies."""


def lay_out(draft: Drafted) -> None:
    """Let a graph give what it was captured to give, in the layout that a caller gets of fp32.

    ``x.view(len(x), -1)`` of what a convolution gives is common, and refused by torch for memory
    that is laid channels-last; so may be what a caller does next.
    """
    for node in list(draft.graph.nodes):
        if node.target in ("view", "view_as"):
            _view(draft, node)
        elif node.target in _STRIDED:
            _lay(draft, node.args[0])
        elif node.op == "output":
            node.args = fx.map_arg(node.args, partial(_given, draft, node))


def _view(draft: Drafted, node: fx.Node) -> None:
    sizes = [*node.args[1:], *node.kwargs.values()]
    of_type = any(isinstance(one, torch.dtype) for one in sizes)
    if node.target == "view_as" or of_type or node in draft.written:
        _lay(draft, node.args[0])
    else:
        node.target, node.args, node.kwargs = "reshape", (node.args[0], *sizes), {}


def _lay(draft: Drafted, source: object) -> None:
    """Let all who read ``source`` read it contiguous."""
    if isinstance(source, fx.Node) and source.op != "placeholder":
        with draft.graph.inserting_after(source):
            laid = draft.graph.call_method("contiguous", (source,))
        laid.meta |= source.meta | {MADE_BY: "layouts"}
        source.replace_all_uses_with(laid, delete_user_cb=lambda user: user is not laid)
        if source in draft.written:
            draft.written.add(laid)


def _given(draft: Drafted, output: fx.Node, node: fx.Node) -> fx.Node:
    """Return what is given to the caller in place of ``node``."""
    value = node.meta.get("example_value")
    plain = isinstance(value, Tensor) and value.layout is torch.strided and value.is_contiguous()
    if node.op == "placeholder" or not plain or (dims_of(node) or 0) < 3:
        return node
    with draft.graph.inserting_before(output):
        laid = draft.graph.call_method("contiguous", (node,))
    laid.meta |= node.meta | {MADE_BY: "layouts"}
    return laid
