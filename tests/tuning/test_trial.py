"""Which of two trials is the better choice."""

import pytest
from made_up import INT8, fewest_fp32

from lpot_lightning.recipe import FP32, Recipe
from lpot_lightning.tuning.score import Criterion, Score, TrialState
from lpot_lightning.tuning.trial import Trial

CRITERION = Criterion(0.01, relative=False, higher_is_better=True)
DEAR, CHEAP = Recipe.of({"a": FP32, "b": INT8}), Recipe.of({"a": INT8, "b": INT8})


def trial(recipe, accuracy, objective, *, accepted=True):
    state = TrialState.MET if accepted else TrialState.JUDGED
    return Trial(1, recipe, Score(accuracy=accuracy, seconds=1.0, objective=objective, state=state))


@pytest.mark.parametrize(
    ("dear", "cheap", "taken"),
    [
        (1.0, 0.8, True),  # clearly less of what the user wants least of
        (1.0, 1.2, False),  # clearly more, though with fewer ops in fp32
        (1.0, 0.95, True),  # alike: fewer ops in fp32
        (0.95, 1.0, True),
        (None, 0.1, True),
    ],
)
def test_among_accepted_ones_the_objective_decides_before_the_cost(dear, cheap, taken):
    first, second = trial(DEAR, 0.9, dear), trial(CHEAP, 0.9, cheap)
    assert second.beats(first, CRITERION, fewest_fp32) == taken


def test_among_others_the_accuracy_decides():
    first = trial(CHEAP, 0.7, 0.1, accepted=False)
    assert trial(DEAR, 0.8, 1.0, accepted=False).beats(first, CRITERION, fewest_fp32)


def test_what_was_ended_early_is_never_chosen():
    early = Trial(2, CHEAP, Score.screening(0.9, 1.0, 0.5))
    assert not early.beats(None, CRITERION, fewest_fp32)
