"""What only moves values moves integers as well: so they can be quantized sooner."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import fx

from lpot_lightning.module.function_calls import repeats
from lpot_lightning.quantization.kernels.grid import Grid
from lpot_lightning.quantization.kernels.moving import MaxPool, Quantize
from lpot_lightning.quantization.program.draft import Drafted, Unknown

_MOVES = {
    "flatten", "view", "reshape", "permute", "transpose", "contiguous", "unflatten", "squeeze",
    "unsqueeze", torch.flatten, torch.reshape, torch.permute, torch.transpose, torch.unflatten,
    torch.squeeze, torch.unsqueeze,
}  # fmt: skip
_PARTS = {
    "chunk", "split", "unbind", "narrow", "select", torch.chunk, torch.split, torch.unbind,
    torch.narrow, torch.select, operator.getitem,
}  # fmt: skip
_JOINS = {torch.cat, torch.concat}
POOLS: dict[Any, int] = {F.max_pool1d: 1, F.max_pool2d: 2, F.max_pool3d: 3}
_PADS = {F.pad, torch._C._nn.pad}
_PAD = ("input", "pad", "mode", "value")


def is_move(draft: Drafted, node: fx.Node) -> bool:
    """Whether ``node`` only moves values, all or some of them, or puts zeros around them."""
    if node.target in _MOVES or node.target in _PARTS:
        return not _names_floats(node) and isinstance(node.args[0], fx.Node)
    if node.target in _JOINS:
        return _are_nodes(node.args[0])
    if not isinstance(node.args[0] if node.args else None, fx.Node):
        return False
    return _pool(draft, node, 0) is not None or _repeats(node) or _pads_zeros(node)


def carry(
    draft: Drafted, move: fx.Node, grid: Grid, integers: Mapping[fx.Node, fx.Node]
) -> fx.Node:
    """Let a node that moves values move integers on ``grid``, and return it.

    Args:
        draft: that it is in.
        move: what ``is_move``.
        grid: of the integers.
        integers: what is there as integers already; the others are quantized.
    """
    for source in move.all_input_nodes:
        if source in _moved(move):
            made = integers.get(source) or _quantized(draft, move, source, grid)
            move.replace_input_with(source, made)
    pool = _pool(draft, move, grid.low)
    if pool is not None:
        pooled = draft.add(move, pool, (move.args[0],), "moves")
        move.replace_all_uses_with(pooled)
        draft.graph.erase_node(move)
        return pooled
    if _pads_zeros(move):
        _pad_with(move, grid.zero_point)
    return move


def quantize_once(draft: Drafted) -> None:
    """Let each value be quantized once."""
    _merged(draft)


def quantize_sooner(draft: Drafted) -> None:
    """Let each value be quantized once, and before what only moves it."""
    waiting = _merged(draft)
    while waiting:
        sooner = [one for node in waiting for one in _raised(draft, node)]
        waiting = _merged(draft) if sooner else []


def _merged(draft: Drafted) -> list[fx.Node]:
    """Let values that are quantized twice on one grid be so once; return what quantizes."""
    known: dict[tuple[Any, Grid], fx.Node] = {}
    left = []
    for node in draft.steps(Quantize):
        source = node.args[0]
        key = source, _grid(draft, node)
        if source in draft.written or key not in known:
            known[key] = node
            left.append(node)
        else:
            node.replace_all_uses_with(known[key])
            draft.graph.erase_node(node)
    return left


def _grid(draft: Drafted, node: fx.Node) -> Grid:
    step = draft.step(node)
    assert isinstance(step, Quantize)
    return step.grid


def _raised(draft: Drafted, quantize: fx.Node) -> list[fx.Node]:
    """Quantize what comes before; return what quantizes then, nothing where that cannot be."""
    moved = quantize.args[0]
    assert isinstance(moved, fx.Node)
    if len(moved.users) > 1 or moved in draft.written or not is_move(draft, moved):
        return []
    if moved.target in _PARTS:  # the other parts may be floats for others
        return []
    before = set(draft.steps(Quantize))
    quantize.replace_all_uses_with(carry(draft, moved, _grid(draft, quantize), {}))
    draft.graph.erase_node(quantize)
    return [node for node in draft.steps(Quantize) if node not in before]


def _quantized(draft: Drafted, reader: fx.Node, source: fx.Node, grid: Grid) -> fx.Node:
    made = draft.add(reader, Quantize(grid), (source,), "moves")
    reader.prepend(made)
    return made


def _moved(move: fx.Node) -> list[fx.Node]:
    """Return whose values ``move`` moves; other inputs of it are sizes and places."""
    first: Any = move.args[0]
    return [first] if isinstance(first, fx.Node) else list(first)


def _are_nodes(given: object) -> bool:
    return isinstance(given, list | tuple) and all(isinstance(one, fx.Node) for one in given)


def _names_floats(node: fx.Node) -> bool:
    """Whether an op that moves values also says of what type they are to be."""
    return any(isinstance(one, torch.dtype) for one in (*node.args, *node.kwargs.values()))


def _arguments(node: fx.Node, names: tuple[str, ...]) -> dict[str, Any]:
    return dict(zip(names, node.args, strict=False)) | node.kwargs


def _repeats(node: fx.Node) -> bool:
    """Whether ``node`` gives each value a few times: integers take the same way as floats."""
    return repeats(node.target, node.args, node.kwargs)


def _pads_zeros(node: fx.Node) -> bool:
    if node.target not in _PADS:
        return False
    given = _arguments(node, _PAD)
    return given.get("mode", "constant") == "constant" and given.get("value") in (None, 0, 0.0)


def _pad_with(node: fx.Node, integer: int) -> None:
    given = _arguments(node, _PAD)
    node.args, node.kwargs = (given["input"], given["pad"], "constant", integer), {}


_POOL = ("input", "kernel_size", "stride", "padding", "dilation", "ceil_mode", "return_indices")


def _pool(draft: Drafted, node: fx.Node, least: int) -> MaxPool | None:
    """Return the pool of integers that ``node`` is, if it is one that goes over whole windows."""
    dims = POOLS.get(node.target)
    if dims is None:
        return None
    given = _arguments(node, _POOL)
    if given.get("ceil_mode") or given.get("return_indices"):
        return None
    sides = [given["kernel_size"], given.get("stride"), given.get("padding", 0)]
    sides[1] = sides[0] if sides[1] is None else sides[1]
    try:
        size, stride, padding, dilation = (
            _of_each(draft.whole(one), dims) for one in (*sides, given.get("dilation", 1))
        )
    except Unknown:
        return None
    usual = dilation == (1,) * dims and any(one > 1 for one in size)
    return MaxPool(size, stride, padding, least) if usual else None


def _of_each(given: tuple[int, ...], dims: int) -> tuple[int, ...]:
    return given * dims if len(given) == 1 else given
