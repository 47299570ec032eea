"""Residuals of convolutions: what is added is the integers that the next layer reads."""

from __future__ import annotations

import operator
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import fx

from lpot_lightning.quantization.kernels.layers import Int8Conv
from lpot_lightning.quantization.kernels.moving import Dequantize, Quantize
from lpot_lightning.quantization.program.draft import (
    Drafted,
    dtype_of,
    kernel_at,
    only_user,
    shape_of,
)
from lpot_lightning.quantization.program.moves import POOLS
from lpot_lightning.quantization.program.post_ops import post_op_of

_SUMS = {operator.add, operator.iadd, torch.add, "add", "add_"}


def read_integers(draft: Drafted) -> None:
    """Let sums read what the layers beside them read: a value that convolutions make is then
    needed as integers only.

    It is so for a value that one grid quantizes and that nobody reads besides but sums: the stream
    of a residual net. What is added differs from the floats by the rounding of that grid.
    """
    for node in list(draft.graph.nodes):
        if node not in draft.written and _comes_of_conv(draft, node):
            _read_integers(draft, node)


def addends(node: fx.Node) -> Sequence[fx.Node]:
    """Return the two float32 tensors that ``node`` adds, none if they are no two of one shape."""
    given = [one for one in node.args if isinstance(one, fx.Node)]
    alike = len(given) == 2 and shape_of(given[0]) == shape_of(given[1]) is not None
    floats = all(dtype_of(one) is torch.float32 for one in given)
    plain = len(node.args) == 2 and not node.kwargs
    return given if node.target in _SUMS and alike and floats and plain else ()


def _read_integers(draft: Drafted, node: fx.Node) -> None:
    quantizes = [user for user in node.users if isinstance(draft.step(user), Quantize)]
    others = [user for user in node.users if user not in quantizes]
    unsafe = any(one in draft.written for one in others)
    if len(quantizes) != 1 or not others or unsafe or not all(map(addends, others)):
        return
    (quantize,) = quantizes
    step = draft.step(quantize)
    assert isinstance(step, Quantize)
    node.append(quantize)
    for user in others:
        floats = draft.add(quantize, Dequantize(step.grid), (quantize,), "streams")
        floats.meta |= {"example_value": node.meta.get("example_value")}
        user.prepend(floats)
        user.replace_input_with(node, floats)


def _comes_of_conv(draft: Drafted, node: fx.Node) -> bool:
    """Whether a kernel of a convolution can give ``node``, with what comes after it."""
    while not isinstance(kernel_at(draft, node), Int8Conv):
        given = addends(node) or [one for one in node.args[:1] if isinstance(one, fx.Node)]
        before = [one for one in given if only_user(one) is node]
        if not before or not _may_follow(draft, node):
            return False
        kernels = [one for one in before if not isinstance(draft.step(one), Dequantize)]
        node = kernels[0] if kernels else before[0]
    return True


def _may_follow(draft: Drafted, node: fx.Node) -> bool:
    known = node.target is F.batch_norm or node.target in POOLS or bool(addends(node))
    return known or post_op_of(node, draft.number) is not None
