"""Ops without weights that would be int8 alone among fp32 ones."""

from __future__ import annotations

from collections.abc import Set as AbstractSet

from lpot_lightning.recipe import Op, Recipe
from lpot_lightning.tuning.space import Space


class Islands:
    """Finds the ops whose int8 would only add a quantize and a dequantize.

    An op without a weight, such as an addition, gains next to nothing from int8: it is int8 because
    its neighbours are. Where those it reads and those that read it have all gone to fp32, it goes
    with them, as NNCF's accuracy control reverts such quantizers in one group
    (``accuracy_control/algorithm.py``). So does a chain of such ops that only have each other.

    Args:
        space: the ops, and what each reads; an op that has no neighbour in it is never an island.

    Example::

        Islands(space).left_by({"net.conv1", "net.conv2"})  # {"net#add_0"}
    """

    def __init__(self, space: Space) -> None:
        self._neighbours: dict[str, set[str]] = {op.name: set() for op in space.ops}
        for op in space.ops:
            for name in op.reads:
                self._neighbours[op.name].add(name)
                self._neighbours.setdefault(name, set()).add(op.name)
        self._light = {op.name for op in space.ops if op.may_fall_back and _is_light(op)}

    def left_by(self, fp32: AbstractSet[str]) -> set[str]:
        """Return the islands that are there when the ops in ``fp32`` are not int8."""
        found: set[str] = set()
        left = self._light - fp32
        while left:
            group = self._group(left.pop(), left)
            around = set[str]().union(*(self._neighbours[name] for name in group)) - group
            if around and around <= fp32:
                found |= group
        return found

    def _group(self, first: str, left: set[str]) -> set[str]:
        """Take those that hang together with ``first`` out of ``left``."""
        group, new = {first}, [first]
        while new:
            more = self._neighbours[new.pop()] & left
            left -= more
            group |= more
            new += more
        return group


def without_islands(recipe: Recipe, space: Space) -> Recipe:
    """Return ``recipe`` with the islands in fp32, too.

    Example::

        without_islands(space.all_int8().with_fp32(["net.conv1", "net.conv2"]), space).fp32_ops
    """
    return recipe.with_fp32({*recipe.fp32_ops, *Islands(space).left_by({*recipe.fp32_ops})})


def _is_light(op: Op) -> bool:
    return op.weight_bytes == 0 and all(config.weight is None for config in op.int8_configs)
