"""LPOT's bayesian: int8 settings by a Gaussian process."""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING

from lpot_lightning.recipe import Recipe
from lpot_lightning.tuning.score import Score
from lpot_lightning.tuning.space import Space
from lpot_lightning.tuning.strategies.sampled import search_sampled
from lpot_lightning.tuning.strategies.steps import settings_of
from lpot_lightning.tuning.strategies.strategy import SearchContext

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler


def search_bayesian(space: Space, search: SearchContext) -> Generator[Recipe, Score, None]:
    """Choose an int8 setting for each op where a Gaussian process expects the best accuracy.

    As in ``lpot/strategy/bayesian.py``, only the accuracy counts, and no op that can be int8 is
    tried in fp32. The process is that of Optuna's ``GPSampler``, with a Matern 2.5 kernel like
    LPOT's; unlike there, settings are categories and not a scale, a proposal is that of the best
    expected improvement, the first ten are drawn, and lower-is-better metrics work.

    Example::

        next(search_bayesian(space, search)) == space.all_int8()  # True
    """
    sign = -1.0 if search.criterion.higher_is_better else 1.0
    start = space.all_int8()
    first = start.as_mapping()
    choices = {
        op.name: tuple(dict.fromkeys((first[op.name], *settings_of(op)))) for op in space.ops
    }

    def loss(_: Recipe, score: Score) -> float:
        return sign * (score.accuracy or 0.0)

    yield from search_sampled(
        start, choices, lambda: _gaussian_process(search.seed), loss, search.seed
    )


def _gaussian_process(seed: int) -> BaseSampler:
    from optuna.samplers import GPSampler

    return GPSampler(seed=seed)
