"""The criterion, case by case."""

import dataclasses
import math

import pytest

from lpot_lightning.errors import ConfError
from lpot_lightning.tuning.score import Criterion, Score, TrialState

HIGHER, LOWER, RELATIVE, ABSOLUTE = True, False, True, False


@pytest.mark.parametrize(
    ("goal", "relative", "higher", "baseline", "accuracy", "accepted"),
    [
        (0.01, RELATIVE, HIGHER, 0.8, 0.792, True),  # the boundary itself
        (0.01, RELATIVE, HIGHER, 0.9, 0.9 * 0.99, True),  # the boundary, rounded
        (0.01, RELATIVE, HIGHER, 0.8, 0.7919, False),
        (0.01, RELATIVE, LOWER, 2.0, 2.02, True),  # the boundary, which LPOT refused
        (0.01, RELATIVE, LOWER, 2.0, 2.021, False),
        (0.01, RELATIVE, HIGHER, -1.0, -1.01, True),  # negative: LPOT demanded -0.99 here
        (0.01, RELATIVE, HIGHER, -1.0, -1.02, False),
        (0.01, RELATIVE, LOWER, -1.0, -0.99, True),
        (0.01, RELATIVE, LOWER, -1.0, -0.98, False),
        (-0.01, RELATIVE, HIGHER, 0.5, 0.504, False),  # an improvement is demanded
        (-0.01, RELATIVE, HIGHER, 0.5, 0.505, True),
        (0.1, ABSOLUTE, HIGHER, 0.3, 0.2, True),  # 0.3 - 0.1 is less than 0.2 in binary
        (0.1, ABSOLUTE, HIGHER, 0.8, 0.7, True),  # 0.8 - 0.1 is more than 0.7 in binary
        (0.1, ABSOLUTE, HIGHER, 0.3, 0.19, False),
        (0.1, ABSOLUTE, LOWER, 0.7, 0.8, True),
        (0.1, ABSOLUTE, LOWER, 0.7, 0.81, False),
        (0.1, ABSOLUTE, HIGHER, 0.0, -0.1, True),  # zero
        (0.0, ABSOLUTE, HIGHER, 0.0, 0.0, True),
        (0.0, RELATIVE, HIGHER, 0.9, 0.9, True),
        (5.0, ABSOLUTE, HIGHER, 76.1, 71.1, True),  # percent points, more than 1
        (-0.1, ABSOLUTE, LOWER, 0.7, 0.65, False),
        (0.1, ABSOLUTE, HIGHER, 0.3, math.nan, False),
        (0.1, ABSOLUTE, LOWER, 0.3, -math.inf, False),
    ],
)
def test_accepts(goal, relative, higher, baseline, accuracy, accepted):
    criterion = Criterion(goal, relative=relative, higher_is_better=higher)
    assert criterion.accepts(accuracy, baseline) is accepted


@pytest.mark.parametrize(
    ("relative", "higher", "baseline", "accuracy", "drop"),
    [
        (RELATIVE, HIGHER, 0.8, 0.6, 0.25),
        (RELATIVE, LOWER, 2.0, 2.5, 0.25),
        (RELATIVE, HIGHER, -2.0, -2.5, 0.25),
        (ABSOLUTE, HIGHER, 0.75, 0.5, 0.25),
        (ABSOLUTE, LOWER, 0.75, 0.5, -0.25),
        (ABSOLUTE, HIGHER, 0.0, 0.25, -0.25),
    ],
)
def test_a_drop_is_positive_where_it_is_worse(relative, higher, baseline, accuracy, drop):
    criterion = Criterion(0.01, relative=relative, higher_is_better=higher)
    assert criterion.drop(accuracy, baseline) == pytest.approx(drop)


def test_a_relative_goal_has_no_meaning_at_zero():
    criterion = Criterion(0.01, relative=True, higher_is_better=True)
    with pytest.raises(ConfError, match="baseline accuracy is 0; use `absolute`"):
        criterion.accepts(0.5, baseline=0.0)
    with pytest.raises(ConfError, match="use `absolute`"):
        criterion.drop(0.5, baseline=0.0)


