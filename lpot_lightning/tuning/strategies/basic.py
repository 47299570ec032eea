"""LPOT's basic: settings first, then op after op to fp32."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from functools import cmp_to_key

from lpot_lightning.recipe import OpConfig, Recipe
from lpot_lightning.tuning.score import Criterion
from lpot_lightning.tuning.space import Space
from lpot_lightning.tuning.strategies.combinations import uniform_first
from lpot_lightning.tuning.strategies.strategy import Search, Verdict

_Best = tuple[Recipe, float | None]
_Ordering = Generator[Recipe, Verdict, list[str]]


def search_basic(space: Space, search: Search) -> Generator[Recipe, Verdict, None]:
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
        recipe = proposals.send(Verdict(score, accepted=False))
    """
    base = yield from _try_settings(space, search)
    names = tuple(name for name in space.fallback_candidates if base[0].with_fp32([name]).int8_ops)
    order = yield from _try_single_ops(base[0], names, search)
    yield from _fall_back_greedily(base, order, search)
    yield from _fall_back_cumulatively(base[0], order)


def _try_settings(space: Space, search: Search) -> Generator[Recipe, Verdict, _Best]:
    best: _Best = space.all_int8(), None
    for recipe in _settings(space):
        verdict = yield recipe
        accuracy = verdict.score.accuracy
        if accuracy is not None and _improves(accuracy, best[1], search):
            best = recipe, accuracy
    return best


def _settings(space: Space) -> Iterator[Recipe]:
    kinds = [kind for kind in space.kinds if space.int8_configs_of(kind)]
    for choices in uniform_first([space.int8_configs_of(kind) for kind in kinds]):
        wanted = dict(zip(kinds, choices, strict=True))
        yield _with_settings(space, wanted)


def _with_settings(space: Space, wanted: dict[str, OpConfig]) -> Recipe:
    """Give each op the setting of its kind, or its first choice where it does not have that one."""
    chosen: dict[str, OpConfig] = {}
    for op in space.ops:
        config = wanted.get(op.kind, op.configs[0])
        chosen[op.name] = config if config in op.configs else op.configs[0]
    return Recipe.of(chosen)


def _try_single_ops(base: Recipe, names: tuple[str, ...], search: Search) -> _Ordering:
    """Return the ops in the order in which they helped; failed ones last."""
    found: dict[str, float | None] = {}
    for name in reversed(names):
        verdict = yield base.with_fp32([name])
        found[name] = verdict.score.accuracy

    def helped_more(a: str, b: str) -> int:
        return _compare(found[a], found[b], search.criterion)

    return sorted(found, key=cmp_to_key(helped_more))


def _fall_back_greedily(
    base: _Best, order: list[str], search: Search
) -> Generator[Recipe, Verdict, None]:
    recipe, best = base
    for name in order:
        tried = recipe.with_fp32([name])
        if not tried.int8_ops:
            return
        verdict = yield tried
        accuracy = verdict.score.accuracy
        if accuracy is not None and _improves(accuracy, best, search):
            recipe, best = tried, accuracy


def _fall_back_cumulatively(base: Recipe, order: list[str]) -> Generator[Recipe, Verdict, None]:
    recipe = base
    for name in order:
        recipe = recipe.with_fp32([name])
        if not recipe.int8_ops:
            return
        yield recipe


def _improves(accuracy: float, best: float | None, search: Search) -> bool:
    return best is None or search.criterion.is_better(accuracy, best)


def _compare(a: float | None, b: float | None, criterion: Criterion) -> int:
    if a is None or b is None:
        return (a is None) - (b is None)
    return int(criterion.is_better(b, a)) - int(criterion.is_better(a, b))
