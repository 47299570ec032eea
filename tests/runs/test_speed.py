from __future__ import annotations

import pytest
from small_run import Agreement, net
from torch import nn

from lpot_lightning.module.stand_in import StandIn
from lpot_lightning.runs import speed
from lpot_lightning.runs.speed import measure_speedup
from lpot_lightning.timing import ratio
from lpot_lightning.timing.ratio import Ratio


@pytest.fixture(autouse=True)
def _timed_three_times(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ratio, "MOST", 3)
    monkeypatch.setattr(speed, "SETTLED", 0)


class Timed(Agreement):
    """Takes as long as it is told, and remembers whom it timed."""

    def __init__(self, model: nn.Module, seconds: list[float]) -> None:
        super().__init__(model)
        self.left, self.timed = list(seconds), []

    def step_seconds(self, model: nn.Module, runs: int = 1) -> list[float]:
        self.timed += [model.first.forward.__self__] * runs
        return [self.left.pop(0) for _ in range(runs)]


def test_the_ratio_is_the_median_of_those_of_the_pairs() -> None:
    model = net()
    runner = Timed(model, [4.0, 2.0, 1.0, 6.0, 100.0, 1.0])
    found = measure_speedup(runner, model, {"first": StandIn(nn.Linear(8, 32))})
    assert found == Ratio(6.0, (2.0, 100.0))


def test_fp32_and_int8_take_turns() -> None:
    model, int8 = net(), nn.Linear(8, 32)
    runner = Timed(model, [1.0] * 100)
    measure_speedup(runner, model, {"first": StandIn(int8)})
    assert [one is int8 for one in runner.timed] == [False, True, True, False, False, True]
    assert model.first.forward.__self__ is model.first


def test_graphs_compute_for_int8_alone() -> None:
    model, graph = net(), nn.Identity()
    runner = Timed(model, [1.0] * 100)
    measure_speedup(runner, model, {}, {"first": graph.forward})
    assert [one is graph for one in runner.timed[:4]] == [False, True, True, False]
    assert model.first.forward.__self__ is model.first


@pytest.mark.parametrize(("seconds", "steps"), [(0.001, 5), (0.15, 2), (1.0, 1)])
def test_int8_runs_until_it_is_as_fast_as_it_gets(monkeypatch, seconds, steps) -> None:
    monkeypatch.setattr(speed, "SETTLED", 5)
    model, int8 = net(), nn.Linear(8, 32)
    runner = Timed(model, [seconds] * 100)
    measure_speedup(runner, model, {"first": StandIn(int8)})
    assert [one is int8 for one in runner.timed] == [True] * steps + [False, True, True, False] + [
        False,
        True,
    ]
