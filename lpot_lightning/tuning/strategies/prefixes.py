"""The recipes that keep the first ops of a ranking in fp32."""

from __future__ import annotations

import math
from collections.abc import Iterable
from itertools import accumulate

from lpot_lightning.recipe import Recipe
from lpot_lightning.tuning.strategies.ranking import Ranking


class Prefixes:
    """Recipes by size, each with more ops in fp32 than the one before.

    Args:
        base: the recipe of size 0.
        ranking: of ops that are int8 in ``base``.

    Attributes:
        base: the recipe of size 0.
        names: the ops of the ranking.
        end: the size that needs no trial: one more than the last recipe with an int8 op.
        cost: of having all ops of the ranking in fp32.
        costs: of each size.
        damages: what is expected to be left in int8 at each size; NaN where an op is left whose
            damage is not finite.
    """

    def __init__(self, base: Recipe, ranking: Ranking) -> None:
        self.base = base
        self.names = ranking.order
        self._ranking = ranking
        self._forced = set(base.fp32_ops)
        self._of = {one.op: one for one in ranking.sensitivities}
        self.end = min(len(self.names) + 1, max(1, len(base.int8_ops)))
        self.cost = self.cost_of(self.names)
        costs = [self.cost_of([name]) for name in self.names[: self.end - 1]]
        self.costs = tuple(accumulate(costs, initial=0.0))
        self.damages = tuple(self._damage(self.names[size:]) for size in range(self.end))

    def picked(self, size: int) -> tuple[str, ...]:
        """Return the ops of the ranking that a size names."""
        return self.names[:size]

    def recipe(self, picked: Iterable[str]) -> Recipe:
        """Return the base with these ops in fp32."""
        return self.base.with_fp32(self._forced | set(picked))

    def cost_of(self, names: Iterable[str]) -> float:
        """Return what it costs to have these ops in fp32."""
        return math.fsum(self._of[name].cost for name in names)

    def damage_of(self, name: str) -> float:
        """Return the expected damage of an op; it may be not finite."""
        return self._of[name].damage

    def cliff(self, a: int, b: int) -> int | None:
        """Return the size from ``a`` to ``b`` after which the ranking falls most, if it does."""
        return self._ranking.steepest(range(min(a, b), max(a, b) + 1))

    def _damage(self, names: Iterable[str]) -> float:
        """Sum up; with an op among them that is out of measure it is not a number."""
        damages = [self._of[name].damage for name in names]
        return math.fsum(damages) if all(map(math.isfinite, damages)) else math.nan
