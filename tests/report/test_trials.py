"""Trials: each is there, with what it came to."""

from dataclasses import replace

from report_scenes import large, trial, tuning

from lpot_lightning.recipe import OpConfig, TensorConfig
from lpot_lightning.report.trials import pareto_section, trials_section
from lpot_lightning.tuning.score import Criterion, Score
from lpot_lightning.tuning.trial import Trial

NAMES = ("a", "b")


def with_trials(*trials, **given):
    return tuning(trials=trials, best=None, **given)


def test_every_trial_has_a_mark_and_a_row():
    given_up = replace(trial(3, 0.9, NAMES), score=Score.screening(0.5, 1.0, 0.3))
    found = trials_section(
        with_trials(trial(1, 0.9, NAMES), trial(2, None, NAMES), given_up, trial(4, 0.94, NAMES))
    )
    for told in ("not met", "failed: no kernel", "given up after 30% of a pass", "≈ 0.5000"):
        assert told in found
    for look in ("mark dot missed", "mark cross failed", "mark diamond given-up", "mark dot met"):
        assert look in found


def test_the_goal_lies_below_the_baseline_and_above_it_where_lower_is_better():
    assert "goal 0.9306" in trials_section(tuning())
    lower = tuning(criterion=Criterion(0.1, relative=False, higher_is_better=False))
    found = trials_section(lower)
    assert "goal 1.0400" in found
    assert "Lower is better." in found


def test_trials_after_a_training_say_how_they_round():
    usual = trial(1, 0.94, NAMES)
    kl = next(iter(usual.recipe.as_mapping().values()))
    trained = replace(kl, activation=replace(kl.activation, algorithm="trained"))
    first = replace(usual, recipe=usual.recipe.with_configs({"a": trained}))
    found = trials_section(with_trials(first, trial(2, 0.9, NAMES)))
    assert "met; trained rounding" in found
    assert "not met; PTQ of the trained weights" in found
    assert "PTQ" not in trials_section(with_trials(usual))


def test_what_failed_may_say_anything():
    bad = Trial(1, trial(1, 0.9, NAMES).recipe, Score.failing("<script>" + "x" * 999, 0.1))
    found = trials_section(with_trials(bad))
    assert "<script>" not in found
    assert "x" * 500 not in found


def test_very_many_trials_are_small_dots():
    found = trials_section(large(ops=2, trials=400).tuning)
    assert found.count("<circle") == 400
    assert "<title>" not in found.replace("<title>trial 400 is taken</title>", "")


def test_without_a_trial_there_is_no_section():
    assert trials_section(with_trials()) is None


def test_a_choice_is_shown_where_there_is_one():
    assert "trial 2: val/acc 0.9350, 12.0 ms, 1 op fp32" in pareto_section(tuning())
    assert pareto_section(tuning(pareto=(2,))) is None
    assert pareto_section(with_trials(trial(1, 0.9, NAMES))) is None


def test_sizes_are_megabytes():
    sized = tuple(
        replace(one, score=replace(one.score, objective=2e6 * one.number))
        for one in tuning().trials
    )
    found = pareto_section(tuning(trials=sized, objective="modelsize"))
    assert "4 MB" in found
    assert "Further left is smaller" in found


def test_ops_in_half_precision_are_counted_where_there_are_any():
    half = OpConfig(TensorConfig(dtype="bf16"), TensorConfig(dtype="bf16"))
    one = trial(1, 0.9, NAMES)
    mixed = replace(one, recipe=one.recipe.with_configs({"a": half}))
    assert ">bf16<" in trials_section(with_trials(mixed))
    assert ">bf16<" not in trials_section(with_trials(one))
