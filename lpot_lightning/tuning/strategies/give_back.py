"""Steps down that were not needed, taken back."""

from __future__ import annotations

import math
from collections.abc import Generator, Iterable
from dataclasses import dataclass, field
from itertools import pairwise

from lpot_lightning.recipe import Recipe
from lpot_lightning.tuning.score import Score
from lpot_lightning.tuning.strategies.bracket import WORTH, Bracket
from lpot_lightning.tuning.strategies.prefixes import Prefixes
from lpot_lightning.tuning.strategies.strategy import SearchContext

GIVE_BACK_TRIALS = 3

_HOPELESS = 10.0


def give_back(bracket: Bracket) -> Generator[Recipe, Score, None]:
    """Make those ops int8 again whose drop is predicted to fit into what the goal leaves.

    Between two sizes that were tried lies a measured difference in accuracy. It is shared among the
    ops that make the sizes differ, by their damages; so a stretch of ops that are ranked high and
    proved harmless is found. Where even the larger size has ten times the drop of the goal, the
    difference says nothing: a model that is ruined already is not ruined by more ops. What wins
    most cost for its drop is given back first. Where a trial shows more drop than was predicted,
    its ops count that much more, and half as much is tried.

    Example::

        proposals = give_back(closed)  # a bracket that `close` is through with
        recipe = next(proposals, None)
    """
    loan = _Loan.of(bracket)
    for _ in range(GIVE_BACK_TRIALS):
        group = loan.fitting(bracket.search.criterion.goal)
        if not group:
            return
        score = yield bracket.prefixes.recipe(loan.picked - group)
        loan.tell(group, score, bracket.search)


@dataclass(kw_only=True)
class _Loan:
    """Ops that are in fp32 in an accepted recipe, and the drop each is predicted to save.

    ``drop`` is that of the recipe, ``share`` how much of what the goal leaves is dared.
    """

    prefixes: Prefixes
    picked: frozenset[str]
    drop: float
    saved: dict[str, float] = field(default_factory=dict)
    share: float = 1.0

    @classmethod
    def of(cls, bracket: Bracket) -> _Loan:
        prefixes, enough = bracket.prefixes, bracket.enough
        loan = cls(
            prefixes=prefixes, picked=frozenset(prefixes.picked(enough)), drop=bracket.drops[enough]
        )
        hopeless = _HOPELESS * bracket.search.criterion.goal
        for a, b in pairwise(sorted(size for size in bracket.drops if size <= enough)):
            if bracket.drops[b] <= hopeless or b == enough:
                loan._share_out(
                    prefixes.picked(b)[a:], max(bracket.drops[a] - bracket.drops[b], 0.0)
                )
        return loan

    def _share_out(self, names: Iterable[str], drop: float) -> None:
        damages = {name: self.prefixes.damage_of(name) for name in names}
        whole = math.fsum(filter(math.isfinite, damages.values()))
        for name, damage in damages.items():
            part = damage / whole if whole > 0 else 1 / len(damages)
            self.saved[name] = drop * part if math.isfinite(damage) else math.inf

    def fitting(self, goal: float) -> frozenset[str]:
        """Return the ops to give back, none where too little would be won."""
        room = self.share * (goal - self.drop)
        group = frozenset[str]()
        for name in sorted(self.picked & self.saved.keys(), key=self._price):
            if self.prefixes.behind(name) & self.picked - group:
                continue
            if group | {name} == self.picked or self._lost(group | {name}) > room:
                break
            group |= {name}
        won = self.prefixes.cost_of(group)
        return group if won >= WORTH * self.prefixes.cost else frozenset()

    def tell(self, group: frozenset[str], score: Score, search: SearchContext) -> None:
        """Take note of what became of the recipe without ``group``."""
        accuracy = score.accuracy
        drop = math.inf if accuracy is None else search.criterion.drop(accuracy, search.baseline)
        if score.accepted:
            self.picked -= group
            self.drop = drop
            return
        self.share /= 2
        if drop - self.drop > self._lost(group) and math.isfinite(drop):
            self._share_out(group, drop - self.drop)

    def _price(self, name: str) -> tuple[float, str]:
        return self.saved[name] / self.prefixes.cost_of([name]), name

    def _lost(self, group: frozenset[str]) -> float:
        return math.fsum(self.saved.get(name, math.inf) for name in group)
