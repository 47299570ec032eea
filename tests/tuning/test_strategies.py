"""What every strategy keeps: one contract, run by all."""

import random

import pytest
from made_up import FOUR, INT8, Damaged, linear, proposals, search_for, space_of, tuned, verdict

from lpot_lightning.errors import ConfError
from lpot_lightning.recipe import FP32, Op
from lpot_lightning.tuning.history import History
from lpot_lightning.tuning.score import Score
from lpot_lightning.tuning.space import Space
from lpot_lightning.tuning.strategies.table import STRATEGIES, find_strategy
from lpot_lightning.tuning.trial import Budget

MIXED = Space(
    (
        Op(name="conv.a", kind="Conv2d", configs=(*FOUR, FP32)),
        Op(name="conv.b", kind="Conv2d", configs=(*FOUR[:2], FP32)),
        linear("fc"),
        linear("stub", [INT8]),
        linear("gru", [FP32]),
    )
)

FALL_BACK = ("auto", "basic", "mse")
each_strategy = pytest.mark.parametrize("strategy", STRATEGIES.values(), ids=STRATEGIES)
some_seeds = pytest.mark.parametrize(
    "seeds", [range(5), pytest.param(range(5, 20), marks=pytest.mark.soak)], ids=["few", "more"]
)


def random_judge(seed):
    draw = random.Random(seed)
    return lambda _: verdict(draw.choice([None, draw.random()]), accepted=False)


@each_strategy
def test_it_begins_with_all_int8(strategy):
    assert next(strategy.search(MIXED, search_for())) == MIXED.all_int8()


@each_strategy
@some_seeds
def test_it_proposes_for_every_op_what_the_op_can_be(strategy, seeds):
    for seed in seeds:
        for recipe in proposals(strategy.search, MIXED, search_for(), random_judge(seed)):
            assert [name for name, _ in recipe.ops] == [op.name for op in MIXED.ops]
            assert all(recipe.as_mapping()[op.name] in op.configs for op in MIXED.ops)


@each_strategy
@some_seeds
def test_it_always_leaves_something_int8(strategy, seeds):
    space = space_of("abcde")
    for seed in seeds:
        for recipe in proposals(strategy.search, space, search_for(), random_judge(seed)):
            assert recipe.int8_ops


@each_strategy
def test_the_same_verdicts_give_the_same_proposals(strategy):
    once = proposals(strategy.search, MIXED, search_for(), random_judge(3))
    assert proposals(strategy.search, MIXED, search_for(), random_judge(3)) == once


@each_strategy
def test_it_ends_when_every_trial_fails(strategy):
    found = proposals(strategy.search, MIXED, search_for(), lambda _: verdict(None))
    assert 1 < len(found) < 50


@each_strategy
def test_it_can_be_closed_at_any_time(strategy):
    generator = strategy.search(MIXED, search_for())
    next(generator)
    generator.close()


@pytest.mark.parametrize("strategy", [STRATEGIES[name] for name in FALL_BACK], ids=FALL_BACK)
@pytest.mark.parametrize("higher", [True, False])
def test_it_finds_the_one_op_that_hurts(strategy, higher):
    damages = dict.fromkeys("abcdefgh", 0.0001) | {"e": 0.3}
    model = Damaged(damages, higher_is_better=higher)
    search = search_for(damages, higher_is_better=higher)
    outcome = tuned(strategy, space_of(damages), model, search)
    assert outcome.status == "met"
    assert outcome.best.recipe.fp32_ops == ("e",)


@each_strategy
@pytest.mark.parametrize("higher", [True, False])
def test_it_finds_the_setting_that_is_good_enough(strategy, higher):
    sign = 1 if higher else -1
    good = {name: FOUR[1] for name in "ab"}

    def judge(recipe):
        return Score.of(sign * (0.9 if recipe.as_mapping() == good else 0.5), seconds=1.0)

    space = Space((linear("a", FOUR), linear("b", FOUR)))
    search = search_for(baseline=sign * 0.9, higher_is_better=higher)
    outcome = tuned(strategy, space, judge, search)
    if strategy.name == "auto":  # tries first choices only
        assert outcome.status == "not_met"
    else:
        assert outcome.best.recipe.as_mapping() == good
        assert outcome.status == "met"


