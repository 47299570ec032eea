"""How sparse when."""

from __future__ import annotations

import pytest

from lpot_lightning.pruning.schedule import Schedule


def steps(initial, target, start, end, frequency=1, kind="linear", epochs=7):
    schedule = Schedule(
        initial_sparsity=initial,
        target_sparsity=target,
        start=start,
        end=end,
        update_frequency=frequency,
        kind=kind,
    )
    return [round(schedule.sparsity(epoch), 6) for epoch in range(epochs)]


def test_the_staircase_is_lpots():
    assert steps(0.0, 0.8, 1, 5) == [0, 0, 0.2, 0.4, 0.6, 0.8, 0.8]


def test_it_begins_with_the_initial_sparsity():
    assert steps(0.4, 0.8, 1, 3) == [0, 0.4, 0.6, 0.8, 0.8, 0.8, 0.8]


def test_a_step_lasts_its_epochs():
    assert steps(0.0, 0.8, 0, 4, 2) == [0, 0, 0.4, 0.4, 0.8, 0.8, 0.8]


@pytest.mark.parametrize("kind", ["linear", "cubic"])
@pytest.mark.parametrize("frequency", [1, 2, 3, 4, 7])
@pytest.mark.parametrize(("start", "end"), [(0, 0), (2, 2), (0, 3), (1, 5), (0, 6)])
def test_it_lands_on_the_target(kind, frequency, start, end):
    way = steps(0.1, 0.9, start, end, frequency, kind, epochs=end + 3)
    assert way[end:] == [0.9] * 3
    assert way[:start] == [0.0] * start
    assert way == sorted(way)


def test_start_equals_end_is_one_shot_at_the_target():  # LPOT stayed at the initial sparsity
    assert steps(0.0, 0.9, 1, 1, epochs=3) == [0.0, 0.9, 0.9]


def test_cubic_is_fast_at_first():
    way = steps(0.0, 0.8, 0, 4, kind="cubic", epochs=5)
    assert way == [0.0, 0.4625, 0.7, 0.7875, 0.8]


def test_the_target_may_be_all_or_nothing():
    assert steps(0.0, 1.0, 0, 2, epochs=3) == [0.0, 0.5, 1.0]
    assert steps(0.0, 0.0, 0, 2, epochs=3) == [0.0, 0.0, 0.0]
