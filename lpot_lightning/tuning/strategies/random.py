"""LPOT's random: a drawn int8 setting for every op."""

from __future__ import annotations

from collections.abc import Generator
from math import prod
from random import Random

from lpot_lightning.recipe import Recipe
from lpot_lightning.tuning.score import Score
from lpot_lightning.tuning.space import Space
from lpot_lightning.tuning.strategies.steps import settings_of
from lpot_lightning.tuning.strategies.strategy import SearchContext


def search_random(space: Space, search: SearchContext) -> Generator[Recipe, Score, None]:
    """Draw an int8 setting for each op, independently, from ``SearchContext.seed`` on.

    As in ``lpot/strategy/random.py``, no op that can be int8 is tried in fp32. Unlike there the
    first recipe is that of the first settings, no combination is proposed twice, and when all were
    there it ends.

    Example::

        next(search_random(space, search)) == space.all_int8()  # True
    """
    draw = Random(search.seed)
    count = prod(len(settings_of(op)) for op in space.ops)
    recipe, seen = space.all_int8(), set[str]()
    while True:
        seen.add(recipe.key)
        yield recipe
        if len(seen) == count:
            return
        while recipe.key in seen:
            recipe = Recipe.of({op.name: draw.choice(settings_of(op)) for op in space.ops})
