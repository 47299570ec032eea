"""Steps that several of LPOT's strategies take."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import replace

from lpot_lightning.recipe import Op, OpConfig, Recipe
from lpot_lightning.tuning.score import Score
from lpot_lightning.tuning.space import Space
from lpot_lightning.tuning.strategies.combinations import uniform_first
from lpot_lightning.tuning.strategies.strategy import SearchContext

Best = tuple[Recipe, float | None]
"""A recipe and its accuracy, ``None`` where no trial gave one."""


def try_settings(space: Space, search: SearchContext) -> Generator[Recipe, Score, Best]:
    """Try one int8 setting for each kind of op, uniform ones first, and return the best."""
    best: Best = space.all_int8(), None
    for recipe in _settings(space):
        score = yield recipe
        accuracy = score.accuracy
        if accuracy is not None and _improves(accuracy, best[1], search):
            best = recipe, accuracy
    return best


def _settings(space: Space) -> Iterator[Recipe]:
    kinds = [kind for kind in space.kinds if space.int8_configs_of(kind)]
    for choices in uniform_first([_lpots(space.int8_configs_of(kind)) for kind in kinds]):
        wanted = dict(zip(kinds, choices, strict=True))
        yield _with_settings(space, wanted)


def _with_settings(space: Space, wanted: dict[str, OpConfig]) -> Recipe:
    """Give each op the setting of its kind, or its first choice where it does not have that one."""
    chosen: dict[str, OpConfig] = {}
    for op in space.ops:
        same = (config for config in op.configs if _is_setting(config, wanted.get(op.kind)))
        chosen[op.name] = next(same, op.configs[0])
    return Recipe.of(chosen)


def _is_setting(config: OpConfig, wanted: OpConfig | None) -> bool:
    """Whether ``config`` is ``wanted``, whatever is done to the weights before."""
    return wanted is not None and replace(config, corrections=()) == wanted


def settings_of(op: Op) -> tuple[OpConfig, ...]:
    """Return what ``op`` is tried as where nothing falls back: int8, or fp32 if it has no other."""
    return _lpots(op.int8_configs) or op.configs


def _lpots(configs: tuple[OpConfig, ...]) -> tuple[OpConfig, ...]:
    """Leave out what LPOT 1.x has not: ``percentile``, unless it is all that is asked for."""
    kept = tuple(one for one in configs if one.activation.algorithm != "percentile")
    return kept or configs


def fallback_names(base: Recipe, space: Space) -> tuple[str, ...]:
    """Return the ops that may be fp32 alone; a recipe without an int8 op is the baseline."""
    return tuple(name for name in space.fallback_candidates if base.with_fp32([name]).int8_ops)


def fall_back_greedily(
    base: Best, order: Sequence[str], search: SearchContext
) -> Generator[Recipe, Score, None]:
    """Try ops in fp32 one after another, each kept only if it strictly improves."""
    recipe, best = base
    for name in order:
        tried = recipe.with_fp32([name])
        if not tried.int8_ops:
            return
        score = yield tried
        accuracy = score.accuracy
        if accuracy is not None and _improves(accuracy, best, search):
            recipe, best = tried, accuracy


def fall_back_cumulatively(base: Recipe, order: Sequence[str]) -> Generator[Recipe, Score, None]:
    """Try ops in fp32 one after another, without taking any back."""
    recipe = base
    for name in order:
        recipe = recipe.with_fp32([name])
        if not recipe.int8_ops:
            return
        yield recipe


def _improves(accuracy: float, best: float | None, search: SearchContext) -> bool:
    return best is None or search.criterion.is_better(accuracy, best)
