"""Quantizing sooner: what only moves values moves integers as well."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import fx

from lpot_lightning.quantization.kernels.grid import Grid
from lpot_lightning.quantization.kernels.moving import MaxPool, Quantize
from lpot_lightning.quantization.program.draft import Drafted, Unknown

_MOVES = {
    "flatten", "view", "reshape", "permute", "transpose", "contiguous", "unflatten", "squeeze",
    "unsqueeze", torch.flatten, torch.reshape, torch.permute, torch.transpose, torch.unflatten,
    torch.squeeze, torch.unsqueeze,
}  # fmt: skip
POOLS: dict[Any, int] = {F.max_pool1d: 1, F.max_pool2d: 2, F.max_pool3d: 3}


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
    if len(moved.users) > 1 or moved in draft.written or not moved.args:
        return []
    grid, before = _grid(draft, quantize), moved.args[0]
    if moved.target in _MOVES and not _names_floats(moved) and isinstance(before, fx.Node):
        sooner = [_sooner(draft, moved, before, grid)]
    elif moved.target in (torch.cat, torch.concat) and _are_nodes(before):
        sooner = [_sooner(draft, moved, one, grid) for one in _different(before)]
    elif (pool := _pool(draft, moved, grid)) is not None and isinstance(before, fx.Node):
        sooner = [_sooner(draft, moved, before, grid)]
        pooled = draft.add(moved, pool, (sooner[0],), "moves")
        moved.replace_all_uses_with(pooled)
        draft.graph.erase_node(moved)
        moved = pooled
    else:
        return []
    quantize.replace_all_uses_with(moved)
    draft.graph.erase_node(quantize)
    return sooner


def _sooner(draft: Drafted, moved: fx.Node, source: fx.Node, grid: Grid) -> fx.Node:
    made = draft.add(moved, Quantize(grid), (source,), "moves")
    moved.prepend(made)
    moved.replace_input_with(source, made)
    return made


def _are_nodes(given: object) -> bool:
    return isinstance(given, list | tuple) and all(isinstance(one, fx.Node) for one in given)


def _different(given: Any) -> list[fx.Node]:
    return list(dict.fromkeys(given))


def _names_floats(node: fx.Node) -> bool:
    """Whether an op that moves values also says of what type they are to be."""
    return any(isinstance(one, torch.dtype) for one in (*node.args, *node.kwargs.values()))


_POOL = ("input", "kernel_size", "stride", "padding", "dilation", "ceil_mode", "return_indices")


def _pool(draft: Drafted, node: fx.Node, grid: Grid) -> MaxPool | None:
    """Return the pool of integers that ``node`` is, if it is one that goes over whole windows."""
    dims = POOLS.get(node.target)
    if dims is None:
        return None
    given = dict(zip(_POOL, node.args, strict=False)) | node.kwargs
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
    return MaxPool(size, stride, padding, grid.low) if usual else None


def _of_each(given: tuple[int, ...], dims: int) -> tuple[int, ...]:
    return given * dims if len(given) == 1 else given
