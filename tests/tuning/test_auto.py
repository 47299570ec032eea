"""Auto: how many trials, which ops, and nothing given back in vain."""

import math
import random
from dataclasses import replace

import pytest
from made_up import INT8, Damaged, int8, linear, proposals, search_for, space_of, tuned, verdict

from lpot_lightning.recipe import FP32
from lpot_lightning.tuning.score import Criterion, Score, TrialState
from lpot_lightning.tuning.sensitivity import Sensitivity
from lpot_lightning.tuning.space import Space
from lpot_lightning.tuning.strategies.auto import most_trials, search_auto
from lpot_lightning.tuning.strategies.strategy import SearchContext
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

    search = SearchContext(rank=never, criterion=search_for().criterion, baseline=0.9)
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


def test_a_planted_op_that_was_not_needed_is_found():
    model, outcome = run({**planted(), "net.014": 0.001}, ranked=planted())
    assert model.fp32_counts == [0, 4, 3, 2]
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


@pytest.mark.parametrize("seed", range(3))
def test_no_verdicts_make_it_longer_than_its_bound(seed):
    draw = random.Random(seed)
    for count in range(1, 201, 1 + seed):
        space, search, judge = at_random(count, draw)
        tried = proposals(search_auto, space, search, judge)
        assert len(tried) <= most_trials(count)
        assert all(recipe.int8_ops for recipe in tried)


def at_random(count, draw):
    """Return ops with a ranking that knows nothing, and verdicts by chance."""
    space = space_of(f"op{number}" for number in range(count))
    chance, spread = draw.random(), draw.choice([0.0, 1.0, 5.0])
    told = [
        Sensitivity(op, draw.lognormvariate(0, spread), draw.lognormvariate(0, 1))
        for op in space.all_int8().int8_ops
    ]

    def judge(recipe):
        accepted = bool(recipe.fp32_ops) and draw.random() < chance
        drop = draw.uniform(-0.01, 0.01) if accepted else 0.01 / draw.random()
        return verdict(draw.choice([None, 0.9 - drop]) if not accepted else 0.9 - drop, accepted)

    def repair(recipe, _):
        return recipe.with_configs({"op0": int8("sym")})

    return (
        space,
        SearchContext(
            rank=lambda _: told, criterion=search_for().criterion, baseline=0.9, repair=repair
        ),
        judge,
    )


def test_the_most_trials():
    assert [most_trials(ops) for ops in (1, 23, 150, 500)] == [6, 11, 14, 15]


@pytest.mark.parametrize("goal", [0.001, 0.01, 0.05, 0.1])
def test_the_smallest_number_of_ops_is_found_where_damages_add_up(goal):
    damages = smooth(40)
    needed = next(n for n in range(41) if sum(sorted(damages.values())[: 40 - n]) <= goal)
    model, outcome = run(damages, goal=goal)
    assert len(outcome.best.recipe.fp32_ops) == needed
    assert len(model.tried) <= 5


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


def test_ops_that_were_not_needed_are_given_back():
    true = dict.fromkeys("abcdefghijklmnop", 0.0001) | {"a": 0.3, "f": 0.05}
    ranked = dict.fromkeys("ghijklmnop", 0.001)
    ranked |= {"a": 60.0, "b": 1.6, "c": 1.5, "d": 1.4, "e": 1.3, "f": 1.2}
    _, outcome = run(true, ranked, goal=0.02)
    assert outcome.best.recipe.fp32_ops == ("a", "f")
    assert [len(one.recipe.fp32_ops) for one in outcome.trials if one.accepted] == [8, 6, 4, 2]


def test_nothing_is_given_back_without_an_accuracy_to_predict_from():
    space, search = space_of(OPS), search_for(planted())

    def judge(recipe):
        enough = len(recipe.fp32_ops) >= 4
        return verdict(0.9, True) if enough else verdict(None)

    counts = [len(recipe.fp32_ops) for recipe in proposals(search_auto, space, search, judge)]
    assert counts == [0, 11, 4, 3]


def test_a_dear_op_stays_int8_where_cheap_ones_are_enough():
    damages = {"dear": 0.02, **{f"cheap{number}": 0.01 for number in range(4)}}
    model = Damaged(damages)
    search = replace(
        search_for(goal=0.025),
        rank=lambda recipe: [
            Sensitivity(op, damages[op], 10.0 if op == "dear" else 1.0) for op in recipe.int8_ops
        ],
    )
    outcome = tuned(AUTO, space_of(damages), model, search)
    assert outcome.status == "met"
    assert "dear" in outcome.best.recipe.int8_ops


REPAIRED = space_of("abcd").all_int8().with_configs({"a": int8("sym")})


