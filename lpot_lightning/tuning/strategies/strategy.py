"""What a strategy is, is given and is told."""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Sequence
from dataclasses import dataclass

from lpot_lightning.recipe import OpConfig, Recipe
from lpot_lightning.tuning.ladder import usual_share
from lpot_lightning.tuning.score import Criterion, Score
from lpot_lightning.tuning.sensitivity import Sensitivity
from lpot_lightning.tuning.space import Space


@dataclass(frozen=True, kw_only=True)
class SearchContext:
    """What a strategy may ask while it searches.

    Args:
        rank: how much each int8 op of a recipe hurts, in any order; measured only when called.
        criterion: when an accuracy is good enough.
        baseline: the accuracy of the fp32 model.
        seed: for strategies that draw.
        repair: the recipe with settings and corrections that cost no speed and lower the damage of
            its ops, found without a trial; the same recipe where nothing helps.
        cost: how expensive what a recipe leaves in fp32 is; measured only when called.
        share: how much of what an op costs in fp32 it costs as something else, from 0 to 1.
        none_pays: whether all ops are slower in int8: ``auto`` begins with weights alone in 8 bits.
        not_paying: ops that ``auto`` has in fp32 from the beginning: int8 is slower there.
        accuracy_weight: of accuracy, for ``tpe``.
        latency_weight: of latency, for ``tpe``.
    """

    rank: Callable[[Recipe], Sequence[Sensitivity]]
    criterion: Criterion
    baseline: float
    seed: int = 1978
    repair: Callable[[Recipe, Sequence[Sensitivity]], Recipe] = lambda recipe, _: recipe
    cost: Callable[[Recipe], float] = lambda recipe: len(recipe.fp32_ops)
    share: Callable[[str, OpConfig], float] = usual_share
    not_paying: Collection[str] = ()
    none_pays: bool = False
    accuracy_weight: float = 1.0
    latency_weight: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Strategy:
    """In which order recipes are tried.

    Args:
        name: as in ``tuning.strategy.name`` of the YAML.
        search: a generator function: it yields a ``Recipe`` and is sent its ``Score``.
        finishes: whether the search is bounded and ends by itself, so that the first success need
            not be its end.
        in_full: whether small differences between failing trials decide what comes next, so that
            no estimate will do and hopeless ones are judged in full, too.
        needs: packages of the extra ``optuna`` that it imports.

    Example::

        def only_all_int8(space, search):
            yield space.all_int8()

        strategy = Strategy(name="only_all_int8", search=only_all_int8, finishes=True)
    """

    name: str
    search: Callable[[Space, SearchContext], Generator[Recipe, Score, None]]
    finishes: bool = False
    in_full: bool = False
    needs: tuple[str, ...] = ()
