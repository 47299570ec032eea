"""The recipes that keep the first ops of a ranking in fp32."""

from __future__ import annotations

import math
from collections.abc import Iterable
from itertools import accumulate

from lpot_lightning.recipe import Recipe
from lpot_lightning.tuning.islands import Islands
from lpot_lightning.tuning.strategies.ranking import Ranking


class Prefixes:
    """Recipes by size, each with more ops in fp32 than the one before.

    The op after the last one of a prefix goes to fp32 with it where it has become an island; a size
    that would only repeat the recipe of another one is left out.

    Args:
        base: the recipe of size 0.
        ranking: of ops that are int8 in ``base``.
        islands: what goes to fp32 with its neighbours.

    Attributes:
        base: the recipe of size 0.
        names: the ops of the ranking.
        end: the size that needs no trial: one more than the last recipe with an int8 op.
        cost: of having all ops of the ranking in fp32.
        costs: of each size.
        damages: what is expected to be left in int8 at each size; NaN where an op is left whose
            damage is not finite.
    """

    def __init__(self, base: Recipe, ranking: Ranking, islands: Islands) -> None:
        self.base = base
        self.names = ranking.order
        self._ranking = ranking
        self._islands = islands
        self._forced = set(base.fp32_ops)
        self._of = {one.op: one for one in ranking.sensitivities}
        self._counts, added = self._steps()
        self.end = len(self._counts)
        self.cost = self.cost_of(self.names)
        left = {*self.names}.difference(*added)
        self.costs = tuple(accumulate(map(self.cost_of, added)))
        self.damages = tuple(accumulate(map(self._damage, reversed([*added[1:], left]))))[::-1]

    def picked(self, size: int) -> tuple[str, ...]:
        """Return the ops of the ranking that a size names, without the islands they leave."""
        return self.names[: self._counts[size]]

    def fp32(self, picked: Iterable[str]) -> set[str]:
        """Return ``picked`` and the islands that it leaves."""
        found = set(picked)
        return found | (self._islands.left_by(found | self._forced) - self._forced)

    def recipe(self, picked: Iterable[str]) -> Recipe:
        """Return the base with these ops, and the islands they leave, in fp32."""
        return self.base.with_fp32(self._forced | self.fp32(picked))

    def cost_of(self, names: Iterable[str]) -> float:
        """Return what it costs to have these ops in fp32."""
        return math.fsum(self._of[name].cost for name in names)

    def damage_of(self, name: str) -> float:
        """Return the expected damage of an op; it may be not finite."""
        return self._of[name].damage

    def cliff(self, a: int, b: int) -> int | None:
        """Return the size from ``a`` to ``b`` after which the ranking falls most, if it does."""
        counts = {self._counts[size]: size for size in range(min(a, b), max(a, b) + 1)}
        steepest = self._ranking.steepest(counts)
        return None if steepest is None else counts[steepest]

    def _steps(self) -> tuple[list[int], list[set[str]]]:
        """Return how many ops each size picks, and which of them the size before has in int8."""
        counts, added, before = [0], [set[str]()], set[str]()
        int8 = len(self.base.int8_ops)
        for count in range(1, len(self.names) + 1):
            now = self.fp32(self.names[:count])
            if len(now) == int8:
                break
            if len(now) > len(before):
                counts.append(count)
                added.append(now - before)
                before = now
        return counts, added

    def _damage(self, names: Iterable[str]) -> float:
        """Sum up; with an op among them that is out of measure it is not a number."""
        damages = [self._of[name].damage for name in names]
        return math.fsum(damages) if all(map(math.isfinite, damages)) else math.nan
