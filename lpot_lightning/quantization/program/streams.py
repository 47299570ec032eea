"""Values that convolutions make: integers, on one grid for all who read them."""

from __future__ import annotations

import operator
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import fx

from lpot_lightning.quantization.kernels.grid import Grid
from lpot_lightning.quantization.kernels.layers import Int8Conv, Int8Layer
from lpot_lightning.quantization.kernels.moving import Dequantize, Quantize
from lpot_lightning.quantization.program.draft import (
    Drafted,
    dtype_of,
    kernel_at,
    only_user,
    shape_of,
)
from lpot_lightning.quantization.program.moves import POOLS, carry, is_move
from lpot_lightning.quantization.program.post_ops import post_op_of

COARSER = 1.5
"""How many times as far apart as its own the steps may be that a layer reads for the sake of
others. What rounding does to a value, its square, is then 2.25 times as much at most."""
_SUMS = {operator.add, operator.iadd, torch.add, "add", "add_"}


def read_integers(draft: Drafted) -> None:
    """Let a value that a convolution makes be integers, where layers and sums alone read it.

    Layers that read the same value, or what is put beside it by ``cat``, read it on one grid, which
    holds what each of theirs does, if its steps are no more than ``COARSER`` times as far apart:
    what else would be quantized for each of them. Layers that were trained keep their own steps.
    What a sum adds are the same integers. So it goes through a residual net, and through the splits
    and joins of a C2f block, without floats.
    """
    streams = _found(draft)
    grids = _Grids(draft)
    together = [one for one in streams if grids.unite(one.quantizes)]
    _rewrite(draft, together, grids)


def addends(node: fx.Node) -> Sequence[fx.Node]:
    """Return the two float32 tensors that ``node`` adds, none if they are no two of one shape."""
    given = [one for one in node.args if isinstance(one, fx.Node)]
    alike = len(given) == 2 and shape_of(given[0]) == shape_of(given[1]) is not None
    floats = all(dtype_of(one) is torch.float32 for one in given)
    plain = len(node.args) == 2 and not node.kwargs
    return given if node.target in _SUMS and alike and floats and plain else ()


@dataclass
class _Stream:
    """A value that is to be integers, and what becomes of it.

    Args:
        source: gives it.
        quantizes: what quantizes it for layers.
        moves: what only moves it, and what is put beside it.
        sums: what adds it, each with the node that it adds.
    """

    source: fx.Node
    quantizes: list[fx.Node] = field(default_factory=list)
    moves: list[fx.Node] = field(default_factory=list)
    sums: list[tuple[fx.Node, fx.Node]] = field(default_factory=list)

    def follow(self, draft: Drafted, node: fx.Node) -> bool:
        """Take up who reads ``node``; return whether all of them can read integers."""
        return node not in draft.written and all(
            self._take(draft, node, user) for user in node.users
        )

    def _take(self, draft: Drafted, node: fx.Node, user: fx.Node) -> bool:
        if user in self.moves or user in self.quantizes:
            return True
        if _is_for_layers(draft, user):
            self.quantizes.append(user)
            return True
        if addends(user):
            self.sums.append((user, node))
            return user not in draft.written
        if not is_move(draft, user):
            return False
        self.moves.append(user)
        return self.follow(draft, user)


def _found(draft: Drafted) -> list[_Stream]:
    found: list[_Stream] = []
    for node in draft.graph.nodes:
        moved = any(node in one.moves for one in found)
        if not moved and not is_move(draft, node) and _comes_of_conv(draft, node):
            stream = _Stream(node)
            if stream.follow(draft, node) and stream.quantizes:
                found.append(stream)
    return found


def _is_for_layers(draft: Drafted, node: fx.Node) -> bool:
    return isinstance(draft.step(node), Quantize) and all(
        kernel_at(draft, user) is not None for user in node.users
    )


