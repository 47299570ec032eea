"""What both of Optuna's samplers keep: all combinations once, silence, the user's world."""

import logging
import math
import random
import sys
import warnings

import numpy as np
import optuna
import pytest
import torch
from made_up import FOUR, INT8, linear, proposals, search_for, space_of, verdict

from lpot_lightning.errors import ConfError
from lpot_lightning.recipe import FP32
from lpot_lightning.tuning.space import Space
from lpot_lightning.tuning.strategies.sampled import search_sampled
from lpot_lightning.tuning.strategies.table import STRATEGIES, find_strategy

each_strategy = pytest.mark.parametrize("name", ["bayesian", "tpe"])
SPACE = Space((linear("a", FOUR), linear("b", FOUR)))


class Stubborn(optuna.samplers.BaseSampler):
    """Draws the first choice, always, and wants one open trial at a time."""

    def infer_relative_search_space(self, study, trial):
        assert len(study.get_trials(states=[optuna.trial.TrialState.RUNNING])) == 1
        return {}

    def sample_relative(self, study, trial, search_space):
        return {}

    def sample_independent(self, study, trial, param_name, param_distribution):
        return 0


def told_to(sampler, verdict_of):
    """Return what a sampler was told of the recipes of ``SPACE``, in their order."""
    told = []

    class Spy(sampler):
        def after_trial(self, study, trial, state, values):
            if values is not None:
                told.append(values[0])
            super().after_trial(study, trial, state, values)

    choices = {op.name: op.configs for op in SPACE.ops}

    def search(space, search):
        return search_sampled(space.all_int8(), choices, Spy, lambda _, score: score.accuracy, 1)

    return proposals(search, SPACE, search_for(), verdict_of), told


def test_a_sampler_that_repeats_itself_is_helped_on_to_every_combination():
    found, told = told_to(Stubborn, lambda _: verdict(0.5))
    assert len({recipe.key for recipe in found}) == len(found) == 16
    assert len(told) == 15


def test_what_fails_is_told_as_the_worst_and_an_estimate_as_it_is():
    verdicts = iter([verdict(0.3), verdict(None), verdict(0.1)] + [verdict(0.2)] * 13)
    _, told = told_to(optuna.samplers.RandomSampler, lambda _: next(verdicts))
    assert told[:4] == [0.3, math.inf, 0.1, 0.2]


def test_the_baseline_is_not_proposed_and_is_no_combination_that_is_missing():
    found = proposals(STRATEGIES["tpe"].search, space_of("abc"), search_for(), lambda _: verdict(1))
    assert len({recipe.key for recipe in found}) == len(found) == 7
    assert all(recipe.int8_ops for recipe in found)


@each_strategy
def test_one_combination_is_one_trial(name):
    space = Space((linear("a", [INT8]), linear("b", [FP32])))
    assert proposals(STRATEGIES[name].search, space, search_for(), lambda _: verdict(None)) == [
        space.all_int8()
    ]


@each_strategy
def test_it_goes_on_where_every_trial_fails(name):
    found = proposals(STRATEGIES[name].search, SPACE, search_for(), lambda _: verdict(None))
    assert len({recipe.key for recipe in found}) == len(found) == 16


@each_strategy
def test_a_large_model_starts_at_once(name):
    space = Space(tuple(linear(f"op{number}", (*FOUR, FP32)) for number in range(150)))
    generator = STRATEGIES[name].search(space, search_for())
    recipes = [next(generator), *(generator.send(verdict(0.1)) for _ in range(5))]
    assert len({recipe.key for recipe in recipes}) == 6


@pytest.fixture
def talkative():
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.DEBUG)
    yield
    optuna.logging.set_verbosity(before)


@pytest.mark.usefixtures("talkative")
@each_strategy
def test_optuna_is_silent_and_then_as_it_was(name, monkeypatch):
    levels, records = set(), []
    hearing = logging.Handler()
    hearing.emit = records.append
    monkeypatch.setattr(logging.getLogger("optuna"), "handlers", [hearing])

    def judge(_):
        levels.add(optuna.logging.get_verbosity())
        return verdict(0.5)

    filters = list(warnings.filters)
    proposals(STRATEGIES[name].search, SPACE, search_for(), judge)
    assert levels == {optuna.logging.DEBUG}
    assert optuna.logging.get_verbosity() == optuna.logging.DEBUG
    assert warnings.filters == filters
    assert records == []


@each_strategy
def test_the_users_dice_and_threads_are_untouched(name):
    def state():
        numpy = np.random.get_state()[1].tolist()
        return random.getstate(), numpy, torch.get_rng_state().tolist(), torch.get_num_threads()

    before = state()
    proposals(STRATEGIES[name].search, SPACE, search_for(), lambda _: verdict(0.5))
    assert state() == before


@each_strategy
def test_without_gradients_it_proposes_the_same(name):
    def found():
        return proposals(STRATEGIES[name].search, SPACE, search_for(), judged)

    def judged(recipe):
        return verdict(0.1 * sum(config == FOUR[1] for _, config in recipe.ops))

    with torch.no_grad():  # as in a validation loop
        once = found()
    assert found() == once


@pytest.mark.parametrize(
    ("name", "package"), [("bayesian", "optuna"), ("bayesian", "scipy"), ("tpe", "optuna")]
)
def test_what_is_not_installed_is_named(monkeypatch, name, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ConfError) as told:
        find_strategy(name)
    assert str(told.value) == (
        f"`tuning.strategy.name` is `{name}`, which needs `{package}`, and that is not installed: "
        "`pip install 'lpot-lightning[optuna]'`, or choose one that needs nothing more: `auto`, "
        "`basic`, `mse`, `random`, `exhaustive`"
    )
    assert find_strategy("auto").name == "auto"
