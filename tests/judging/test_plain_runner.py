"""Models are shown plain batches, and judged by a function."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from lpot_lightning.data.batches import CollectedCalls, call_with
from lpot_lightning.errors import DataError, EvaluationError
from lpot_lightning.judging.plain_runner import PlainRunner
from lpot_lightning.judging.protocols import Monitor

ROWS = torch.arange(80.0).reshape(40, 2)


class Spy(nn.Module):
    """Remembers what it was shown, and how."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 1)
        self.seen: list[tuple[int, ...]] = []
        self.how: set[tuple[bool, ...]] = set()

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        self.seen.append(tuple(len(one) for one in (x, mask) if one is not None))
        modes = torch.is_grad_enabled(), torch.is_inference_mode_enabled(), self.training
        self.how.add(modes)
        return self.layer(x if mask is None else x * mask)


def held(*batches) -> CollectedCalls:
    return CollectedCalls(tuple(map(call_with, batches)), 40, "the loader")


def runner(eval_func=lambda model: 0.5, data: CollectedCalls | None = None, **given) -> PlainRunner:
    return PlainRunner(Spy, eval_func, data, seed=3, **given)


def shows(model: nn.Module) -> float:
    model(ROWS)
    model(ROWS[:7])
    return 0.5


@pytest.mark.parametrize(
    "value", [0.5, torch.tensor(0.5), torch.tensor([0.5]), np.float32(0.5), np.array(0.5)]
)
def test_an_accuracy_is_one_number(value) -> None:
    found = runner(lambda model: value).evaluate(Spy(), "baseline")
    assert (found.accuracy, found.batches) == (0.5, 1)
    assert found.step_seconds == found.seconds > 0


@pytest.mark.parametrize("value", [None, "0.5", True, {"accuracy": 0.5}, torch.ones(2), [0.5]])
def test_anything_else_is_told(value) -> None:
    with pytest.raises(EvaluationError, match=f"returned a `{type(value).__name__}`; allowed: one"):
        runner(lambda model: value).evaluate(Spy(), "baseline")


def test_a_function_that_fails_with_fp32_is_told_and_later_is_a_failed_trial() -> None:
    faults = [None, KeyError("later")]

    def eval_func(model: nn.Module) -> float:
        if fault := faults.pop(0):
            raise fault
        return 0.5

    one = runner(eval_func)
    one.evaluate(Spy(), "baseline")
    with pytest.raises(KeyError, match="later"):
        one.evaluate(Spy(), "int8 trial 1")
    faults[:] = [KeyError("at once")]
    with pytest.raises(EvaluationError, match=r"fails with the fp32 model \(KeyError: 'at once'\)"):
        runner(eval_func).evaluate(Spy(), "baseline")


def test_a_model_that_was_moved_is_told() -> None:
    with pytest.raises(EvaluationError, match=r"moved `layer\.weight` to `meta`; int8 runs on"):
        runner(lambda model: model.to("meta") and 0.5).evaluate(Spy(), "baseline")


def test_calibration_shows_all_batches_in_order_without_gradients() -> None:
    data = held((ROWS[:5], None), ((ROWS[:3], ROWS[:3]), None), {"x": ROWS[:4], "mask": ROWS[:4]})
    model = Spy().train()
    one = runner(data=data)
    one.calibrate(model)
    assert model.seen == [(5,), (3, 3), (4, 4)]
    assert model.how == {(False, False, False)}
    assert not model.training
    assert (one.batches, one.samples) == (data.calls, 40)


def test_a_model_is_tried_out_on_the_first_samples() -> None:
    model = Spy()
    assert runner(data=held(ROWS, ROWS)).try_out(model) is model
    assert model.seen == [(32,)]


def test_without_data_what_the_function_shows_takes_its_place() -> None:
    model = Spy()
    one = runner(shows)
    one.try_out(model)
    assert model.seen == [(40,), (7,)]
    assert not model._forward_pre_hooks
    one.calibrate(model)
    one.step_seconds(model)
    assert model.seen[2:] == [(40,), (40,)]
    assert one.batches == ()