@each_strategy
def test_it_keeps_to_the_budget(strategy):
    outcome = tuned(strategy, MIXED, Damaged({}), search_for(baseline=2.0), budget=Budget(2))
    assert len(outcome.trials) == 2
    assert outcome.status == "budget_exhausted"


@each_strategy
def test_it_is_ended_by_the_time(strategy):
    now = iter(range(0, 1000, 4))
    given = {"budget": Budget(timeout=10), "now": lambda: float(next(now))}
    outcome = tuned(strategy, MIXED, Damaged(MIXED_DAMAGES), search_for(baseline=2.0), **given)
    assert 1 <= len(outcome.trials) <= 3
    assert outcome.status == "budget_exhausted"


@each_strategy
def test_a_time_that_is_left_is_no_reason_to_go_on_for_ever(strategy):
    """One that is good enough is kept, whatever is tried after it."""
    given = {"budget": Budget(timeout=1e9)}
    outcome = tuned(
        strategy, space_of("abc"), Damaged(dict.fromkeys("abc", 0.0)), search_for(), **given
    )
    assert outcome.status == "met"
    assert outcome.best.recipe.fp32_ops == ()


MIXED_DAMAGES = {"conv.a": 0.03, "conv.b": 0.001, "fc": 0.002, "stub": 0.01, "gru": 0.0}


@each_strategy
@pytest.mark.parametrize("baseline", [0.9, -0.9])
@pytest.mark.parametrize("higher", [True, False])
def test_the_best_of_what_was_tried_is_kept(strategy, higher, baseline):
    """Also where a metric is negative, and where nothing is good enough."""
    model = Damaged(MIXED_DAMAGES, baseline=baseline, higher_is_better=higher)
    search = search_for(
        MIXED_DAMAGES, goal=1e-6, relative=True, higher_is_better=higher, baseline=baseline
    )
    outcome = tuned(strategy, MIXED, model, search, budget=Budget(max_trials=12))
    sign = 1 if higher else -1
    assert outcome.best is not None
    found = [sign * trial.score.accuracy for trial in outcome.trials]
    assert sign * outcome.best.score.accuracy == max(found)
    assert max(found) < sign * baseline


@each_strategy
def test_it_meets_a_goal_of_a_negative_metric(strategy):
    model = Damaged(dict.fromkeys("abc", 0.001), baseline=-0.9)
    search = search_for(goal=0.01, relative=True, baseline=-0.9)
    assert tuned(strategy, space_of("abc"), model, search).status == "met"


@each_strategy
def test_where_every_trial_fails_there_is_no_best(strategy):
    failing = lambda recipe: Score.failing(f"no kernel for {recipe.key}", 1.0)  # noqa: E731
    outcome = tuned(strategy, MIXED, failing, search_for(), budget=Budget(max_trials=6))
    assert outcome.best is None
    assert 1 < len(outcome.trials) <= 6
    assert outcome.status in ("not_met", "budget_exhausted")


@each_strategy
def test_screened_trials_are_told_and_do_not_end_it(strategy):
    def screening(recipe):
        return Score.screening(0.3 + 0.001 * len(recipe.fp32_ops), 1.0, 0.1)

    judged = lambda recipe: Score.of(0.4, 1.0)  # noqa: E731
    given = {"budget": Budget(max_trials=6), "run_in_full": judged}
    outcome = tuned(strategy, MIXED, screening, search_for(), **given)
    assert [trial.score.screened for trial in outcome.trials].count(False) == 1
    assert outcome.best.score.accuracy == 0.4


@each_strategy
def test_what_an_earlier_run_tried_is_not_tried_again(strategy):
    history, seen = History(), []

    def judge(recipe):
        seen.append(recipe.key)
        return Score.of(0.1, seconds=1.0)

    for most in (2, 5):
        tuned(strategy, MIXED, judge, search_for(), budget=Budget(most), history=history)
    assert len(seen) == len(set(seen))


@each_strategy
def test_it_is_found_by_its_name(strategy):
    assert find_strategy(strategy.name) is strategy


def test_a_name_that_is_not_there_says_what_is():
    with pytest.raises(
        ConfError, match=r"is `basci`; allowed: `auto`, `basic`, .*Did you mean `ba"
    ):
        find_strategy("basci")
