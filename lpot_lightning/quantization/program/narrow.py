"""What stays floats between int8 layers, computed in bfloat16."""

from __future__ import annotations

import operator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from lpot_lightning.quantization.kernels.bf16 import BF16
from lpot_lightning.quantization.program.draft import (
    MADE_BY,
    NARROW,
    Drafted,
    dtype_of,
    only_user,
)
from lpot_lightning.quantization.program.moves import is_move

_PRODUCTS = {
    torch.matmul, torch.bmm, torch.mm, operator.matmul, "matmul", "bmm", "mm", "__matmul__"
}  # fmt: skip
_ATTENTION = F.scaled_dot_product_attention
_OPERANDS = ("query", "key", "value", "attn_mask")
_RELU = {F.relu, torch.relu, "relu"}
_LEAST = torch.finfo(BF16).min


class Narrow:
    """Whether products and attention of activations are bfloat16, in all graphs of a model.

    Args:
        on: as it is now; graphs look at it in each call.
    """

    def __init__(self, *, on: bool = False) -> None:
        self.on = on


class NarrowMask(nn.Module):
    """Gives what is added to scores as bfloat16; its least finite number stays finite.

    A row of nothing but ``torch.finfo(torch.float32).min`` is no row of infinities.
    """

    def forward(self, mask: Tensor) -> Tensor:
        """Return the mask."""
        return mask.clamp_min(_LEAST).where(mask.isfinite(), mask).to(BF16)


def compute_in_bf16(draft: Drafted) -> None:
    """Let products and attention of activations be computed in bfloat16.

    What a weight goes into stays as it is: it would be cast in each call.
    """
    given = _of_data(draft)
    for node in list(draft.graph.nodes):
        operands = _operands(node)
        if operands and given.issuperset(operands) and _are_floats(node, *operands):
            _compute(draft, node, operands)


def cast_less(draft: Drafted) -> None:
    """Let what gives bfloat16 be read as such, past what only moves it: the bits are the same."""
    for node in list(draft.graph.nodes):
        if _is_cast(node, BF16) and (found := _narrow_source(draft, node)) is not None:
            wide, between = found
            _read(node, wide, between)


def _of_data(draft: Drafted) -> set[fx.Node]:
    """Return the nodes that are not of a module's tensors alone."""
    found: set[fx.Node] = set()
    for node in draft.graph.nodes:
        given = node.op == "placeholder" and node not in draft.constants
        if given or found.intersection(node.all_input_nodes):
            found.add(node)
    return found


def _operands(node: fx.Node) -> list[fx.Node]:
    """Return the activations that a node multiplies, none where it does no such thing."""
    if node.target is _ATTENTION:
        named = _named(node)
        three: list[Any] = [named.get(one) for one in _OPERANDS[:3]]
        mask = named.get("attn_mask")
        if isinstance(mask, fx.Node) and dtype_of(mask) not in (torch.bool, torch.float32):
            return []
    else:
        three = list(node.args) if node.target in _PRODUCTS and not node.kwargs else []
    nodes = all(isinstance(one, fx.Node) for one in three)
    return list(dict.fromkeys(three)) if nodes else []


def _named(node: fx.Node) -> dict[str, Any]:
    return dict(zip(_OPERANDS, node.args, strict=False)) | node.kwargs


def _are_floats(*nodes: fx.Node) -> bool:
    return all(dtype_of(one) is torch.float32 for one in nodes)


def _compute(draft: Drafted, node: fx.Node, operands: list[fx.Node]) -> None:
    mask = _named(node).get("attn_mask") if node.target is _ATTENTION else None
    if isinstance(mask, fx.Node) and _are_floats(mask):
        made = draft.add(node, NarrowMask(), (mask,), NARROW)
        node.prepend(made)
        node.replace_input_with(mask, made)
    for one in operands:
        node.replace_input_with(one, draft.narrowed(node, one))
    wide = draft.widened(node)
    wide.meta |= {"example_value": node.meta.pop("example_value")}
    node.replace_all_uses_with(wide, delete_user_cb=lambda user: user is not wide)
    if node in draft.written:
        draft.written.add(wide)


def _is_cast(node: fx.Node, dtype: torch.dtype) -> bool:
    ours = node.meta.get(MADE_BY) == NARROW and node.op == "call_method"
    return ours and node.args[1] is dtype


def _narrow_source(draft: Drafted, cast: fx.Node) -> tuple[fx.Node, list[fx.Node]] | None:
    """Return the cast to float32 that a value comes of, and what only moves it in between."""
    source, between = cast.args[0], list[fx.Node]()
    while isinstance(source, fx.Node) and source not in draft.written:
        if _is_cast(source, torch.float32):
            return source, between
        if only_user(source) is None or not _is_exact(draft, source):
            return None
        between.append(source)
        source = source.args[0]
    return None


def _is_exact(draft: Drafted, node: fx.Node) -> bool:
    """Whether a node gives for rounded values what it gives rounded."""
    if node.target in _RELU and len(node.args) == 1 and not any(node.kwargs.values()):
        return True
    return is_move(draft, node) and len(_tensors(node)) == 1


def _tensors(node: fx.Node) -> list[fx.Node]:
    first = node.args[0]
    return [first] if isinstance(first, fx.Node) else []


def _read(cast: fx.Node, wide: fx.Node, between: list[fx.Node]) -> None:
    for node in between:
        node.meta.pop("example_value", None)  # of float32
    if between:
        between[-1].replace_input_with(wide, wide.all_input_nodes[0])
        cast.replace_all_uses_with(between[0])
    else:
        cast.replace_all_uses_with(wide.all_input_nodes[0])
    for node in (cast, wide):
        if not node.users:
            node.graph.erase_node(node)