class _Grids:
    """On which grid each node that quantizes puts what it gets."""

    def __init__(self, draft: Drafted) -> None:
        self._groups: dict[fx.Node, _Group] = {}
        for node in draft.steps(Quantize):
            step = draft.step(node)
            assert isinstance(step, Quantize)
            layers = [kernel_at(draft, user) for user in node.users]
            trained = any(one is not None and one.is_trained for one in layers)
            self._groups[node] = _Group([node], step.grid, step.grid.scale, is_trained=trained)

    def of(self, node: fx.Node) -> Grid:
        """Return the grid of a node that quantizes."""
        return self._groups[node].grid

    def unite(self, nodes: Sequence[fx.Node]) -> bool:
        """Let ``nodes`` have one grid, if none of them is much finer; return whether they do."""
        groups = {id(self._groups[node]): self._groups[node] for node in nodes}
        one, *others = groups.values()
        for other in others:
            one = one.with_(other)
        if one.grid.scale > (1.0 if one.is_trained else COARSER) * one.finest:
            return False
        self._groups |= dict.fromkeys(one.nodes, one)
        return True

    def changed(self, draft: Drafted) -> Iterator[tuple[fx.Node, Grid]]:
        """Yield the nodes that have another grid now, and that."""
        for node, group in self._groups.items():
            step = draft.step(node)
            if isinstance(step, Quantize) and step.grid != group.grid:
                yield node, group.grid


@dataclass(frozen=True)
class _Group:
    nodes: list[fx.Node]
    grid: Grid
    finest: float
    is_trained: bool

    def with_(self, other: _Group) -> _Group:
        grid = self.grid if _covers(self.grid, other.grid) else other.grid
        if not _covers(grid, self.grid):
            least, most = (
                pick(one)
                for pick, one in zip(
                    (min, max), zip(_ends(self.grid), _ends(other.grid), strict=True), strict=True
                )
            )
            grid = Grid.over(least, most, low=grid.low, high=grid.high)
        return _Group(
            nodes=[*self.nodes, *other.nodes],
            grid=grid,
            finest=min(self.finest, other.finest),
            is_trained=self.is_trained or other.is_trained,
        )


def _ends(grid: Grid) -> tuple[float, float]:
    return (grid.low - grid.zero_point) * grid.scale, (grid.high - grid.zero_point) * grid.scale


def _covers(one: Grid, other: Grid) -> bool:
    """Whether a grid holds what another one does, but for half a step."""
    (low, high), (least, most) = _ends(one), _ends(other)
    return low <= least + one.scale / 2 and high >= most - one.scale / 2


def _rewrite(draft: Drafted, streams: Sequence[_Stream], grids: _Grids) -> None:
    for node, grid in list(grids.changed(draft)):
        _put_on(draft, node, grid)
    integers: dict[fx.Node, fx.Node] = {}
    grid_of = {move: grids.of(one.quantizes[0]) for one in streams for move in one.moves}
    for one in streams:
        grid = grids.of(one.quantizes[0])
        integers[one.source] = draft.add(one.source, Quantize(grid), (one.source,), "streams")
    for move in [node for node in draft.graph.nodes if node in grid_of]:
        carried = carry(draft, move, grid_of[move], integers)
        integers |= {move: carried, carried: carried}
    for quantize in {quantize: None for one in streams for quantize in one.quantizes}:
        source = quantize.args[0]
        assert isinstance(source, fx.Node)
        quantize.replace_all_uses_with(integers[source])
        draft.graph.erase_node(quantize)
    for one in streams:
        for user, added in one.sums:
            grid = grids.of(one.quantizes[0])
            _add_integers(draft, user, added, integers[added], grid)


def _put_on(draft: Drafted, node: fx.Node, grid: Grid) -> None:
    """Let a node quantize to another grid, and the layers read that."""
    node.target = draft.named(Quantize(grid))
    for user in node.users:
        layer = draft.step(user)
        assert isinstance(layer, Int8Layer)
        user.target = draft.named(layer.like(layer.rounded, layer.out, x=grid))


def _add_integers(
    draft: Drafted, user: fx.Node, added: fx.Node, integers: fx.Node, grid: Grid
) -> None:
    floats = draft.add(integers, Dequantize(grid), (integers,), "streams")
    floats.meta |= {"example_value": added.meta.get("example_value")}
    user.prepend(floats)
    read = added if added in user.all_input_nodes else integers
    user.replace_input_with(read, floats)


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
