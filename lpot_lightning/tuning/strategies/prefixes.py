"""The recipes that take the first steps of a ranking, from int8 down to fp32."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from itertools import accumulate

from lpot_lightning.recipe import FP32, Recipe
from lpot_lightning.tuning.ladder import Descent
from lpot_lightning.tuning.strategies.ranking import Ranking


class Prefixes:
    """Recipes by size, each with one step more than the one before.

    Args:
        base: the recipe of size 0.
        ranking: of steps of ops that are not fp32 in ``base``.
        steps: by name; one of a name that is not among them is that of an op to fp32.

    Attributes:
        base: the recipe of size 0.
        names: the steps of the ranking.
        end: the size that needs no trial: one more than the last recipe that is not all fp32.
        cost: of taking all steps of the ranking.
        costs: of each size.
        damages: what is expected to be left at each size; NaN where a step is left that takes away
            a damage that is not finite.
    """

    def __init__(
        self, base: Recipe, ranking: Ranking, steps: Mapping[str, Descent] | None = None
    ) -> None:
        self.base = base
        self.names = ranking.order
        self._ranking = ranking
        known = steps or {}
        self._steps = {name: known.get(name) or Descent(name, FP32, 0) for name in self.names}
        self._of = {one.op: one for one in ranking.sensitivities}
        self.end = self._end()
        self.cost = self.cost_of(self.names)
        costs = [self.cost_of([name]) for name in self.names[: self.end - 1]]
        self.costs = tuple(accumulate(costs, initial=0.0))
        self.damages = tuple(self._damage(self.names[size:]) for size in range(self.end))

    def _end(self) -> int:
        left = set(self.base.reduced_ops)
        for size, name in enumerate(self.names, 1):
            left -= {self._steps[name].op} if self._steps[name].config.is_fp32 else set()
            if not left:
                return size
        return len(self.names) + 1

    def picked(self, size: int) -> tuple[str, ...]:
        """Return the steps of the ranking that a size names."""
        return self.names[:size]

    def recipe(self, picked: Iterable[str]) -> Recipe:
        """Return the base with these steps taken, of each op the last one."""
        steps = sorted((self._steps[name] for name in picked), key=lambda one: one.place)
        return self.base.with_configs({one.op: one.config for one in steps})

    def behind(self, name: str) -> frozenset[str]:
        """Return the later steps of the op of a step: it cannot be taken back without them."""
        own = self._steps[name]
        return frozenset(
            other
            for other, one in self._steps.items()
            if one.op == own.op and one.place > own.place
        )

    def cost_of(self, names: Iterable[str]) -> float:
        """Return what it costs to take these steps."""
        return math.fsum(self._of[name].cost for name in names)

    def damage_of(self, name: str) -> float:
        """Return the damage that a step is expected to take away; it may be not finite."""
        return self._of[name].damage

    def cliff(self, a: int, b: int) -> int | None:
        """Return the size from ``a`` to ``b`` after which the ranking falls most, if it does."""
        return self._ranking.steepest(range(min(a, b), max(a, b) + 1))

    def _damage(self, names: Iterable[str]) -> float:
        """Sum up; with an op among them that is out of measure it is not a number."""
        damages = [self._of[name].damage for name in names]
        return math.fsum(damages) if all(map(math.isfinite, damages)) else math.nan