def repairing(accuracies, ranked_for, rank=None):
    """Return a search whose repair changes ``a``, and a judge of all int8 and of the repaired."""

    def ranked(recipe):
        ranked_for.append(recipe)
        return [Sensitivity(op, 1.0) for op in recipe.int8_ops]

    search = SearchContext(
        rank=rank or ranked,
        criterion=search_for().criterion,
        baseline=0.9,
        repair=lambda *_: REPAIRED,
    )

    def judge(recipe):
        if recipe.fp32_ops:
            return verdict(0.5)
        accuracy = accuracies[recipe == REPAIRED]
        return verdict(accuracy, accuracy is not None and accuracy >= 0.89)

    return search, judge


def test_a_repair_that_is_enough_ends_it():
    ranked_for = []
    search, judge = repairing((0.5, 0.89), ranked_for)
    tried = proposals(search_auto, space_of("abcd"), search, judge)
    assert tried == [space_of("abcd").all_int8(), REPAIRED]
    assert ranked_for == tried[:1]


@pytest.mark.parametrize("accuracies", [(0.5, 0.6), (None, 0.6)])
def test_it_goes_on_from_the_repaired_recipe_where_that_is_better(accuracies):
    ranked_for = []
    search, judge = repairing(accuracies, ranked_for)
    tried = proposals(search_auto, space_of("abcd"), search, judge)
    assert ranked_for == tried[:2]
    assert len(tried) > 2
    assert all(one == REPAIRED.with_fp32(one.fp32_ops) for one in tried[1:])


def test_what_is_predicted_goes_on_from_the_drop_of_the_repaired_recipe():
    space = space_of(f"op{number:03d}" for number in range(100))
    repaired = space.all_int8().with_configs({"op000": int8("sym")})
    search = replace(search_for(dict.fromkeys(repaired.int8_ops, 1.0)), repair=lambda *_: repaired)

    def judge(recipe):
        return verdict(0.88 if recipe == repaired else 0.1)  # half of that drop is allowed

    assert len(proposals(search_auto, space, search, judge)[2].fp32_ops) == 50


@pytest.mark.parametrize("accuracies", [(0.5, 0.4), (0.5, 0.5), (0.5, None), (None, None)])
def test_it_goes_on_from_all_int8_where_the_repair_is_no_better(accuracies):
    ranked_for = []
    search, judge = repairing(accuracies, ranked_for)
    tried = proposals(search_auto, space_of("abcd"), search, judge)
    assert ranked_for == tried[:1]
    assert len(tried) > 2
    assert all(one == tried[0].with_fp32(one.fp32_ops) for one in tried[2:])


def test_a_better_repair_is_a_lower_loss_where_lower_is_better():
    search, judge = repairing((0.5, 0.6), [])
    lower = replace(search, criterion=Criterion(0.01, relative=False, higher_is_better=False))
    tried = proposals(
        search_auto, space_of("abcd"), lower, lambda r: replace(judge(r), state=TrialState.JUDGED)
    )
    assert all(one == tried[0].with_fp32(one.fp32_ops) for one in tried[2:])


def test_a_repair_is_tried_where_no_op_may_fall_back():
    space = Space((linear("a", [INT8, int8("sym")]),))
    repair = {"a": int8("sym")}
    search = replace(search_for(), repair=lambda recipe, _: recipe.with_configs(repair))
    tried = proposals(search_auto, space, search, lambda _: verdict(0.1))
    assert [recipe.as_mapping() for recipe in tried] == [{"a": INT8}, repair]


def test_the_ranking_is_what_the_repair_is_told():
    told = []

    def repair(recipe, sensitivities):
        told.append((recipe, sensitivities))
        return recipe

    search = replace(search_for(planted()), repair=repair)
    proposals(search_auto, space_of(OPS), search, lambda _: verdict(0.1))
    assert [(recipe, list(found)) for recipe, found in told] == [
        (space_of(OPS).all_int8(), search.rank(space_of(OPS).all_int8()))
    ]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_an_op_that_cannot_be_measured_is_taken_for_the_most_harmful(value):
    ranked = {**dict.fromkeys(OPS, 0.001), "net.020": value}
    tried = proposals(search_auto, space_of(OPS), search_for(ranked), lambda _: verdict(0.1))
    assert all("net.020" in recipe.fp32_ops for recipe in tried[1:])


def test_the_order_of_the_ranking_s_answer_does_not_matter():
    backward = dict(reversed(planted().items()))
    assert run(planted())[1].trials == run(planted(), ranked=backward)[1].trials


TRAINED_OR = (int8("asym", "trained"), INT8, FP32)


def trained_space(names="ab"):
    return Space(tuple(linear(name, TRAINED_OR) for name in names))


