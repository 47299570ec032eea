"""Quantizing within what gives the floats: a pass over memory less."""

from __future__ import annotations

import itertools
import operator

import torch
from torch import fx, nn

from lpot_lightning.quantization.kernels.grid import Grid
from lpot_lightning.quantization.kernels.moving import (
    Dequantize,
    Divide,
    Quantize,
    QuantizeDivided,
    QuantizeProduct,
    QuantizeSum,
)
from lpot_lightning.quantization.program.draft import Drafted, dtype_of, only_user, shape_of
from lpot_lightning.quantization.program.streams import addends

_PRODUCTS = {operator.mul, operator.imul, torch.mul, "mul", "mul_"}
_Made = tuple[nn.Module, tuple[fx.Node, ...]]
"""What quantizes, and what it is given."""


def quantize_within(draft: Drafted) -> None:
    """Let floats that nobody reads but what quantizes them never be: products and divided channels
    are rounded by the addition that multiplies, and what is added to integers of the same grid is
    added to them.

    It is the last pass: what could be quantized sooner, or by a kernel, is so by then. A layer norm
    cannot give steps of the grid that way: its bias would be rounded by itself.
    """
    for node in draft.steps(Quantize):
        source, step = node.args[0], draft.step(node)
        assert isinstance(source, fx.Node)
        assert isinstance(step, Quantize)
        if only_user(source) is node and source not in draft.written:
            made = _division(draft, source, step.grid) or _product(source, step.grid)
            made = made or _sum(draft, source, step.grid)
            if made is not None:
                _replace(draft, node, *made)


def _division(draft: Drafted, node: fx.Node, grid: Grid) -> _Made | None:
    step = draft.step(node)
    source = node.args[0] if isinstance(step, Divide) else None
    if not isinstance(step, Divide) or not isinstance(source, fx.Node):
        return None
    return QuantizeDivided(grid, step.factors), (source,)


def _product(node: fx.Node, grid: Grid) -> _Made | None:
    given = [one for one in node.args if isinstance(one, fx.Node)]
    floats = all(dtype_of(one) is torch.float32 and shape_of(one) for one in given)
    plain = len(given) == len(node.args) == 2 and not node.kwargs
    if node.target in _PRODUCTS and plain and floats:
        return QuantizeProduct(grid), tuple(given)
    return None


def _sum(draft: Drafted, node: fx.Node, grid: Grid) -> _Made | None:
    """Return what adds integers that are on the same grid already."""
    for one, other in itertools.permutations(addends(node), 2):
        step, integers = draft.step(one), one.args[0] if one.args else None
        if isinstance(step, Dequantize) and step.grid == grid and isinstance(integers, fx.Node):
            return QuantizeSum(grid), (integers, other)
    return None


def _replace(draft: Drafted, node: fx.Node, made: nn.Module, given: tuple[fx.Node, ...]) -> None:
    source = node.args[0]
    node.replace_all_uses_with(draft.add(node, made, given, "fewer passes"))
    for gone in (node, source):
        assert isinstance(gone, fx.Node)
        draft.graph.erase_node(gone)
