"""Quantizing sooner: what only moves values moves integers as well."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import fx

from lpot_lightning.quantization.kernels.grid import Grid
from lpot_lightning.quantization.kernels.moving import MaxPool, Quantize
from lpot_lightning.quantization.program.plan import Plan

_VIEWS = ("flatten", "view", "reshape", "permute", "transpose", "contiguous", "unflatten",
          "squeeze", "unsqueeze")  # fmt: skip
_MOVES = {
    *_VIEWS, torch.flatten, torch.reshape, torch.permute, torch.transpose, torch.unflatten,
    torch.squeeze, torch.unsqueeze,
}  # fmt: skip
_MAY_VIEW = {*_MOVES, "chunk", "split", "unbind", "narrow", "select", "expand", "expand_as", "to",
             "detach", "view_as", "t", "swapaxes", "movedim", "getitem"}  # fmt: skip
POOLS = {F.max_pool1d: 1, F.max_pool2d: 2, F.max_pool3d: 3}


def quantize_sooner(plan: Plan) -> None:
    """Let each value be quantized once, and before what only moves it."""
    changed = mutated(plan)
    waiting = _merged(plan, changed)
    while waiting:
        sooner = [one for node in waiting for one in _raised(plan, node, changed)]
        waiting = _merged(plan, changed) if sooner else []


def mutated(plan: Plan) -> set[fx.Node]:
    """Return the nodes whose memory is written to while others may still read it."""
    found: set[fx.Node] = set()
    for node in plan.graph.nodes:
        if _writes(node) and isinstance(node.args[0], fx.Node):
            family = _family(node.args[0])
            if any(len(one.users) > 1 for one in family):
                found.update(family)
                found.update(_children(family[-1]))
    return found


def _writes(node: fx.Node) -> bool:
    name = _name(node)
    if not node.args or node.op not in ("call_function", "call_method"):
        return False
    in_place = name.endswith("_") and not name.startswith("_")
    operator = name in ("setitem", "iadd", "isub", "imul", "itruediv", "iand", "ior")
    return in_place or operator or node.kwargs.get("inplace") is True or "out" in node.kwargs


def _name(node: fx.Node) -> str:
    return node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")


def _family(node: fx.Node) -> list[fx.Node]:
    """Return ``node`` and what it may be a view of, as far as that is in the graph."""
    found = [node]
    while (_name(node) in _MAY_VIEW or _writes(node)) and node.args:
        source = node.args[0]
        if not isinstance(source, fx.Node):
            break
        node = source
        found.append(node)
    return found


def _children(node: fx.Node) -> set[fx.Node]:
    """Return all that may be views of ``node``."""
    found: set[fx.Node] = set()
    waiting = [node]
    while waiting:
        for user in waiting.pop().users:
            if user not in found and (_name(user) in _MAY_VIEW or _writes(user)):
                found.add(user)
                waiting.append(user)
    return found


def _merged(plan: Plan, changed: set[fx.Node]) -> list[fx.Node]:
    """Let values that are quantized twice on one grid be so once; return what quantizes."""
    known: dict[tuple[Any, Grid], fx.Node] = {}
    left = []
    for node in plan.steps(Quantize):
        source = node.args[0]
        key = source, _grid(plan, node)
        if source in changed or key not in known:
            known[key] = node
            left.append(node)
        else:
            node.replace_all_uses_with(known[key])
            plan.graph.erase_node(node)
    return left


def _grid(plan: Plan, node: fx.Node) -> Grid:
    step = plan.step(node)
    assert isinstance(step, Quantize)
    return step.grid


def _raised(plan: Plan, quantize: fx.Node, changed: set[fx.Node]) -> list[fx.Node]:
    """Quantize what comes before; return what quantizes then, nothing where that cannot be."""
    moved = quantize.args[0]
    assert isinstance(moved, fx.Node)
    if len(moved.users) > 1 or moved in changed or not moved.args:
        return []
    grid, before = _grid(plan, quantize), moved.args[0]
    if moved.target in _MOVES and not _names_floats(moved) and isinstance(before, fx.Node):
        sooner = [_sooner(plan, moved, before, grid)]
    elif moved.target in (torch.cat, torch.concat) and _are_nodes(before):
        sooner = [_sooner(plan, moved, one, grid) for one in dict.fromkeys(before)]  # type: ignore[arg-type]
    elif (pool := _pool(moved, grid)) is not None and isinstance(before, fx.Node):
        sooner = [_sooner(plan, moved, before, grid)]
        pooled = plan.add(moved, pool, (sooner[0],), "moves")
        moved.replace_all_uses_with(pooled)
        plan.graph.erase_node(moved)
        moved = pooled
    else:
        return []
    quantize.replace_all_uses_with(moved)
    plan.graph.erase_node(quantize)
    return sooner


def _sooner(plan: Plan, moved: fx.Node, source: fx.Node, grid: Grid) -> fx.Node:
    made = plan.add(moved, Quantize(grid), (source,), "moves")
    moved.prepend(made)
    moved.replace_input_with(source, made)
    return made


def _are_nodes(given: object) -> bool:
    return isinstance(given, list | tuple) and all(isinstance(one, fx.Node) for one in given)


def _names_floats(node: fx.Node) -> bool:
    """Whether an op that moves values also says of what type they are to be."""
    return any(isinstance(one, torch.dtype) for one in (*node.args, *node.kwargs.values()))


_POOL = ("input", "kernel_size", "stride", "padding", "dilation", "ceil_mode", "return_indices")


def _pool(node: fx.Node, grid: Grid) -> MaxPool | None:
    """Return the pool of integers that ``node`` is, if it is one that goes over whole windows."""
    dims = POOLS.get(node.target)  # type: ignore[call-overload]
    if dims is None:
        return None
    given = dict(zip(_POOL, node.args, strict=False)) | node.kwargs
    if given.get("dilation", 1) not in (1, (1,) * dims) or given.get("ceil_mode"):
        return None
    size = given["kernel_size"]
    sides = [size, given.get("stride") or size, given.get("padding", 0)]
    lists = [(one,) * dims if isinstance(one, int) else one for one in sides]
    known = all(map(_are_numbers, lists)) and any(one > 1 for one in lists[0])
    if given.get("return_indices") or not known:
        return None
    return MaxPool(*lists, least=grid.low)


def _are_numbers(given: object) -> bool:
    return isinstance(given, list | tuple) and all(isinstance(one, int) for one in given)
