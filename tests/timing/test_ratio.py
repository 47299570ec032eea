"""How many times as long, and how sure: with made-up times, so that no clock decides a test."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from lpot_lightning.timing import ratio
from lpot_lightning.timing.ratio import Ratio, as_speedup, compared, is_clear, spread_of


@pytest.fixture(autouse=True)
def _timed_as_for_users(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other tests time as briefly as can be."""
    monkeypatch.setattr(ratio, "WARM_UP", 1)
    monkeypatch.setattr(ratio, "MOST", 30)


class Machine:
    """Steps of two models on one machine, whose load is told by the number of the run."""

    def __init__(self, load: Callable[[int], float], speedup: float = 2.0) -> None:
        self._load, self.order, self._speedup = load, "", speedup

    def fp32(self, runs: int) -> list[float]:
        return [self._run("f", 0.01 * self._speedup) for _ in range(runs)]

    def int8(self, runs: int) -> list[float]:
        return [self._run("i", 0.01) for _ in range(runs)]

    def _run(self, who: str, seconds: float) -> float:
        self.order += who
        return seconds * self._load(len(self.order))


def test_a_constant_ratio_is_found_in_the_fewest_turns() -> None:
    machine = Machine(lambda run: 1.0)
    found = compared(machine.fp32, machine.int8)
    assert (found.middle, found.spread) == (2.0, (2.0, 2.0))
    assert len(machine.order) == 2 * (ratio.WARM_UP + ratio.ENOUGH)


def test_who_begins_changes() -> None:
    machine = Machine(lambda run: 1.0)
    compared(machine.fp32, machine.int8)
    assert machine.order[2:14] == "fffiiiiiifff"


def test_a_machine_that_grows_slower_makes_nobody_slower() -> None:
    machine = Machine(lambda run: 1.05**run, speedup=1.0)
    found = compared(machine.fp32, machine.int8)
    assert found.middle == pytest.approx(1.0, abs=0.06)
    assert not is_clear(found.spread)


def test_load_in_bursts_widens_the_spread_and_moves_no_claim() -> None:
    draw = random.Random(7)
    machine = Machine(lambda run: draw.choice([1.0, 1.5, 2.0, 4.0]))
    found = compared(machine.fp32, machine.int8)
    assert found.spread is not None
    assert found.spread[0] <= 2.0 <= found.spread[1]
    assert found.spread[1] > ratio.TIGHT * found.spread[0]
    assert len(machine.order) == 2 * (ratio.WARM_UP + ratio.MOST)


def test_the_spread_covers_the_truth_as_often_as_it_says() -> None:
    covered = 0
    for seed in range(200):
        draw = random.Random(seed)
        values = [draw.lognormvariate(0.0, 0.5) for _ in range(15)]
        low, high = spread_of(values) or (0.0, 0.0)
        covered += low <= 1.0 <= high
    assert covered >= 185


@pytest.mark.parametrize(
    ("count", "left_out"), [(3, 0), (5, 0), (6, 0), (8, 0), (9, 1), (11, 1), (12, 2), (31, 9)]
)
def test_the_spread_goes_by_the_binomial_law(count: int, left_out: int) -> None:
    assert spread_of(range(count)) == (left_out, count - 1 - left_out)


def test_two_pairs_tell_no_spread() -> None:
    assert spread_of([1.0, 2.0]) is None
    assert Ratio.of([2.0, 2.0], [1.0, 1.0]) == Ratio(2.0, None)


def test_slow_steps_are_run_a_few_times_only() -> None:
    machine = Machine(lambda run: 1000.0)
    compared(machine.fp32, machine.int8)
    assert machine.order[2 * ratio.WARM_UP :] == "fiiffi"


@pytest.mark.parametrize(
    ("spread", "shown"),
    [
        ((1.9, 2.1), "2.00x (1.90x to 2.10x)"),
        ((1.0, 2.1), "about as fast (1.00x to 2.10x)"),
        ((0.38, 3.33), "about as fast (0.38x to 3.33x)"),
        ((0.3, 0.5), "2.00x (0.30x to 0.50x)"),
        (None, "2.00x, how sure is not known"),
    ],
)
def test_nothing_is_claimed_where_the_spread_covers_one(
    spread: tuple[float, float] | None, shown: str
) -> None:
    assert as_speedup(2.0, spread) == shown
    assert str(Ratio(2.0, spread)) == shown