def test_what_is_tried_out_need_not_be_judged_again() -> None:
    for data in (None, held(ROWS)):
        calls: list[nn.Module] = []
        one = runner(lambda model, calls=calls: float(len(calls.append(model) or calls)), data)
        model = one.try_out(Spy())
        assert [one.evaluate(model, "baseline").accuracy for _ in range(2)] == [1, 2]
        one.try_out(model)
        assert one.evaluate(Spy(), "int8 trial 1").accuracy == 4


def test_a_function_that_cannot_be_watched_is_judged_by_later() -> None:
    fail = [KeyError("watched"), None, KeyError("watched")]

    def eval_func(model: nn.Module) -> float:
        if fault := fail.pop(0):
            raise fault
        return 0.5

    one = runner(eval_func, held(ROWS))
    assert one.evaluate(one.try_out(Spy()), "baseline").accuracy == 0.5
    with pytest.raises(EvaluationError, match="watched"):
        runner(eval_func).try_out(Spy())


def test_where_the_model_itself_is_never_called_the_function_is_the_step() -> None:
    model = Spy()
    one = runner(lambda model: 0.5 if len(model.forward(ROWS)) else 0.0)
    one.try_out(model)
    one.calibrate(model)
    assert one.step_seconds(model)[0] > 0
    assert len(model.seen) == 3


def test_a_step_is_timed_on_the_first_batch() -> None:
    model = Spy()
    one = runner(data=held(ROWS, ROWS[:5]))
    assert one.evaluate(model, "baseline").step_seconds < 1
    assert set(model.seen) == {(40,)}
    assert model.how == {(False, False, False)}


def test_all_passes_draw_the_same_and_leave_the_rest_alone() -> None:
    drawn: list[float] = []

    def eval_func(model: nn.Module) -> float:
        drawn.append(float(torch.rand(1)) + np.random.rand())
        model.train()
        return 0.5

    one, model, before = runner(eval_func), Spy(), torch.get_rng_state()
    one.evaluate(model, "baseline")
    torch.rand(1)
    one.evaluate(model, "int8 trial 1")
    assert drawn[0] == drawn[1]
    assert not model.training
    torch.set_rng_state(before)
    one.evaluate(model, "int8 trial 2")
    assert torch.equal(torch.get_rng_state(), before)


def test_a_pass_that_fails_leaves_nothing_in_the_model() -> None:
    def eval_func(model: Spy) -> float:
        model.register_forward_hook(lambda *_: None)
        model(ROWS)
        raise KeyError

    model = Spy()
    with pytest.raises(EvaluationError):
        runner(eval_func).evaluate(model, "baseline")
    assert not model._forward_hooks
    assert model.seen == []


def test_the_watch_is_never_called() -> None:
    runner().evaluate(Spy(), "baseline", watch=pytest.fail)


@pytest.mark.parametrize("show", [PlainRunner.try_out, PlainRunner.calibrate])
def test_data_that_a_model_cannot_take_are_told(show) -> None:
    with pytest.raises(DataError, match=r"`Spy` cannot take a batch of the loader \(RuntimeError"):
        show(runner(data=held(torch.ones(3, 5))), Spy())


def test_the_direction_is_that_of_the_conf_and_the_model_is_new() -> None:
    for higher in (True, False):
        found = runner(higher_is_better=higher).evaluate(Spy(), "baseline")
        assert found.monitor == Monitor("accuracy", higher)
    assert isinstance(runner().fresh(), Spy)


class Grouping(Spy):
    """Takes a batch apart into groups of eight, five of them."""

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        return super().forward(x.view(5, 8, 2).flatten(0, 1), mask)


def test_a_batch_is_whole_where_its_first_samples_are_not_enough() -> None:
    feed = PlainRunner(Grouping, lambda model: 0.5, held(ROWS), seed=3)
    spoilt = Grouping()
    works = feed.try_out(spoilt)
    assert works is not spoilt
    assert works.seen == [(40,)]
    assert feed.try_out(works) is works


def test_one_that_the_model_does_not_take_as_a_whole_either_is_told() -> None:
    feed = PlainRunner(Grouping, lambda model: 0.5, held(ROWS[:39]), seed=3)
    with pytest.raises(DataError, match="`Grouping` cannot take a batch of the loader"):
        feed.try_out(Grouping())