@pytest.mark.parametrize(
    ("as_trained", "calibrated", "best"), [(0.895, 0.893, 0), (0.893, 0.895, 1), (0.5, 0.895, 1)]
)
def test_what_was_trained_and_what_calibration_makes_of_it_are_both_tried(
    as_trained, calibrated, best
):
    """And the better one of those that are good enough is taken."""
    space, accuracies = trained_space(), (as_trained, calibrated)
    outcome = tuned(
        AUTO,
        space,
        lambda recipe: Score.of(accuracies[recipe == space.calibrated()], 1.0),
        search_for(),
    )
    assert [one.recipe for one in outcome.trials] == [space.all_int8(), space.calibrated()]
    assert outcome.best == outcome.trials[best]


MENDED = int8("sym", "minmax")
FOUR = ("as_trained", "calibrated", "calibrated_and_repaired", "trained_and_repaired")


def after_a_training(*accuracies):
    """Return the names of what is tried in int8, and of what is chosen, or was the base of it."""
    space = trained_space("abc")
    trained, calibrated = space.all_int8(), space.calibrated()
    repaired = {
        calibrated: calibrated.with_configs({"a": MENDED}),
        trained: trained.with_configs({"b": MENDED}),
    }
    recipes = (trained, calibrated, *repaired.values())
    names = dict(zip(recipes, FOUR, strict=True))
    scores = dict(zip(recipes, accuracies, strict=False))
    search = replace(search_for({"c": 1.0}), repair=lambda recipe, _: repaired[recipe])
    outcome = tuned(AUTO, space, lambda recipe: Score.of(scores.get(recipe, 0.9), 1.0), search)
    tried = [names[one.recipe] for one in outcome.trials if one.recipe in names]
    bases = names | {
        recipe.with_fp32("c"): f"{name}, one op lost" for recipe, name in names.items()
    }
    return tried, bases[outcome.best.recipe]


@pytest.mark.parametrize(
    ("accuracies", "best"),
    [((0.893, 0.5, 0.899), 2), ((0.899, 0.5, 0.893), 0), ((0.9, 0.5, 0.6), 0)],
)
def test_a_training_that_is_good_enough_is_compared_with_repairs_that_need_none(accuracies, best):
    """And with nothing more: what loses ops is behind it."""
    assert after_a_training(*accuracies) == ([*FOUR[:3]], FOUR[best])


def test_where_repairs_without_a_training_are_good_enough_the_trained_rounding_needs_none():
    assert after_a_training(0.8, 0.7, 0.893) == ([*FOUR[:3]], FOUR[2])


def test_the_trained_rounding_is_repaired_where_nothing_else_helps():
    assert after_a_training(0.8, 0.7, 0.75, 0.893) == ([*FOUR], FOUR[3])


@pytest.mark.parametrize("base", range(4))
def test_the_search_goes_on_from_the_best_of_the_four(base):
    accuracies = [0.85 if number == base else 0.8 for number in range(4)]
    assert after_a_training(*accuracies) == ([*FOUR], f"{FOUR[base]}, one op lost")


def test_a_training_costs_two_trials_more_at_most():
    assert most_trials(11, trained=True) == most_trials(11) + 2


def test_ops_that_do_not_pay_are_fp32_from_the_start_and_stay_so():
    damages = planted()
    slow = ("net.000", "net.005")
    model = Damaged(damages)
    asked = replace(search_for(damages), not_paying=slow)
    outcome = tuned(AUTO, space_of(damages), model, asked)
    assert model.fp32_counts[0] == len(slow)
    assert all(set(slow) <= {*recipe.fp32_ops} for recipe in model.tried)
    assert set(outcome.best.recipe.fp32_ops) == {*slow, *PLANTED}


def test_what_may_not_be_fp32_stays_int8_though_it_does_not_pay():
    space = Space((linear("a"), linear("b", [INT8])))
    asked = replace(search_for(), not_paying=("b",))
    assert next(search_auto(space, asked)).fp32_ops == ()


def test_where_nothing_pays_all_are_int8():
    asked = replace(search_for(), not_paying=("a", "b"))
    assert next(search_auto(space_of("ab"), asked)) == space_of("ab").all_int8()


@pytest.mark.parametrize("name", [one for one in STRATEGIES if one != "auto"])
def test_no_other_strategy_asks_what_pays(name):
    if STRATEGIES[name].needs:
        pytest.importorskip("optuna")
    space, asked = space_of("abcd"), replace(search_for(), not_paying=("a",))
    plain = next(STRATEGIES[name].search(space, search_for()))
    assert next(STRATEGIES[name].search(space, asked)) == plain
