"""All int8, repaired, else the cheapest ops back to fp32."""

from __future__ import annotations

from collections.abc import Generator

from lpot_lightning.recipe import Recipe
from lpot_lightning.tuning.score import Score
from lpot_lightning.tuning.space import Space
from lpot_lightning.tuning.strategies.bracket import Bracket, close, longest
from lpot_lightning.tuning.strategies.give_back import GIVE_BACK_TRIALS, give_back
from lpot_lightning.tuning.strategies.prefixes import Prefixes
from lpot_lightning.tuning.strategies.ranking import Ranking
from lpot_lightning.tuning.strategies.strategy import SearchContext


def most_trials(ops: int, *, trained: bool = False) -> int:
    """Return how many trials ``search_auto`` takes at most, whatever the verdicts are.

    Args:
        ops: how many may be int8 or fp32.
        trained: whether they were trained for int8.

    Example::

        most_trials(150)  # 14
    """
    return 2 + trained + longest(ops) + GIVE_BACK_TRIALS


def search_auto(space: Space, search: SearchContext) -> Generator[Recipe, Score, None]:
    """Try all int8, then repaired, then search which ops have to stay in fp32.

    1. All int8, but for ``search.not_paying``. After a training for int8 that is once as it was
       trained, and once as calibration makes it of the trained weights: both are tried, so that a
       training is never behind what there is without one. If neither is good enough, the search
       goes on from the better one: ``search.repair`` is asked for settings and corrections that
       cost no speed, and what it changes is tried. The better of the two is the base.
    2. The ops are ranked once, by the damage each does to the output alone, divided by what fp32
       for it costs. How many of them, from the first on, have to stay in fp32 is searched by
       bisection over this order, as AIMET's mixed precision does
       (``aimet_common/amp/mixed_precision_algo.py``), but guided: the next size is the smallest one
       that is predicted to meet the goal. The prediction is a power law of the summed damages that
       are left in int8, through the two measured drops that are nearest to the goal. The probe is
       moved by a tenth of its way to the middle, or to a cliff of the ranking on it, and always
       leaves so few sizes open that bisection could still end within ``ceil(log2(N)) + 1`` trials
       for N ops. A trial that could win back no more than 2 % of the cost is not made.
    3. In at most three trials ops that were not needed are given back (``give_back``).

    Example::

        proposals = search_auto(space, search)
        recipe = next(proposals)
        recipe = proposals.send(score)
    """
    base = _paying(space.all_int8(), space, search)
    score = yield base
    calibrated = _paying(space.calibrated(), space, search)
    if calibrated != base:
        other = yield calibrated
        if other.accepted and not score.accepted or _is_better(other, score, search):
            base, score = calibrated, other
    if score.accepted:
        return
    ranked = search.rank(base)
    repaired = search.repair(base, ranked)
    if repaired != base:
        second = yield repaired
        if second.accepted:
            return
        if _is_better(second, score, search):
            base, score, ranked = repaired, second, search.rank(repaired)
    int8 = {*base.int8_ops}
    ranking = Ranking.of(ranked, among=[op for op in space.fallback_candidates if op in int8])
    bracket = Bracket(prefixes=Prefixes(base, ranking), search=search)
    bracket.tell(0, score)
    yield from close(bracket)
    if bracket.is_met:
        yield from give_back(bracket)


def _paying(recipe: Recipe, space: Space, search: SearchContext) -> Recipe:
    """Return ``recipe`` but for what does not pay and may be fp32; all of it if nothing is left."""
    leaving = {*search.not_paying} & {*space.fallback_candidates}
    paying = recipe.with_fp32({*recipe.fp32_ops, *leaving})
    return paying if paying.int8_ops else recipe


def _is_better(second: Score, first: Score, search: SearchContext) -> bool:
    a, b = second.accuracy, first.accuracy
    return a is not None and (b is None or search.criterion.is_better(a, b))
