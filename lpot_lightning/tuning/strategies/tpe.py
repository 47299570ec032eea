"""LPOT's tpe: int8 settings and fp32 by a tree of Parzen estimators."""

from __future__ import annotations

import math
from collections.abc import Generator
from functools import cached_property
from typing import TYPE_CHECKING

from lpot_lightning.recipe import FP32, Op, OpConfig, Recipe
from lpot_lightning.tuning.score import Score
from lpot_lightning.tuning.space import Space
from lpot_lightning.tuning.strategies.sampled import search_sampled
from lpot_lightning.tuning.strategies.steps import settings_of
from lpot_lightning.tuning.strategies.strategy import SearchContext

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler

STARTUP_TRIALS = 10
POINTS = 10.0
"""What 1 % of accuracy beyond the goal weighs, and what being twice as slow does."""
MISSED = 80.0
"""What missing the goal weighs."""


def search_tpe(space: Space, search: SearchContext) -> Generator[Recipe, Score, None]:
    """Choose an int8 setting or fp32 for each op, weighing accuracy and speed.

    As in ``lpot/contrib/strategy/tpe.py``, ten trials are drawn before the estimators guide; see
    ``TrialLoss`` for what they are told. They are those of Optuna's ``TPESampler`` (Bergstra et
    al., 2011) with its own settings, not hyperopt's. The recipe without any int8 op is not tried.

    Example::

        next(search_tpe(space, search)) == space.all_int8()  # True
    """
    start = space.all_int8()
    first = start.as_mapping()
    choices = {op.name: _choices_of(op, first[op.name]) for op in space.ops}
    yield from search_sampled(
        start,
        choices,
        lambda: _parzen_estimators(search.seed),
        TrialLoss(space, search),
        search.seed,
    )


class TrialLoss:
    """What a trial weighs: LPOT's sum of an accuracy and a latency part, less being better.

    A trial that misses the goal has 80 points, and 10 * ``accuracy_weight`` for each percent of the
    baseline that is missing; LPOT's part is ``exp`` of the drop, which is the same to 5 % up to a
    drop of 10 %. To each trial 10 * ``latency_weight`` are added for being twice as slow as all
    int8, on a scale of log2, as in LPOT. How slow it is, is measured where ``Score.objective`` is;
    else it is twice as slow with all ops in fp32, and in between by their cost.

    Args:
        space: gives the recipe that is compared with.
        search: criterion, cost and weights.

    Example::

        TrialLoss(space, search)(space.all_int8(), Score.of(0.9, seconds=1.0))  # 80.0
    """

    def __init__(self, space: Space, search: SearchContext) -> None:
        self._search, self._start = search, space.all_int8()
        self._objective: float | None = None
        self._names = space.fallback_candidates

    def __call__(self, recipe: Recipe, score: Score) -> float:
        """Return the points of a trial that has an accuracy; all int8 is to be the first."""
        if recipe == self._start:
            self._objective = score.objective
        latency = POINTS * math.log2(self._slowdown(recipe, score))
        loss = self._search.latency_weight * latency
        if not score.accepted:
            percents = 100 * self._missing(score.accuracy or 0.0)
            loss += MISSED + self._search.accuracy_weight * POINTS * percents
        return loss

    def _missing(self, accuracy: float) -> float:
        """Return how much of the baseline is missing to the goal."""
        criterion, baseline = self._search.criterion, self._search.baseline
        target = criterion.target(baseline)
        missing = target - accuracy if criterion.higher_is_better else accuracy - target
        return max(0.0, missing) / (abs(baseline) or 1.0)

    def _slowdown(self, recipe: Recipe, score: Score) -> float:
        if score.objective and self._objective:
            return score.objective / self._objective
        least, most = self._costs
        return 1.0 + (self._search.cost(recipe) - least) / (most - least) if most > least else 1.0

    @cached_property
    def _costs(self) -> tuple[float, float]:
        """What the least and the most that may be fp32 cost; measured when it is needed."""
        cost, start = self._search.cost, self._start
        return cost(start), cost(start.with_fp32(self._names))


def _choices_of(op: Op, first: OpConfig) -> tuple[OpConfig, ...]:
    fp32 = (FP32,) if op.may_fall_back else ()
    return tuple(dict.fromkeys((first, *settings_of(op), *fp32)))


def _parzen_estimators(seed: int) -> BaseSampler:
    from optuna.samplers import TPESampler

    return TPESampler(n_startup_trials=STARTUP_TRIALS, seed=seed)
