"""What the page of the comparison says: words follow numbers."""

from __future__ import annotations

from dataclasses import replace

import page
import pytest
import verdicts
from compared import OUR_WAY, STATIC, made_up_row, table_of
from making import ORT, OV, TORCH
from rows import FP32, NOT_INSTALLED, Row
from ways import GOALS, WAYS


def matched(measure: str, *some: Row) -> tuple[str, verdicts.Match]:
    (found,) = (one for one in verdicts.measures() if one.name == measure)
    (match,) = found.matches(list(verdicts.lines(table_of(*some))))
    return match.outcome(found.even), match


@pytest.mark.parametrize(
    ("ours", "theirs", "said"), [(1.0, 1.2, "ahead"), (1.0, 1.04, "even"), (1.3, 1.0, "behind")]
)
def test_who_is_ahead_follows_the_numbers(ours: float, theirs: float, said: str) -> None:
    both = made_up_row(OUR_WAY, ORT, ms=ours), made_up_row(STATIC, ORT, ms=theirs)
    assert matched("ms at batch 1, fastest of all", *both)[0] == said
    assert matched("ms at batch 8, both in ONNX Runtime", *both)[0] == said


def test_what_misses_the_goal_takes_no_part() -> None:
    outcome, match = matched(
        "ms at batch 1, fastest of all",
        made_up_row(OUR_WAY, ORT, lost=0.02),
        made_up_row(STATIC, ORT, ms=9),
    )
    assert (outcome, match.who) == ("behind", f"{STATIC} in {ORT}")
    outcome, match = matched(
        "ms at batch 1, fastest of all",
        made_up_row(OUR_WAY, ORT, ms=9),
        made_up_row(STATIC, ORT, lost=0.02),
    )
    assert (outcome, match.who) == ("ahead", verdicts.NOBODY)


def test_a_loss_of_just_the_goal_meets_it() -> None:
    (line,) = verdicts.lines(table_of(made_up_row(OUR_WAY, ORT, lost=0.01)))
    assert line.meets(GOALS[0])
    assert not line.meets(GOALS[1])


def test_a_goal_is_compared_with_ways_of_that_goal() -> None:
    ours, nncf = (one.label for one in WAYS if one.goal == GOALS[1])
    some = made_up_row(ours, OV), made_up_row(nncf, OV), made_up_row(STATIC, ORT)
    assert matched("layers in float, goal 0.1 %", *some)[1].who == f"{nncf} in {OV}"


def test_the_page_tells_what_is_behind_and_by_how_much() -> None:
    told = page.page(table_of(made_up_row(OUR_WAY, ORT, ms=2), made_up_row(STATIC, ORT, ms=1)))
    assert f"ViT (2.00 ms; 1.00 ms, {STATIC} in {ORT})" in told
    swapped = page.page(table_of(made_up_row(OUR_WAY, ORT, ms=1), made_up_row(STATIC, ORT, ms=2)))
    assert "ViT (" not in swapped


def test_the_page_has_bold_losses_dashes_and_reasons() -> None:
    gone = made_up_row(STATIC, ORT, status=NOT_INSTALLED, reason="no `x`", forms=(), seconds={})
    told = page.page(table_of(made_up_row(OUR_WAY, ORT, lost=0.02), gone))
    assert "| **2.00 %** | 2.0 | 1 of 14 | 0.25 | 1.00 | 2.00 | 4.00 |" in told
    assert f"| {STATIC} | - | - |" in told
    assert f"- {STATIC} on ViT: not installed: no `x`" in told
    assert "- not run yet: " in told


def test_every_row_of_a_table_has_a_cell_for_each_head() -> None:
    every = [made_up_row(way.label, runtime) for way in WAYS for runtime in (TORCH,)]
    told = page.page(table_of(*every))
    tables = [line.count("|") for line in told.splitlines() if line.startswith("|")]
    assert len(tables) > 3 * len(WAYS)
    assert "- not run yet: " in told  # of the other nets


def test_the_fp32_time_of_a_runtime_is_that_of_the_row_that_has_timed_it() -> None:
    ours, static = made_up_row(OUR_WAY, ORT), made_up_row(STATIC, ORT)
    only_torch = {"1": {FP32 + TORCH: [0.004], ORT: [0.001]}}
    found = page.page(table_of(replace(ours, seconds=only_torch), static))
    (line,) = (one for one in found.splitlines() if one.startswith(f"| {OUR_WAY} | {ORT} | 0.00"))
    assert line.endswith("| 1.00 | 2.00 | 4.00 | - | 2.00 | - |")
    assert page.fp32_ms(1, OV, [ours, static]) is None


def test_what_was_not_run_is_named_shortly() -> None:
    found = page.page(table_of(made_up_row(OUR_WAY, ORT)))
    (line,) = (one for one in found.splitlines() if one.startswith("- not run yet: "))
    assert f"; ViT: {WAYS[1].label}, " in line
    assert line.endswith("; BERT; GRU")


def test_a_page_without_rows_says_so() -> None:
    assert "no rows yet" in page.page({})


def test_a_mean_of_speedups_is_geometric() -> None:
    assert page.mean_of_ratios([4.0, 1.0, None]) == "2.00"
    assert page.mean_of_ratios([None]) == page.NONE
