"""LPOT's exhaustive: every int8 setting of every op."""

from __future__ import annotations

from collections.abc import Generator
from itertools import product

from lpot_lightning.recipe import Recipe
from lpot_lightning.tuning.score import Score
from lpot_lightning.tuning.space import Space
from lpot_lightning.tuning.strategies.steps import settings_of
from lpot_lightning.tuning.strategies.strategy import SearchContext


def search_exhaustive(space: Space, search: SearchContext) -> Generator[Recipe, Score, None]:
    """Try all combinations of the int8 settings of the ops, the last op varying fastest.

    The order is that of ``lpot/strategy/exhaustive.py``. As there, no op that can be int8 is tried
    in fp32, and N ops with four settings have 4 ** N combinations: set ``max_trials`` or
    ``timeout``, and give ops apart with ``op_wise``.

    Example::

        next(search_exhaustive(space, search)) == space.all_int8()  # True
    """
    names = [op.name for op in space.ops]
    for chosen in product(*map(settings_of, space.ops)):
        yield Recipe.of(dict(zip(names, chosen, strict=True)))
