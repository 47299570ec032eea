"""Auto: how many trials, which ops, and nothing given back in vain."""

import math
import random
from itertools import product

import pytest
from made_up import INT8, Damaged, linear, proposals, search_for, space_of, tuned, verdict

from lpot_lightning.tuning.score import Score
from lpot_lightning.tuning.space import Space
from lpot_lightning.tuning.strategies import auto
from lpot_lightning.tuning.strategies.auto import search_auto
from lpot_lightning.tuning.strategies.strategy import Search
from lpot_lightning.tuning.strategies.table import STRATEGIES

AUTO = STRATEGIES["auto"]
OPS = [f"net.{number:03d}" for number in range(23)]
PLANTED = {"net.005": 0.4, "net.006": 0.3, "net.013": 0.2, "net.014": 0.1}


def planted(rest=0.0001):
    return {name: PLANTED.get(name, rest) for name in OPS}


def smooth(count):
    return {f"op{number:04d}": 0.02 * 0.9**number for number in range(count)}


def run(damages, ranked=None, **asked):
    model = Damaged(damages, higher_is_better=asked.get("higher_is_better", True))
    outcome = tuned(AUTO, space_of(damages), model, search_for(ranked or damages, **asked))
    return model, outcome


def test_all_int8_that_is_good_enough_is_one_trial_and_no_ranking():
    def never(_):
        raise AssertionError("ranked")

    search = Search(never, search_for().criterion, 0.9)
    assert proposals(search_auto, space_of("ab"), search, lambda _: verdict(0.9, True)) == [
        space_of("ab").all_int8()
    ]


def test_four_planted_ops_take_three_trials_and_nothing_is_given_back():
    model, outcome = run(planted())
    assert model.fp32_counts == [0, 4, 3]
    assert set(outcome.best.recipe.fp32_ops) == set(PLANTED)
    assert outcome.status == "met"


def test_four_planted_ops_that_each_ruin_everything_take_no_more():
    def run_trial(recipe):
        ruined = set(PLANTED) & set(recipe.int8_ops)
        tried.append(len(recipe.fp32_ops))
        return Score.of(0.1 if ruined else 0.899, 1.0)

    tried = []
    tuned(AUTO, space_of(OPS), run_trial, search_for(planted()))
    assert tried == [0, 4, 3]


def test_a_planted_op_that_was_not_needed_is_found_by_bisection():
    model, outcome = run({**planted(), "net.014": 0.001}, ranked=planted())
    assert model.fp32_counts == [0, 4, 3, 1, 2]
    assert len(outcome.best.recipe.fp32_ops) == 3


def test_lower_is_better_takes_the_same_way():
    model, outcome = run(planted(), higher_is_better=False)
    assert model.fp32_counts == [0, 4, 3]
    assert outcome.status == "met"


def test_a_cliff_that_was_too_early_is_left_behind():
    model, outcome = run({**planted(), "net.020": 0.05}, ranked=planted())
    assert model.fp32_counts[:2] == [0, 4]
    assert outcome.status == "met"
    assert "net.020" in outcome.best.recipe.fp32_ops


def phase_one(space, search, verdict_of, monkeypatch):
    monkeypatch.setattr(auto, "GIVE_BACK_TRIALS", 0)
    return proposals(search_auto, space, search, verdict_of)[1:]


def bound(count):
    return math.ceil(math.log2(count)) + 1


@pytest.mark.parametrize("fixed", [[], ["fixed"]])
@pytest.mark.parametrize("count", range(1, 13))
def test_no_verdicts_make_it_longer_than_its_bound(count, fixed, monkeypatch):
    damages = smooth(count)
    space = Space((*space_of(damages).ops, *(linear(name, [INT8]) for name in fixed)))
    for cliff in range(1, count + 1):
        monkeypatch.setattr(auto.Ranking, "cliff", lambda _, last, at=cliff: min(at, last))
        for answers in product([True, False], repeat=bound(count)):
            told = iter([False, *answers])
            trials = phase_one(
                space, search_for(damages), lambda _, t=told: verdict(0.5, next(t)), monkeypatch
            )
            assert len(trials) <= bound(count)
            assert len({recipe.key for recipe in trials}) == len(trials)


def test_no_random_verdicts_make_it_longer_than_its_bound_for_many_ops(monkeypatch):
    draw = random.Random(7)
    for _ in range(150):
        damages = {
            f"op{number}": draw.lognormvariate(0, 2) for number in range(draw.randint(2, 500))
        }
        chance = draw.random()

        def judge(recipe, chance=chance):
            return verdict(0.5, bool(recipe.fp32_ops) and draw.random() < chance)

        trials = phase_one(space_of(damages), search_for(damages), judge, monkeypatch)
        assert len(trials) <= bound(len(damages))


