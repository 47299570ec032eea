"""One trial, what all of them came to, and the budget."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from operator import lt
from typing import Any, Literal

from lpot_lightning.errors import ConfError
from lpot_lightning.recipe import Recipe
from lpot_lightning.tuning.score import Criterion, Score

SAME = 0.1
"""Measured objectives that differ by no more than this share of the greater one count as equal."""
Status = Literal["met", "not_met", "budget_exhausted"]


@dataclass(frozen=True)
class Budget:
    """How long to search.

    Args:
        max_trials: how many different recipes are tried at most.
        timeout: seconds to go on improving. When they are over, a trial in flight is abandoned and
            counts for nothing; but without any that was judged in full there would be no model, and
            so the first one is finished. 0 stops at the first recipe that is accepted.
        performance_only: stop at the first recipe that can be judged, whatever its accuracy.

    Raises:
        ConfError: if ``max_trials`` is less than 1, or ``timeout`` negative or not finite.

    Example::

        Budget(max_trials=20, timeout=600)  # the best of what ten minutes give
    """

    max_trials: int = 100
    timeout: float = 0.0
    performance_only: bool = False

    def __post_init__(self) -> None:
        if self.max_trials < 1:
            raise ConfError(
                f"`tuning.exit_policy.max_trials` is `{self.max_trials}`; allowed: 1 or more"
            )
        if not (math.isfinite(self.timeout) and self.timeout >= 0):
            raise ConfError(
                f"`tuning.exit_policy.timeout` is `{self.timeout}`; allowed: 0, which stops at the "
                "first success, or more seconds"
            )


@dataclass(frozen=True)
class Trial:
    """A recipe that was tried.

    Args:
        number: from 1, in the order of trying.
        recipe: what was tried.
        score: what it gave, and in it where the trial stands.
        replayed: whether the score comes from the history of an earlier run; two trials that
            differ only in this are equal. It is no state: a trial in any state may be replayed,
            and what follows from its state is the same.
    """

    number: int
    recipe: Recipe
    score: Score
    replayed: bool = field(default=False, compare=False, kw_only=True)

    @property
    def accepted(self) -> bool:
        """Whether the criterion is met."""
        return self.score.accepted

    def to_dict(self) -> dict[str, Any]:
        """Return all of it as plain values."""
        return {
            "number": self.number,
            "recipe": self.recipe.to_dict(),
            "score": self.score.to_dict(),
            "accepted": self.accepted,
            "replayed": self.replayed,
        }

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Trial:
        """Build from what ``to_dict`` gave."""
        score = Score.from_dict(plain["score"], accepted=plain["accepted"])
        recipe = Recipe.from_dict(plain["recipe"])
        return cls(plain["number"], recipe, score, replayed=plain["replayed"])

    def beats(
        self, other: Trial | None, criterion: Criterion, cost: Callable[[Recipe], float]
    ) -> bool:
        """Return whether this later trial is the better choice than ``other``.

        Accepted comes before not accepted. Among accepted ones the lower measured objective
        decides, where the two differ by more than ``SAME`` and leave other ops in fp32, as else the
        clock is all that differs; then the lower cost, then the better accuracy. Among the others
        it is the better accuracy, then the lower cost. A trial that failed or was ended early is
        never chosen.
        """
        mine = self.score.accuracy
        if mine is None or not self.score.in_full:
            return False
        if other is None or other.score.accuracy is None:
            return True
        if self.accepted != other.accepted:
            return self.accepted
        better = _order(criterion.is_better, mine, other.score.accuracy)
        costs = cost(self.recipe), cost(other.recipe)
        cheaper = _order(lt, *costs)
        if not self.accepted:
            return (better, cheaper) > (0, 0)
        return (self._has_less(other), cheaper, better) > (0, 0, 0)

    def _has_less(self, other: Trial) -> int:
        """Return 1 if the objective is clearly lower than that of ``other``, -1 if higher, 0."""
        mine, theirs = self.score.objective, other.score.objective
        if {*self.recipe.fp32_ops} == {*other.recipe.fp32_ops}:
            return 0
        if mine is None or theirs is None or abs(mine - theirs) <= SAME * max(mine, theirs):
            return 0
        return _order(lt, mine, theirs)


@dataclass(frozen=True)
class Outcome:
    """What a search came to.

    Args:
        trials: all of them, in the order of trying.
        best: the one to use, ``None`` if every trial failed.
        status: ``"met"``; ``"not_met"`` if the search ended without; ``"budget_exhausted"`` if the
            budget ended it before there was an accepted one.
    """

    trials: tuple[Trial, ...]
    best: Trial | None
    status: Status


def _order(is_better: Callable[[float, float], bool], a: float, b: float) -> int:
    return int(is_better(a, b)) - int(is_better(b, a))
