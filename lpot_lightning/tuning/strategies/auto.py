"""All int8, else the fewest ops back to fp32."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, replace

from lpot_lightning.recipe import Recipe
from lpot_lightning.tuning.score import Score
from lpot_lightning.tuning.space import Space
from lpot_lightning.tuning.strategies.ranking import Ranking
from lpot_lightning.tuning.strategies.strategy import Search, Verdict

GIVE_BACK_TRIALS = 3

_Trying = Generator[Recipe, Verdict, "_Found | None"]


@dataclass(frozen=True)
class _Found:
    """An accepted recipe: the first ``size`` ops of the ranking in fp32, less those given back.

    ``scale`` is the drop in accuracy that a unit of damage makes, ``drop`` the one that is there.
    """

    size: int
    drop: float
    scale: float
    returned: tuple[str, ...] = ()


def search_auto(space: Space, search: Search) -> Generator[Recipe, Verdict, None]:
    """Try all int8; if that is not good enough, search how many ops have to stay in fp32.

    The ops are ranked once, most harmful first. How many of them have to stay is searched by
    bisection, as AIMET's mixed precision does, with the first probe at the ranking's cliff and,
    where that is accepted, the second one op below it: at most ``ceil(log2(N)) + 1`` trials for N
    ops, whatever the verdicts are. Then at most three trials try to give back ops that were not
    needed.

    Example::

        proposals = search_auto(space, search)
        recipe = next(proposals)
        recipe = proposals.send(Verdict(score, accepted=False))
    """
    start = space.all_int8()
    verdict = yield start
    names = space.fallback_candidates
    if verdict.accepted or not names:
        return
    ranking = Ranking.of(search.rank(start), among=names)
    found = yield from _search_prefix(start, ranking, search, verdict.score)
    if found is not None:
        yield from _give_back(start, ranking, search, found)


def _search_prefix(start: Recipe, ranking: Ranking, search: Search, all_int8: Score) -> _Trying:
    """Find the smallest accepted number of ops in fp32, taking acceptance to be monotone."""
    too_few, enough = 0, _all_fp32(start, ranking)
    failing = {0: all_int8}
    accepted: Score | None = None
    size = cliff = ranking.cliff(enough - 1) if enough > 1 else 0
    while too_few < size < enough:
        verdict = yield start.with_fp32(ranking.order[:size])
        if verdict.accepted:
            enough, accepted = size, verdict.score
        else:
            too_few, failing[size] = size, verdict.score
        if enough == size == cliff and _try_one_less(cliff, ranking):
            size = cliff - 1
        else:
            size = (too_few + enough) // 2
    if accepted is None or accepted.accuracy is None:
        return None
    drop = search.criterion.drop(accepted.accuracy, search.baseline)
    return _Found(enough, drop, _scale(failing, ranking, search))


def _try_one_less(cliff: int, ranking: Ranking) -> bool:
    """Whether one op less than an accepted cliff is the next to try.

    If the cliff is right, that ends the search. If not, bisection below it has to stay within the
    bound; and where the ranking has no cliff, only its middle, it is bisection at once.
    """
    below = cliff - 1
    most = (len(ranking.order) - 1).bit_length() + 1
    return below > 0 and ranking.is_steep(cliff) and 2 + (below - 1).bit_length() <= most


def _all_fp32(start: Recipe, ranking: Ranking) -> int:
    """Return the size that needs no trial: all in fp32 is the baseline, if really all can be."""
    count = len(ranking.order)
    return count if count == len(start.int8_ops) else count + 1


def _scale(failing: dict[int, Score], ranking: Ranking, search: Search) -> float:
    """Return the drop for a unit of damage, as the nearest probe that was not accepted showed it.

    0 where no such probe has an accuracy, or none a drop.
    """
    for size in sorted(failing, reverse=True):
        accuracy, damage = failing[size].accuracy, ranking.damage_after(size)
        if accuracy is not None and damage > 0:
            return max(0.0, search.criterion.drop(accuracy, search.baseline) / damage)
    return 0.0


def _give_back(
    start: Recipe, ranking: Ranking, search: Search, found: _Found
) -> Generator[Recipe, Verdict, None]:
    """Make those ops int8 again whose damage is predicted to fit into what the goal leaves.

    The last op of the prefix stays: without it the search just failed. Damages are taken to add up.
    Where ops dominate the ranking, and are needed, none fits and no trial is spent.
    """
    fp32 = ranking.order[: found.size]
    most = found.size
    for _ in range(GIVE_BACK_TRIALS):
        group = _fitting(ranking, search.criterion.goal, found)[:most]
        if not group:
            return
        returned = found.returned + group
        verdict = yield start.with_fp32(name for name in fp32 if name not in returned)
        if verdict.accepted and verdict.score.accuracy is not None:
            drop = search.criterion.drop(verdict.score.accuracy, search.baseline)
            found = replace(found, drop=drop, returned=returned)
        else:
            most = len(group) // 2


def _fitting(ranking: Ranking, goal: float, found: _Found) -> tuple[str, ...]:
    """Return the ops, least harmful first, that can be given back by the prediction."""
    damages = dict(zip(ranking.order, ranking.damages, strict=True))
    group: list[str] = []
    drop = found.drop
    for name in reversed(ranking.order[: found.size - 1]):
        if name in found.returned:
            continue
        drop += found.scale * damages[name]
        if found.scale == 0 or drop > goal:
            break
        group.append(name)
    return tuple(group)
