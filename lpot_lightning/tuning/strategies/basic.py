"""LPOT's basic: settings first, then op after op to fp32."""

from __future__ import annotations

from collections.abc import Generator
from functools import cmp_to_key

from lpot_lightning.recipe import Recipe
from lpot_lightning.tuning.score import Criterion, Score
from lpot_lightning.tuning.space import Space
from lpot_lightning.tuning.strategies.steps import (
    fall_back_cumulatively,
    fall_back_greedily,
    fallback_names,
    try_settings,
)
from lpot_lightning.tuning.strategies.strategy import SearchContext

_Ordering = Generator[Recipe, Score, list[str]]


def search_basic(space: Space, search: SearchContext) -> Generator[Recipe, Score, None]:
    """Try one int8 setting for each kind of op, then ops in fp32, in the order of LPOT 1.x.

    The order is that of ``lpot/strategy/basic.py``: (1) settings for the kinds, uniform ones first;
    (2) from the best of them, one op at a time in fp32, the last op first; (3a) ops in fp32 one
    after another, the one that helped most first, each kept only if it strictly improves; (3b) the
    same order without taking any back. Unlike there, better means what the criterion says, so that
    losses and negative metrics work; ops that cannot be fp32 are left out; and a recipe without any
    int8 op is not tried, being the baseline.

    Example::

        proposals = search_basic(space, search)
        recipe = next(proposals)
        recipe = proposals.send(score)
    """
    base = yield from try_settings(space, search)
    order = yield from _try_single_ops(base[0], fallback_names(base[0], space), search)
    yield from fall_back_greedily(base, order, search)
    yield from fall_back_cumulatively(base[0], order)


def _try_single_ops(base: Recipe, names: tuple[str, ...], search: SearchContext) -> _Ordering:
    """Return the ops in the order in which they helped; failed ones last."""
    found: dict[str, float | None] = {}
    for name in reversed(names):
        score = yield base.with_fp32([name])
        found[name] = score.accuracy

    def helped_more(a: str, b: str) -> int:
        return _compare(found[a], found[b], search.criterion)

    return sorted(found, key=cmp_to_key(helped_more))


def _compare(a: float | None, b: float | None, criterion: Criterion) -> int:
    if a is None or b is None:
        return (a is None) - (b is None)
    return int(criterion.is_better(b, a)) - int(criterion.is_better(a, b))