def test_the_smallest_number_of_ops_is_found_where_damages_add_up():
    for goal in (0.001, 0.01, 0.05, 0.1):
        damages = smooth(60)
        needed = next(n for n in range(61) if sum(sorted(damages.values())[: 60 - n]) <= goal)
        model, outcome = run(damages, goal=goal)
        assert len(outcome.best.recipe.fp32_ops) == needed
        assert len(model.tried) <= 1 + bound(60)


def test_all_in_fp32_is_the_baseline_and_no_trial():
    model, outcome = run({"a": 0.5, "b": 0.5, "c": 0.5})
    assert model.fp32_counts == [0, 2]
    assert outcome.status == "not_met"


def test_all_candidates_in_fp32_are_a_trial_where_other_ops_stay_int8():
    space = Space((*space_of("ab").ops, linear("stub", [INT8])))
    model = Damaged({"a": 0.5, "b": 0.5, "stub": 0.0})
    outcome = tuned(AUTO, space, model, search_for(model.damages))
    assert outcome.status == "met"
    assert outcome.best.recipe.int8_ops == ("stub",)


def test_without_an_op_that_may_fall_back_it_ends():
    space = Space((linear("stub", [INT8]),))
    outcome = tuned(AUTO, space, Damaged({"stub": 0.5}), search_for())
    assert len(outcome.trials) == 1


def test_a_failed_trial_counts_as_not_accepted():
    def run_trial(recipe):
        return Score.failing("overflow", 1.0) if len(recipe.fp32_ops) < 3 else model(recipe)

    model = Damaged(planted())
    outcome = tuned(AUTO, space_of(OPS), run_trial, search_for(planted()))
    assert outcome.status == "met"
    assert set(outcome.best.recipe.fp32_ops) == set(PLANTED)


def misranked():
    """Return true damages and a ranking: of the six at its head only two are needed."""
    true = dict.fromkeys("abcdefghijklmnop", 0.0001) | {"a": 0.3, "f": 0.05}
    ranked = dict.fromkeys("ghijklmnop", 1.0)
    ranked |= {"a": 60.0, "b": 1.6, "c": 1.5, "d": 1.4, "e": 1.3, "f": 1.2}
    return true, ranked


def test_ops_that_were_not_needed_are_given_back():
    true, ranked = misranked()
    model, outcome = run(true, ranked, goal=0.02)
    before = min(t.number for t in outcome.trials if t.accepted)
    assert outcome.best.number > before
    assert {"a", "f"} <= set(outcome.best.recipe.fp32_ops)
    assert len(outcome.best.recipe.fp32_ops) < 6
    assert len(model.tried) <= 1 + bound(16) + 3


def test_what_is_given_back_in_vain_is_halved_and_ends_after_three():
    names = [f"op{number:02d}" for number in range(20)]
    ranked = dict.fromkeys(names, 1.0)

    def judge(recipe):
        fp32 = set(recipe.fp32_ops)
        prefix = fp32 == set(names[: len(fp32)])
        return verdict(0.9 if len(fp32) >= 10 else 0.885, prefix and len(fp32) >= 10)

    space, search = space_of(names), search_for(ranked, goal=0.0149)
    counts = [len(recipe.fp32_ops) for recipe in proposals(search_auto, space, search, judge)]
    assert counts == [0, 10, 5, 7, 8, 9, 1, 6, 8]


def test_the_prediction_is_made_from_the_nearest_probe_that_was_not_accepted():
    ranked = dict.fromkeys(OPS[:20], 1.0)
    drops = {0: 0.1, 5: 0.1, 7: 0.1, 8: 0.1, 9: 0.11}  # 11 ops int8 after 9: 0.01 an op

    def judge(recipe):
        size = len(recipe.fp32_ops)
        return verdict(0.9 - drops.get(size, 0.0), size >= 10)

    search = search_for(ranked, goal=0.0351)
    counts = [len(r.fp32_ops) for r in proposals(search_auto, space_of(ranked), search, judge)]
    assert counts[:7] == [0, 10, 5, 7, 8, 9, 7]


def test_nothing_is_given_back_without_an_accuracy_to_predict_from():
    space, search = space_of(OPS), search_for(planted())

    def judge(recipe):
        enough = len(recipe.fp32_ops) >= 4
        return verdict(0.9, True) if enough else verdict(None)

    counts = [len(recipe.fp32_ops) for recipe in proposals(search_auto, space, search, judge)]
    assert counts == [0, 4, 3]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_an_op_that_cannot_be_measured_is_taken_for_the_most_harmful(value):
    ranked = {**dict.fromkeys(OPS, 0.001), "net.020": value}
    tried = proposals(search_auto, space_of(OPS), search_for(ranked), lambda _: verdict(0.1))
    assert all("net.020" in recipe.fp32_ops for recipe in tried[1:])


def test_the_order_of_the_ranking_s_answer_does_not_matter():
    backward = dict(reversed(planted().items()))
    assert run(planted())[1].trials == run(planted(), ranked=backward)[1].trials
