"""Activation functions that are written out: taken for what they are, so that kernels do them."""

from __future__ import annotations

import itertools
import math
import operator
from typing import Any

import torch
import torch.nn.functional as F
from torch import fx

from lpot_lightning.quantization.program.draft import Drafted, dtype_of

_MUL, _DIV = {operator.mul, torch.mul, "mul"}, {operator.truediv, torch.div, "div"}
_ADD, _POW = {operator.add, torch.add, "add"}, {operator.pow, torch.pow, "pow"}
_TANH, _ERF = {torch.tanh, F.tanh, "tanh"}, {torch.erf, torch.special.erf, "erf"}
_SIGMOID = {torch.sigmoid, F.sigmoid, "sigmoid"}
_Parts = tuple[float, list[fx.Node]]
"""A number, and what it is multiplied by, or added to."""


def put_together(draft: Drafted) -> None:
    """Let GELU and SiLU that are written out, as in models of transformers, be one op.

    It is GELU by ``erf`` and by ``tanh``, and what is multiplied by its own sigmoid.
    """
    for node in list(draft.graph.nodes):
        found = _activation(node)
        if found is None or draft.written & {found[0], node}:
            continue
        x, function, given = found
        if dtype_of(x) is not torch.float32:
            continue
        with draft.graph.inserting_after(node):
            new = draft.graph.call_function(function, (x,), given)
        new.meta |= node.meta
        node.replace_all_uses_with(new)
        _erase(draft.graph, node)


def _activation(node: fx.Node) -> tuple[fx.Node, Any, dict[str, Any]] | None:
    """Return of what ``node`` is an activation function, which, and what else that is given."""
    number, parts = _product(node)
    for x, other in itertools.permutations(parts, 2) if len(parts) == 2 else ():
        if number == 1 and other.target in _SIGMOID and other.args == (x,):
            return x, F.silu, {}
        one, inner = _sum(other)
        if (number, one, len(inner)) == (0.5, 1, 1) and len(inner[0].args) == 1:
            if inner[0].target in _ERF and _is(_product(inner[0].args[0]), math.sqrt(0.5), x):
                return x, F.gelu, {}
            if inner[0].target in _TANH and _is_for_tanh(inner[0].args[0], x):
                return x, F.gelu, {"approximate": "tanh"}
    return None


def _is_for_tanh(node: Any, x: fx.Node) -> bool:
    """Whether it is ``sqrt(2 / pi) * (x + 0.044715 * x ** 3)``, or with ``x`` put before that."""
    number, parts = _product(node)
    sums = [one for one in parts if one is not x]
    if not math.isclose(number, math.sqrt(2 / math.pi), rel_tol=1e-6) or len(sums) != 1:
        return False
    before = len(parts) == 2
    least, terms = _sum(sums[0])
    powers = [one for one in terms if one is not x]
    if (least, len(terms)) != ((1, 1) if before else (0, 2)) or len(powers) != 1:
        return False
    return _is(_product(powers[0]), 0.044715, *[x] * (2 if before else 3))


def _is(found: _Parts, number: float, *parts: fx.Node) -> bool:
    return math.isclose(found[0], number, rel_tol=1e-6) and found[1] == list(parts)


def _product(node: Any, top: bool = True) -> _Parts:
    """Return what is multiplied in ``node``, without what others read too."""
    if not isinstance(node, fx.Node):
        return (float(node), []) if isinstance(node, int | float) else (math.nan, [])
    if _is_plain(node, top):
        if node.target in _MUL:
            (one, some), (other, more) = (_product(part, False) for part in node.args)
            return one * other, [*some, *more]
        if node.target in _DIV and isinstance(node.args[1], int | float) and node.args[1]:
            number, parts = _product(node.args[0], False)
            return number / node.args[1], parts
        base, power = node.args
        if node.target in _POW and power in (2, 3) and isinstance(base, fx.Node):
            return 1.0, [base] * (2 if power == 2 else 3)
    return 1.0, [node]


def _sum(node: fx.Node) -> _Parts:
    """Return what is added in ``node``."""
    if node.target not in _ADD or not _is_plain(node, True):
        return 0.0, [node]
    numbers = [one for one in node.args if isinstance(one, int | float)]
    return float(sum(numbers)), [one for one in node.args if isinstance(one, fx.Node)]


def _is_plain(node: fx.Node, top: bool) -> bool:
    return len(node.args) == 2 and not node.kwargs and (top or len(node.users) == 1)


def _erase(graph: fx.Graph, node: fx.Node) -> None:
    """Take out a node and what was there for it alone."""
    given = node.all_input_nodes
    graph.erase_node(node)
    for one in given:
        if not one.users and one.op.startswith("call"):
            _erase(graph, one)
