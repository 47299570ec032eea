"""Under which conditions a run has come to its numbers."""

from dataclasses import replace

from report_scenes import ABOUT, facts, tuning

from lpot_lightning.report.facts import FileFacts
from lpot_lightning.report.surroundings import conditions_section, files_section


def test_seed_versions_and_machine_are_told():
    found = conditions_section(facts())
    for told in ("<dt>random seed</dt><dd>7</dd>", "<dt>torch</dt><dd>2.13.0</dd>", "1.00%"):
        assert told in found
    assert "timeout" not in found


def test_a_gain_that_was_asked_for_is_none_that_may_be_lost():
    found = conditions_section(facts(tuning(about=replace(ABOUT, goal=-0.02, relative=False))))
    assert "<dt>is to be won</dt><dd>0.0200 (absolute)</dd>" in found


def test_a_small_goal_is_not_shown_as_none():
    found = conditions_section(facts(tuning(about=replace(ABOUT, goal=0.00004))))
    assert "<dt>may be lost</dt><dd>0.0040% (relative)</dd>" in found


def test_a_run_of_an_earlier_version_says_nothing_of_it():
    assert conditions_section(facts(tuning(about=None))) is None


def test_files_have_a_size():
    assert "1.5 kB" in files_section([FileFacts("a", 1500, "it")], "ws")
    assert files_section([], "ws") is None
