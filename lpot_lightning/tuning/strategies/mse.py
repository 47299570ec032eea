"""LPOT's mse: settings first, then ops to fp32 by the error they cause."""

from __future__ import annotations

from collections.abc import Generator

from lpot_lightning.recipe import Recipe
from lpot_lightning.tuning.score import Score
from lpot_lightning.tuning.space import Space
from lpot_lightning.tuning.strategies.ranking import Ranking
from lpot_lightning.tuning.strategies.steps import (
    fall_back_cumulatively,
    fall_back_greedily,
    fallback_names,
    try_settings,
)
from lpot_lightning.tuning.strategies.strategy import SearchContext


def search_mse(space: Space, search: SearchContext) -> Generator[Recipe, Score, None]:
    """Try one int8 setting for each kind of op, then ops in fp32, the most harmful first.

    The order is that of ``lpot/strategy/mse.py``, which took the way of ``basic`` without its
    trials of single ops: ops are ranked by the squared error that int8 makes. There it was that of
    each op's own activations, scaled to 0 … 1; here it is that of the output which the op alone
    causes. What is better, and what is left out, is as in ``basic``.

    Example::

        proposals = search_mse(space, search)
        recipe = next(proposals)
        recipe = proposals.send(score)
    """
    base = yield from try_settings(space, search)
    names = fallback_names(base[0], space)
    if not names:
        return
    order = Ranking.of(search.rank(base[0]), among=names).order
    yield from fall_back_greedily(base, order, search)
    yield from fall_back_cumulatively(base[0], order)
