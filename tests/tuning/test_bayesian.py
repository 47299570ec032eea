"""Bayesian: int8 settings, guided by accuracy alone."""

import dataclasses
import statistics

from made_up import FOUR, Damaged, int8, linear, proposals, search_for, tuned, verdict

from lpot_lightning.recipe import FP32
from lpot_lightning.tuning.score import Score
from lpot_lightning.tuning.space import Space
from lpot_lightning.tuning.strategies.table import STRATEGIES
from lpot_lightning.tuning.trial import Budget

BAYESIAN, RANDOM = STRATEGIES["bayesian"], STRATEGIES["random"]
GOOD = {"a": FOUR[2], "b": FOUR[1], "c": FOUR[3], "d": FOUR[2]}
SPACE = Space(tuple(linear(name, FOUR) for name in GOOD))


def trials_needed(strategy, seed, sign):
    """Return how many trials it takes to find the one good setting of each op."""

    def judge(recipe):
        wrong = sum(config != GOOD[name] for name, config in recipe.ops)
        return Score.of(sign * (0.9 - 0.05 * wrong), seconds=1.0)

    baseline, higher = 0.9 * sign, sign > 0
    search = search_for(baseline=baseline, higher_is_better=higher)
    search = dataclasses.replace(search, seed=seed)
    outcome = tuned(strategy, SPACE, judge, search, budget=Budget(max_trials=300))
    assert outcome.best.recipe.as_mapping() == GOOD
    return len(outcome.trials)


def test_it_finds_what_is_planted_in_a_fraction_of_randoms_trials():
    needed = {
        strategy.name: statistics.median(trials_needed(strategy, seed, sign=1) for seed in range(3))
        for strategy in (BAYESIAN, RANDOM)
    }
    assert needed["bayesian"] < needed["random"] / 3


def test_a_metric_of_which_less_is_better_is_as_good():
    assert trials_needed(BAYESIAN, 1, sign=-1) == trials_needed(BAYESIAN, 1, sign=1)


def test_it_tries_int8_settings_only_and_lpots_only():
    percentile = int8("asym", "percentile")
    space = Space((linear("a", (*FOUR[:3], percentile, FP32)), linear("f", [FP32])))
    found = proposals(BAYESIAN.search, space, search_for(), lambda _: verdict(0.1))
    assert {recipe.as_mapping()["a"] for recipe in found} == set(FOUR[:3])
    assert {recipe.fp32_ops for recipe in found} == {("f",)}


def test_a_first_choice_that_lpot_has_not_is_where_it_begins():
    percentile = int8("asym", "percentile")
    space = Space((linear("a", (percentile, *FOUR, FP32)),))
    found = proposals(BAYESIAN.search, space, search_for(), lambda _: verdict(0.1))
    assert found[0].as_mapping()["a"] == percentile
    assert len(found) == 5


def test_the_seed_decides_and_all_int8_comes_first():
    def drawn(seed):
        search = dataclasses.replace(search_for(), seed=seed)
        return proposals(BAYESIAN.search, space, search, lambda _: verdict(0.1))

    space = Space((linear("a", FOUR), linear("b", FOUR[:2])))
    assert drawn(1) == drawn(1) != drawn(2)
    assert drawn(1)[0] == drawn(2)[0] == space.all_int8()


def test_what_it_cannot_mend_is_not_met():
    outcome = tuned(
        BAYESIAN, Space((linear("a"), linear("b"))), Damaged({"a": 0.3, "b": 0.0}), search_for()
    )
    assert (outcome.status, len(outcome.trials)) == ("not_met", 1)
