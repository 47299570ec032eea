"""How many ops in fp32 are too few, how many enough: the search for it."""

from __future__ import annotations

import math
from collections.abc import Generator
from dataclasses import dataclass, field

from lpot_lightning.recipe import Recipe
from lpot_lightning.tuning.score import Score
from lpot_lightning.tuning.strategies.prefixes import Prefixes
from lpot_lightning.tuning.strategies.strategy import SearchContext
from lpot_lightning.tuning.strategies.surrogate import MeasuredDrop, damage_at

WORTH = 0.02
"""The share of all cost that a trial has to promise: a validation pass is not made for less."""

_PULL = 0.2
_ROUNDING = 1 + 1e-9


@dataclass(kw_only=True)
class Bracket:
    """What is known of the sizes.

    Args:
        prefixes: what is searched.
        search: the criterion, and the baseline that drops are measured from.
        too_few: the greatest size that was not accepted.
        enough: the smallest size that was accepted, or the one that needs no trial.
        drops: the drop in accuracy of each size that was tried and gave one.
    """

    prefixes: Prefixes
    search: SearchContext
    too_few: int = 0
    enough: int = field(init=False)
    drops: dict[int, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.enough = self.prefixes.end

    @property
    def is_met(self) -> bool:
        """Whether any size was accepted."""
        return self.enough < self.prefixes.end

    @property
    def is_closed(self) -> bool:
        """Whether no size is left that is worth a trial."""
        if self.enough - self.too_few < 2:
            return True
        costs = self.prefixes.costs
        return self.is_met and (
            costs[self.enough] - costs[self.too_few + 1] < WORTH * self.prefixes.cost
        )

    def tell(self, size: int, score: Score) -> None:
        """Take note of what became of a size, taking acceptance to be monotone."""
        accuracy = score.accuracy
        if accuracy is not None:
            self.drops[size] = self.search.criterion.drop(accuracy, self.search.baseline)
        if score.accepted:
            self.enough = size
        else:
            self.too_few = size

    def probe(self, left: int) -> int:
        """Return the size to try next, after which bisection could end in ``left`` trials."""
        room = 1 << left
        lowest = max(self.too_few + 1, self.enough - room)
        highest = min(self.enough - 1, self.too_few + room)
        return min(max(self._wish(), lowest), highest)

    def _wish(self) -> int:
        """Return the size that the damages predict, moved a little to where it settles more."""
        damages, last = self.prefixes.damages, self.enough - 1
        target = damage_at(self.search.criterion.goal, self._points())
        middle = (self.too_few + self.enough) // 2
        if target is None or math.isnan(damages[last]):
            return middle
        between = range(self.too_few + 1, last)
        predicted = next((size for size in between if damages[size] <= target * _ROUNDING), last)
        moved = round(predicted + _PULL * (middle - predicted))
        cliff = self.prefixes.cliff(predicted, moved)
        return moved if cliff is None else cliff

    def _points(self) -> list[MeasuredDrop]:
        """Return the measured drops that say most of the goal: below and above it, else below."""
        damages = self.prefixes.damages
        known = [size for size in sorted(self.drops, reverse=True) if damages[size] > 0]
        failed = [(damages[n], self.drops[n]) for n in known if n <= self.too_few]
        accepted = [(damages[n], self.drops[n]) for n in known if n == self.enough]
        return [*failed[:1], *accepted, *failed[1:]]


def longest(ops: int) -> int:
    """Return how many trials ``close`` takes at most for so many ops."""
    return max(ops - 1, 0).bit_length() + 1


def close(bracket: Bracket) -> Generator[Recipe, Score, None]:
    """Try sizes until the smallest one that is accepted is known, or nearly so.

    Whatever the verdicts are, it ends within ``longest`` trials.

    Example::

        proposals = close(bracket)
        recipe = next(proposals)
        recipe = proposals.send(score)
    """
    left = longest(len(bracket.prefixes.names))
    while not bracket.is_closed:
        left -= 1
        size = bracket.probe(left)
        score = yield bracket.prefixes.recipe(bracket.prefixes.picked(size))
        bracket.tell(size, score)
