"""Which trials are worth choosing among."""

from made_up import INT8

from lpot_lightning.recipe import Recipe
from lpot_lightning.tuning.pareto import pareto
from lpot_lightning.tuning.score import Criterion, Score, TrialState
from lpot_lightning.tuning.trial import Trial

RECIPE = Recipe.of({"a": INT8})


def trial(number, accuracy, objective, **asked):
    return Trial(
        number, RECIPE, Score(accuracy=accuracy, seconds=1.0, objective=objective, **asked)
    )


def numbers(trials, *, higher=True):
    criterion = Criterion(0.01, relative=True, higher_is_better=higher)
    return [one.number for one in pareto(trials, criterion)]


def test_what_another_beats_in_both_is_left_out():
    trials = [trial(1, 0.8, 1.0), trial(2, 0.7, 1.5), trial(3, 0.9, 2.0), trial(4, 0.9, 3.0)]
    assert numbers(trials) == [1, 3]


def test_where_lower_is_better_the_other_end_is_kept():
    trials = [trial(1, 0.8, 1.0), trial(2, 0.7, 1.5), trial(3, 0.9, 2.0)]
    assert numbers(trials, higher=False) == [1, 2]


def test_of_equal_ones_the_first_stays():
    assert numbers([trial(2, 0.8, 1.0), trial(1, 0.8, 1.0)]) == [1]


def test_what_was_not_judged_in_full_or_not_measured_is_no_choice():
    failed = Trial(3, RECIPE, Score.failing("it broke", 1.0))
    trials = [trial(1, 0.9, 1.0, state=TrialState.SCREENED), trial(2, 0.9, None), failed]
    assert numbers(trials) == []