@pytest.mark.parametrize("goal", [1.0, -1.0, 5.0])
def test_a_relative_goal_is_a_share(goal):
    with pytest.raises(ConfError, match=r"relative` is `.*more than -1 and less than 1.*0\.01"):
        Criterion(goal, relative=True, higher_is_better=True)


def test_a_goal_is_a_number():
    with pytest.raises(ConfError, match="absolute` is `nan`"):
        Criterion(math.nan, relative=False, higher_is_better=True)


def test_better_follows_the_direction():
    higher = Criterion(0.01, relative=True, higher_is_better=True)
    lower = Criterion(0.01, relative=True, higher_is_better=False)
    assert higher.is_better(0.9, 0.8)
    assert lower.is_better(-0.9, -0.8)
    assert not higher.is_better(0.9, 0.9)
    assert not lower.is_better(0.9, 0.9)


@pytest.mark.parametrize("accuracy", [math.nan, math.inf, -math.inf])
def test_an_accuracy_that_is_not_finite_is_a_failure(accuracy):
    score = Score.of(accuracy, seconds=2.0, evaluations=0.5)
    assert score.failed
    assert score.accuracy is None
    assert score.failure == f"the accuracy is `{accuracy}`"
    assert score.evaluations == 0.5


@pytest.mark.parametrize("state", TrialState)
@pytest.mark.parametrize(
    ("accuracy", "failure"), [(None, None), (math.nan, None), (0.9, "it broke")]
)
def test_a_score_is_an_accuracy_or_a_failure(accuracy, failure, state):
    with pytest.raises(ValueError, match="a finite accuracy or a failure"):
        Score(accuracy=accuracy, seconds=1.0, failure=failure, state=state)


@pytest.mark.parametrize("state", TrialState)
def test_a_state_is_that_of_an_accuracy_or_of_a_failure(state):
    failed = state is TrialState.FAILED
    given = {"accuracy": None, "failure": "it broke"} if failed else {"accuracy": 0.9}
    assert Score(**given, seconds=1.0, state=state).failed is failed
    other = {"accuracy": 0.9} if failed else {"accuracy": None, "failure": "it broke"}
    with pytest.raises(ValueError, match=f"of a trial that is `{state.value}`"):
        Score(**other, seconds=1.0, state=state)


ABOVE_HALF = Criterion(0.5, relative=False, higher_is_better=True)


@pytest.mark.parametrize(
    ("score", "state"),
    [
        (Score.of(0.6, 1.0), TrialState.MET),
        (Score.of(0.4, 1.0), TrialState.JUDGED),
        (Score.screening(0.6, 1.0, 0.1), TrialState.SCREENED),
        (Score.failing("it broke", 1.0), TrialState.FAILED),
    ],
)
def test_only_what_was_judged_in_full_can_meet_the_criterion(score, state):
    compared = score.compared(ABOVE_HALF, baseline=1.0)
    assert compared == dataclasses.replace(score, state=state)
    assert compared.accepted == (state is TrialState.MET)
    harder = Criterion(0.0, relative=False, higher_is_better=True)
    assert not compared.compared(harder, baseline=1.0).accepted


@pytest.mark.parametrize("state", TrialState)
def test_each_state_is_written_and_read(state):
    failed = state is TrialState.FAILED
    given = {"accuracy": None, "failure": "it broke"} if failed else {"accuracy": 0.9}
    score = Score(**given, seconds=1.0, evaluations=0.5, objective=2.0, state=state)
    plain = score.to_dict()
    assert list(plain) == [
        "accuracy", "seconds", "evaluations", "failure", "objective", "screened"
    ]  # fmt: skip
    assert Score.from_dict(plain, accepted=score.accepted) == score
    if not score.in_full:
        with pytest.raises(ValueError, match=f"a trial that is `{state.value}` cannot be accepted"):
            Score.from_dict(plain, accepted=True)


def test_an_accuracy_of_zero_is_an_accuracy():
    assert not Score.of(0.0, seconds=1.0).failed
