"""Quantizing within what gives the floats: a pass over memory less."""

from __future__ import annotations

import itertools
import operator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx

from lpot_lightning.quantization.kernels.grid import Grid
from lpot_lightning.quantization.kernels.moving import (
    Dequantize,
    Divide,
    Quantize,
    QuantizeDivided,
    QuantizeNorm,
    QuantizeProduct,
    QuantizeSum,
)
from lpot_lightning.quantization.program.draft import (
    Drafted,
    Unknown,
    dtype_of,
    only_user,
    shape_of,
)
from lpot_lightning.quantization.program.streams import addends

_PRODUCTS = {operator.mul, operator.imul, torch.mul, "mul", "mul_"}
_Made = tuple[Quantize, tuple[fx.Node, ...]]
"""What quantizes, and what it is given."""
_NORM = ("input", "normalized_shape", "weight", "bias", "eps")


def quantize_within(draft: Drafted) -> None:
    """Let floats that nobody reads but what quantizes them never be: a layer norm gives steps of
    the grid, products and divided channels are rounded by the addition that multiplies, and what is
    added to integers of the same grid is added to them.

    It is the last pass: what could be quantized sooner, or by a kernel, is so by then.
    """
    for node in draft.steps(Quantize):
        source = node.args[0]
        step = draft.step(node)
        if type(step) is Quantize and _is_alone(draft, source, node):
            grid = step.grid
            made = _product(source, grid) or _norm(draft, source, grid)
            made = made or _division(draft, node) or _sum(draft, source, grid)
            if made is not None:
                _replace(draft, node, *made)


def _is_alone(draft: Drafted, source: Any, reader: fx.Node) -> bool:
    return (
        isinstance(source, fx.Node) and only_user(source) is reader and source not in draft.written
    )


def _product(node: fx.Node, grid: Grid) -> _Made | None:
    given = [one for one in node.args if isinstance(one, fx.Node)]
    floats = all(dtype_of(one) is torch.float32 and shape_of(one) for one in given)
    if node.target in _PRODUCTS and len(given) == len(node.args) == 2 and not node.kwargs:
        return (QuantizeProduct(grid), tuple(given)) if floats else None
    return None


def _sum(draft: Drafted, node: fx.Node, grid: Grid) -> _Made | None:
    """Return what adds integers that are on the same grid already."""
    for one, other in itertools.permutations(addends(node), 2):
        step, integers = draft.step(one), one.args[0] if one.args else None
        if isinstance(step, Dequantize) and step.grid == grid and isinstance(integers, fx.Node):
            return QuantizeSum(grid), (integers, other)
    return None


def _division(draft: Drafted, quantize: fx.Node) -> _Made | None:
    step, division = draft.step(quantize), quantize.args[0]
    divide = draft.step(division)
    assert isinstance(step, Quantize)
    assert isinstance(division, fx.Node)
    if not isinstance(divide, Divide):
        return None
    source = division.args[0]
    assert isinstance(source, fx.Node)
    alone = _is_alone(draft, source, division)
    normed = _norm(draft, source, step.grid, divide) if alone else None
    return normed or (QuantizeDivided(step.grid, divide.factors), (source,))


def _norm(
    draft: Drafted, node: fx.Node, grid: Grid, divide: Divide | None = None
) -> _Made | None:
    """Return a layer norm whose tensors are known, with channels divided behind it."""
    if node.target is not F.layer_norm:
        return None
    given: dict[str, Any] = {"weight": None, "bias": None, "eps": 1e-5}
    given |= dict(zip(_NORM, node.args, strict=False)) | node.kwargs
    held = [given[name] for name in ("weight", "bias")]
    known = all(one is None or one in draft.constants for one in held)
    x = given["input"]
    if not known or dtype_of(x) is not torch.float32 or dtype_of(node) is not torch.float32:
        return None
    try:
        shape, eps = draft.whole(given["normalized_shape"]), draft.number(given["eps"])
    except Unknown:
        return None
    draft.folded += [draft.order[one] for one in held if one is not None]
    weight, bias = (draft.values[one].detach() if one else None for one in held)
    weight = torch.ones(shape) if weight is None else weight
    bias = torch.zeros(shape) if bias is None else bias
    if divide is not None:
        weight, bias = weight / divide.factors, bias / divide.factors
    return (QuantizeNorm(grid, shape, weight, bias, eps), (x,)) if _fits(weight, bias) else None


def _fits(*tensors: Tensor) -> bool:
    return all(one.dtype is torch.float32 and one.device.type == "cpu" for one in tensors)


def _replace(draft: Drafted, node: fx.Node, made: Quantize, given: tuple[fx.Node, ...]) -> None:
    new = draft.add(node, made, given, "fewer passes")
    node.replace_all_uses_with(new)
    gone: Any = node
    while isinstance(gone, fx.Node) and gone not in given and not gone.users and gone.args:
        before = gone.args[0]
        draft.graph.erase_node(gone)
        gone = before
