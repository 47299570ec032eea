"""What was asked, whether it is met, and what to do, in words that are true."""

import re
from dataclasses import replace

import pytest
from report_scenes import ABOUT, facts, trial, tuning

from lpot_lightning.report.facts import RunState
from lpot_lightning.report.verdict import header
from lpot_lightning.timing.ratio import Ratio
from lpot_lightning.tuning.score import Criterion


def said(found):
    """Return a header as its text."""
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", header(found)))


def test_a_goal_that_is_met():
    text = said(facts())
    assert "Met int8 val/acc is 0.9350; fp32 is 0.9400: 0.53% worse, and 1.00% worse is allowed."
    assert " Met " in text
    assert "0.53% worse, and 1.00% worse is allowed." in text
    assert "1.96× 1.86× to 2.09×" in text
    assert "What to do next" not in text


def test_nothing_lost_and_a_gain_that_was_asked_for():
    assert "nothing lost, and 1.00% worse is allowed" in said(facts(tuning(accuracy=0.94)))
    better = tuning(accuracy=0.95, criterion=Criterion(-0.02, False, True))
    assert "0.0100 better, and 0.0200 better was asked for" in said(facts(better))


def test_a_goal_that_is_just_missed_has_the_digits_that_tell():
    text = said(facts(tuning(status="not_met", accuracy=0.930598)))
    assert "Not met" in text
    assert "1.0002% worse, and 1.0000% worse is allowed" in text
    small = tuning(accuracy=0.93999, criterion=Criterion(0.00005, True, True))
    assert "0.0011% worse, and 0.0050% worse is allowed" in said(facts(small))


def test_accuracies_that_differ_do_not_look_the_same():
    loss = tuning(accuracy=3.32164, baseline=3.32161, criterion=Criterion(0.0, False, False))
    text = said(facts(replace(loss, status="not_met")))
    assert "int8 val/acc is 3.32164; fp32 is 3.32161: 0.00003 worse" in text


def test_where_lower_is_better_worse_is_more():
    loss = tuning(accuracy=0.5, baseline=0.4, criterion=Criterion(0.05, False, False))
    assert "0.1000 worse, and 0.0500 worse is allowed" in said(facts(loss))


def test_a_goal_that_is_not_met_says_what_would_do():
    text = said(facts(tuning(status="not_met", accuracy=0.92)))
    assert "Not met" in text
    assert "QATCallback" in text
    assert "has lost 2.13%, so tuning.accuracy_criterion.relative: 0.022 accepts it" in text
    assert Criterion(0.022, True, True).accepts(0.92, 0.94)


def test_no_goal_is_advised_that_no_file_may_ask_for():
    lost = tuning(accuracy=0.9, baseline=0.4, criterion=Criterion(0.05, True, False))
    assert "accuracy_criterion" not in said(facts(replace(lost, status="not_met")))


def test_a_training_is_not_advised_to_train():
    trained = replace(ABOUT, approach="quant_aware_training")
    assert "QATCallback" not in said(facts(tuning(status="not_met", about=trained)))


def test_trials_that_ran_out_go_on():
    text = said(facts(tuning(status="budget_exhausted")))
    assert "Raise tuning.exit_policy.max_trials (20 now)" in text


@pytest.mark.parametrize(("spread", "is_told"), [((0.5, 0.9), True), ((0.9, 1.0), False)])
def test_a_slower_model_says_so(spread, is_told):
    found = facts(tuning(speed=Ratio(0.8, spread)))
    assert ("int8 is slower than fp32 here" in said(found)) is is_told


@pytest.mark.parametrize("objective", ["performance", "modelsize", "footprint"])
def test_what_was_asked_for_is_not_advised(objective):
    found = said(facts(tuning(speed=Ratio(0.8, (0.5, 0.9)), objective=objective)))
    assert ("tuning.objective: modelsize" in found) is (objective == "performance")


def test_a_run_that_goes_on_says_so():
    text = said(facts(tuning(status=None), state=RunState.GOING_ON))
    assert "Going on int8 val/acc is 0.9350 so far, after 2 trials" in text


def test_a_run_that_was_stopped_can_be_gone_on_with():
    text = said(facts(tuning(status=None), state=RunState.STOPPED))
    assert "Stopped" in text
    assert "it goes on after its last finished trial" in text


def test_a_run_that_failed_is_not_told_to_start_again():
    failed = tuning(accuracy=None, status=None, trials=(trial(1, None, ["net.head"]),), best=None)
    text = said(facts(failed, state=RunState.FAILED, notes=("The run ended in an error: so",)))
    assert "Failed No int8 model: 1 trial failed." in text
    assert "The run ended in an error: so" in text
    assert "No trial could be judged (no kernel): look at what" in text
    assert "it goes on" not in text
    assert "of 2 ops" not in text
    files = said(facts(failed, state=RunState.NOT_ENDED))
    assert "Not ended No int8 model yet: 1 trial failed." in files
    assert "it goes on" not in files


def test_a_run_that_an_error_ended_goes_on_when_that_is_mended():
    text = said(facts(tuning(status=None), state=RunState.FAILED))
    assert "Mend what the error says, and start the same run again" in text


def test_a_run_without_a_model_yet():
    found = tuning(accuracy=None, status=None, trials=(), best=None)
    assert "No int8 model yet: 0 trials over" in said(facts(found, state=RunState.GOING_ON))


def test_a_relative_goal_at_a_baseline_of_nothing_breaks_nothing():
    assert "how much may be lost is not known" in said(facts(tuning(baseline=0.0)))
