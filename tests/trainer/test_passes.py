"""How long the forward work of a step takes: with a clock that goes on when it is told."""

from __future__ import annotations

import warnings

import pytest
import torch
from lit_scenes import fitted
from torch import Tensor, nn
from torchmetrics.classification import MulticlassAccuracy

from lpot_lightning.trainer import passes
from lpot_lightning.trainer.passes import StopWatch


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(passes, "perf_counter", made)
    return made


class Slow(MulticlassAccuracy):
    """Takes a second for each update."""

    clock: Clock

    def update(self, preds: Tensor, target: Tensor) -> None:
        self.clock.now += 1.0
        super().update(preds, target)


class Logs(nn.Module):
    """Computes for two seconds, and logs for three more."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self.clock, self.metric = clock, Slow(3)
        Slow.clock = clock

    def log(self, *_: object) -> None:
        self.clock.now += 3.0

    def step(self) -> None:
        self.clock.now += 2.0
        self.metric(torch.randn(4, 3), torch.zeros(4, dtype=torch.long))
        self.log("acc", self.metric)


def seconds_of(model: Logs, watch: StopWatch) -> float:
    watch.start()
    model.step()
    watch.stop()
    return watch.median


def test_what_a_step_logs_is_no_forward_work(clock: Clock) -> None:
    model, watch = Logs(clock), StopWatch()
    with watch.only_forward(model):
        assert seconds_of(model, watch) == 2.0
    assert seconds_of(Logs(clock), StopWatch()) > 5.0


def test_a_model_is_as_it_was_afterwards(clock: Clock) -> None:
    model = Logs(clock)
    before = [dict(vars(one)) for one in model.modules()]
    with pytest.raises(ZeroDivisionError), StopWatch().only_forward(model):
        _ = 1 / 0
    assert [vars(one).keys() for one in model.modules()] == [one.keys() for one in before]
    assert vars(model.metric)["update"] is before[1]["update"]


def test_what_lightning_warns_of_in_each_pass_is_shown_once_a_run(callback, monkeypatch) -> None:
    def warning(*given: object) -> object:
        warnings.warn("a structure of loaders is read", FutureWarning, stacklevel=1)
        return own(*given)

    own = passes.held
    monkeypatch.setattr(passes, "held", warning)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fitted(callback())
    assert [str(one.message) for one in caught].count("a structure of loaders is read") == 1
