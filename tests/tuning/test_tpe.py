"""TPE: int8 settings and fp32, by accuracy and speed."""

import dataclasses
import statistics

import optuna
import pytest
from made_up import FOUR, Damaged, linear, met, proposals, search_for, space_of, tuned, verdict

from lpot_lightning.recipe import FP32
from lpot_lightning.tuning.score import Score, TrialState
from lpot_lightning.tuning.space import Space
from lpot_lightning.tuning.strategies.sampled import search_sampled
from lpot_lightning.tuning.strategies.strategy import Strategy
from lpot_lightning.tuning.strategies.table import STRATEGIES
from lpot_lightning.tuning.strategies.tpe import TrialLoss
from lpot_lightning.tuning.trial import Budget

TPE = STRATEGIES["tpe"]
FRAGILE = {"a": 0.3, "c": 0.3, "f": 0.3}
SPACE = Space(tuple(linear(name, (*FOUR, FP32)) for name in "abcdefgh"))


def draw_blindly(space, search):
    """Draw from what ``tpe`` draws from."""
    choices = {op.name: op.configs for op in space.ops}
    return search_sampled(
        space.all_int8(),
        choices,
        lambda: optuna.samplers.RandomSampler(seed=search.seed),
        lambda *_: 0.0,
        search.seed,
    )


def cheapest(strategy, seed, **given):
    """Return the fewest ops in fp32 that 50 trials find where three ops cannot be int8."""
    search = dataclasses.replace(search_for(goal=0.05), seed=seed, **given)
    damages = dict.fromkeys("abcdefgh", 0.0001) | FRAGILE
    budget = Budget(max_trials=50, timeout=1)
    outcome = tuned(strategy, SPACE, Damaged(damages), search, budget=budget, now=lambda: 0.0)
    best = outcome.best
    return len(best.recipe.fp32_ops) if best.accepted else len(damages)


def test_it_finds_cheaper_recipes_than_blind_draws():
    blind = Strategy(name="blind", search=draw_blindly)
    assert statistics.median(cheapest(TPE, seed) for seed in range(9)) == 3
    assert statistics.median(cheapest(blind, seed) for seed in range(9)) > 3


def test_at_equal_accuracy_fewer_ops_in_fp32_are_preferred_by_their_weight():
    def late_fp32_ops(weight):
        search = dataclasses.replace(search_for(), latency_weight=weight)
        generator = TPE.search(SPACE, search)
        found = [next(generator)]
        found += [generator.send(verdict(0.9, accepted=True)) for _ in range(60)]
        return statistics.mean(len(recipe.fp32_ops) for recipe in found[-30:])

    assert late_fp32_ops(1.0) < 1 < 1.3 < late_fp32_ops(0.0)


def test_the_seed_decides_and_all_int8_comes_first():
    def drawn(seed):
        search = dataclasses.replace(search_for(), seed=seed)
        return proposals(TPE.search, space_of("abcd"), search, lambda _: verdict(0.1))

    assert drawn(1) == drawn(1)
    assert drawn(1)[:4] != drawn(2)[:4]
    assert drawn(1)[0] == drawn(2)[0] == space_of("abcd").all_int8()


def test_every_setting_and_fp32_come_up():
    found = proposals(TPE.search, Space(SPACE.ops[:2]), search_for(), lambda _: verdict(0.1))
    pairs = {tuple(config for _, config in recipe.ops) for recipe in found}
    wanted = {(a, b) for a in (*FOUR, FP32) for b in (*FOUR, FP32)} - {(FP32, FP32)}
    assert pairs == wanted


AB = space_of("ab")
INT8, ONE, BOTH = (AB.all_int8().with_fp32(names) for names in ("", "a", "ab"))


def told(accuracy, accepted=False, objective=None, screened=False):
    score = dataclasses.replace(Score.of(accuracy, 1.0), objective=objective)
    if screened:
        return dataclasses.replace(score, state=TrialState.SCREENED)
    return met(score) if accepted else score


def test_where_nothing_is_measured_fp32_is_taken_to_be_twice_as_slow():
    loss = TrialLoss(AB, search_for())
    met = told(0.9, accepted=True)
    assert loss(INT8, met) == 0.0
    assert loss(BOTH, met) == pytest.approx(10)
    assert loss(ONE, met) == pytest.approx(5.85, abs=0.01)  # 10 * log2(1.5)


def test_ops_count_by_their_cost():
    costs = {"a": 9.0, "b": 1.0}
    search = dataclasses.replace(
        search_for(), cost=lambda recipe: sum(costs[name] for name in recipe.fp32_ops)
    )
    met = told(0.9, accepted=True)
    loss = TrialLoss(AB, search)
    assert loss(ONE, met) > 9 > 2 > loss(AB.all_int8().with_fp32("b"), met) > 0


def test_cost_is_asked_for_only_where_a_trial_was_not_enough():
    def never(_):
        raise AssertionError("measured for nothing")

    search = dataclasses.replace(search_for(), cost=never)
    assert tuned(TPE, AB, Damaged({"a": 0, "b": 0}), search).status == "met"


def test_what_is_measured_counts_by_its_ratio_to_all_int8():
    loss = TrialLoss(AB, search_for())
    assert loss(INT8, told(0.9, True, objective=0.5)) == 0.0
    assert loss(ONE, told(0.9, True, objective=1.0)) == pytest.approx(10)
    assert loss(BOTH, told(0.9, True, objective=0.25)) == pytest.approx(-10)
    assert loss(BOTH, told(0.9, True)) == pytest.approx(10)  # this one was not


def test_without_a_measured_all_int8_there_is_no_ratio():
    loss = TrialLoss(AB, search_for())
    assert loss(BOTH, told(0.9, True, objective=70.0)) == pytest.approx(10)


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("higher", [True, False])
def test_a_percent_of_the_baseline_beyond_the_goal_weighs_ten_points(sign, higher):
    baseline = 2.0 * sign
    loss = TrialLoss(AB, search_for(goal=0.1, baseline=baseline, higher_is_better=higher))
    worse = -1 if higher else 1
    assert loss(INT8, told(baseline + worse * 0.1, accepted=True)) == 0.0
    assert loss(INT8, told(baseline + worse * 0.12)) == pytest.approx(80 + 10)
    assert loss(INT8, told(baseline + worse * 0.14)) == pytest.approx(80 + 20)
    assert loss(INT8, told(baseline - worse * 0.5, screened=True)) == pytest.approx(80)


def test_the_weights_weigh_their_parts():
    search = dataclasses.replace(search_for(goal=0.0), accuracy_weight=2.0, latency_weight=0.5)
    assert TrialLoss(AB, search)(BOTH, told(0.9 * 0.99)) == pytest.approx(80 + 2 * 10 + 0.5 * 10)


def test_a_baseline_of_zero_and_an_explosion_have_a_loss():
    loss = TrialLoss(AB, search_for(baseline=0.0, higher_is_better=False))
    assert loss(INT8, told(1e300)) > loss(INT8, told(1e200)) > 80


def test_ops_that_cannot_fall_back_have_no_cost_to_compare():
    space = Space((linear("a", FOUR), linear("f", [FP32])))
    assert TrialLoss(space, search_for())(space.all_int8(), told(0.9, accepted=True)) == 0.0
