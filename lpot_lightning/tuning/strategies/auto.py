"""All int8, repaired, else the cheapest steps down to fp32."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import replace
from functools import cache

from lpot_lightning.recipe import Recipe, Rung
from lpot_lightning.tuning.ladder import Ladder
from lpot_lightning.tuning.score import Score
from lpot_lightning.tuning.space import Space
from lpot_lightning.tuning.strategies.bracket import Bracket, close, longest
from lpot_lightning.tuning.strategies.give_back import GIVE_BACK_TRIALS, give_back
from lpot_lightning.tuning.strategies.prefixes import Prefixes
from lpot_lightning.tuning.strategies.ranking import Ranking
from lpot_lightning.tuning.strategies.strategy import SearchContext


def most_trials(steps: int, *, trained: bool = False) -> int:
    """Return how many trials ``search_auto`` takes at most, whatever the verdicts are.

    Args:
        steps: of all ops down to fp32; see ``most_steps``.
        trained: whether they were trained for int8.

    Example::

        most_trials(150)  # 14
    """
    return 2 * (1 + trained) + longest(steps) + GIVE_BACK_TRIALS


def search_auto(space: Space, search: SearchContext) -> Generator[Recipe, Score, None]:
    """Try all int8, then repaired, then search which ops have to stay in fp32.

    1. All int8, but for ``search.not_paying``; weights alone, if ``search.none_pays``. If that is
       not good enough, ``search.repair`` is asked for settings and corrections that cost no speed,
       and what it changes is tried. The better of the two is the base. After a training for int8
       all int8 as it was trained comes before, and never ends the search by itself: what there is
       without a training is tried, too, until it is good enough or would lose ops, so that a
       training is not behind it. If nothing is good enough until then, the trained rounding is
       repaired, and the best of the four is the base.
    2. The steps of ops from int8 down to fp32, over the rungs that are in the space, are ranked
       once: by the damage that each takes away from the output, the op alone, divided by what it
       costs (``Ladder``). How many of them, from the first on, have to be taken is searched by
       bisection over this order, as AIMET's mixed precision does
       (``aimet_common/amp/mixed_precision_algo.py``), but guided: the next size is the smallest one
       that is predicted to meet the goal. The prediction is a power law of the summed damages that
       are left, through the two measured drops that are nearest to the goal. The probe is
       moved by a tenth of its way to the middle, or to a cliff of the ranking on it, and always
       leaves so few sizes open that bisection could still end within ``ceil(log2(N)) + 1`` trials
       for N steps. A trial that could win back no more than 2 % of the cost is not made.
    3. In at most three trials steps that were not needed are taken back (``give_back``).

    Example::

        proposals = search_auto(space, search)
        recipe = next(proposals)
        recipe = proposals.send(score)
    """
    search = replace(search, rank=cache(search.rank))
    trained, calibrated = (
        _paying(recipe, space, search) for recipe in (space.all_int8(), space.calibrated())
    )
    tried: dict[Recipe, Score] = {}
    for recipe in dict.fromkeys((trained, calibrated)):
        tried[recipe] = yield recipe
    if tried[calibrated].accepted:
        return
    yield from _repair(calibrated, tried, search)
    if trained != calibrated and not _is_met(tried):
        yield from _repair(trained, tried, search)
    if _is_met(tried):
        return
    base, score = _best(tried, search)
    reduced, candidates = {*base.reduced_ops}, {*space.fallback_candidates}
    ops = [op for op in space.ops if op.name in reduced & candidates]
    ladder = Ladder.of(base, ops, search.rank, search.share)
    ranking = Ranking.of(ladder.sensitivities, among=list(ladder.steps))
    bracket = Bracket(prefixes=Prefixes(base, ranking, ladder.steps), search=search)
    bracket.tell(0, score)
    yield from close(bracket)
    if bracket.is_met:
        yield from give_back(bracket)


def _paying(recipe: Recipe, space: Space, search: SearchContext) -> Recipe:
    """Return ``recipe`` but for what does not pay and may be fp32; all of it if nothing is left.

    Where nothing pays, weights alone are kept in 8 bits, if they may be: that is smaller and as
    fast as fp32.
    """
    if search.none_pays and not recipe.is_trained:
        kept = {op.name: op.settings_of(Rung.WEIGHT_ONLY) for op in space.ops}
        return recipe.with_configs({name: one[0] for name, one in kept.items() if one})
    leaving = {*search.not_paying} & {*space.fallback_candidates}
    paying = recipe.with_fp32({*recipe.fp32_ops, *leaving})
    return paying if paying.int8_ops else recipe


def _repair(
    recipe: Recipe, tried: dict[Recipe, Score], search: SearchContext
) -> Generator[Recipe, Score, None]:
    repaired = search.repair(recipe, search.rank(recipe))
    if repaired not in tried:
        tried[repaired] = yield repaired


def _is_met(tried: Mapping[Recipe, Score]) -> bool:
    return any(score.accepted for score in tried.values())


def _best(tried: Mapping[Recipe, Score], search: SearchContext) -> tuple[Recipe, Score]:
    """Return the most accurate one, the first of those that are equal."""
    best, *others = tried.items()
    for other in others:
        if _is_better(other[1], best[1], search):
            best = other
    return best


def _is_better(second: Score, first: Score, search: SearchContext) -> bool:
    a, b = second.accuracy, first.accuracy
    return a is not None and (b is None or search.criterion.is_better(a, b))
