"""Recipes that a sampler of Optuna draws, none twice."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from random import Random
from typing import TYPE_CHECKING

from lpot_lightning.recipe import FP32, OpConfig, Recipe
from lpot_lightning.tuning.score import Score

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.samplers import BaseSampler

Choices = Mapping[str, tuple[OpConfig, ...]]
"""What each op may be, by its name."""

ASKS = 3
"""How often the sampler may propose what was there before it is helped on."""


def search_sampled(
    start: Recipe,
    choices: Choices,
    make_sampler: Callable[[], BaseSampler],
    loss: Callable[[Recipe, Score], float],
    seed: int,
) -> Generator[Recipe, Score, None]:
    """Propose ``start``, then what the sampler draws, until all combinations were there.

    The recipe without any int8 op counts as having been there: it is the baseline.

    Args:
        start: the first recipe; its choices are among ``choices``.
        choices: what each op may be.
        make_sampler: called where Optuna is kept silent.
        loss: what the sampler is told of a recipe, less being better. A failed trial is told as
            infinity, which Optuna takes for the worst that it has seen.
        seed: for what is drawn here; the sampler has its own.
    """
    count = math.prod(map(len, choices.values())) - all(FP32 in one for one in choices.values())
    study = _Study(choices, make_sampler, Random(seed))
    recipe, seen = study.begin(start), set[str]()
    while True:
        seen.add(recipe.key)
        score = yield recipe
        if len(seen) >= count:
            return
        study.tell(math.inf if score.failed else loss(recipe, score))
        recipe = study.ask(seen)


class _Study:
    """One categorical parameter for each op that has a choice, and at most one open trial.

    Optuna is silent within its calls and as the user has it in between.
    """

    def __init__(
        self, choices: Choices, make_sampler: Callable[[], BaseSampler], draw: Random
    ) -> None:
        import optuna  # an extra, and slow to import

        self._choices, self._draw = choices, draw
        self._open: dict[str, BaseDistribution] = {
            name: optuna.distributions.CategoricalDistribution(range(len(configs)))
            for name, configs in choices.items()
            if len(configs) > 1
        }
        with _silent():
            self._study = optuna.create_study(sampler=make_sampler())

    def begin(self, start: Recipe) -> Recipe:
        """Make ``start`` the open trial."""
        chosen = start.as_mapping()
        return self._pose({name: self._choices[name].index(chosen[name]) for name in self._open})

    def ask(self, seen: set[str]) -> Recipe:
        """Open a trial of a recipe that is not ``seen`` and has an int8 op."""
        for _ in range(ASKS):
            recipe = self._pose()
            if _is_new(recipe, seen):
                return recipe
            self._discard()
        numbers = dict(self._trial.params)
        while not _is_new(self._recipe(numbers), seen):
            name = self._draw.choice(list(self._open))
            numbers[name] = self._draw.randrange(len(self._choices[name]))
        return self._pose(numbers)

    def tell(self, loss: float) -> None:
        """Close the trial."""
        with _silent():
            self._study.tell(self._trial, loss)

    def _pose(self, numbers: Mapping[str, int] | None = None) -> Recipe:
        """Open a trial of these choices, or of what the sampler draws."""
        with _silent():
            if numbers is not None:
                self._study.enqueue_trial(dict(numbers))
            self._trial = self._study.ask(self._open)
        return self._recipe(self._trial.params)

    def _discard(self) -> None:
        from optuna.trial import TrialState

        with _silent():
            self._study.tell(self._trial, state=TrialState.FAIL)

    def _recipe(self, numbers: Mapping[str, int]) -> Recipe:
        return Recipe.of({name: one[numbers.get(name, 0)] for name, one in self._choices.items()})


def _is_new(recipe: Recipe, seen: set[str]) -> bool:
    return bool(recipe.int8_ops) and recipe.key not in seen


@contextmanager
def _silent() -> Iterator[None]:
    from optuna import logging

    level = logging.get_verbosity()
    logging.set_verbosity(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(level)
