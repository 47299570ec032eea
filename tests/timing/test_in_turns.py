"""Turns, warm-up and what is put back, with a clock that is not the real one."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from torch import nn

from lpot_lightning.data.batches import Call
from lpot_lightning.errors import BenchmarkError, DataError
from lpot_lightning.timing.in_turns import Work, find, in_turns, threads


class Slow(nn.Linear):
    """Takes as long on the made-up clock as it is told to."""

    def __init__(self, clock: list[float], seconds: float) -> None:
        super().__init__(4, 2)
        self.clock, self.seconds, self.calls = clock, seconds, 0
        self.modes: list[tuple[bool, bool]] = []

    def forward(self, x):
        self.calls += 1
        self.modes.append((self.training, torch.is_grad_enabled()))
        self.clock[0] += self.seconds
        return super().forward(x)


@pytest.fixture
def clock(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("lpot_lightning.timing.in_turns.perf_counter", lambda: now[0])
    return now


def calls(*sizes):
    return tuple(Call((torch.ones(size, 4),), {}) for size in sizes)


def work(model, fp32=None, *, batches=(2,), func=None, warmup=1, iterations=3):
    return Work(
        model=model,
        fp32=fp32,
        calls=calls(*batches),
        func=func,
        warmup=warmup,
        iterations=iterations,
        seed=1,
    )


def test_what_is_timed_is_each_call_after_the_warm_up(clock):
    model = Slow(clock, 0.5)
    found = find(work(model, batches=(2, 3), warmup=2, iterations=3))
    assert found.timed[0].seconds == (0.5, 0.5, 0.5)
    assert found.timed[0].samples == (2, 3, 2)
    assert model.calls == 1 + 2 + 3  # one to see that it works


def test_two_models_take_turns_and_who_begins_changes():
    order = []
    steps = [lambda n, name=name: order.append(f"{name}{n}") or 1.0 for name in "ab"]
    assert in_turns(steps, 1, 3) == [[1.0] * 3] * 2
    assert order == ["a0", "b0", "a0", "b0", "b1", "a1", "a2", "b2"]


def test_all_processes_start_together_and_compare_together():
    gates = []
    in_turns([lambda n: 1.0], 2, 3, lambda: gates.append(1))
    assert len(gates) == 1
    in_turns([lambda n: 1.0] * 2, 2, 3, lambda: gates.append(1))
    assert len(gates) == 1 + 6


def test_models_are_in_eval_mode_without_gradients_and_as_before_afterwards(clock):
    model = nn.Sequential(Slow(clock, 1), nn.Dropout())
    model[1].eval()
    find(work(model))
    assert set(model[0].modes) == {(False, False)}
    assert [one.training for one in model.modules()] == [True, True, False]


def test_random_numbers_are_as_before(clock):
    model = Slow(clock, 1)
    before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
    find(work(model, func=lambda model: torch.rand(3) + random.random()))
    after = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
    assert before == after


def test_a_model_that_fails_in_the_middle_is_as_before(clock):
    model = Slow(clock, 1)
    model.train()

    def fail(module, args):
        if module.calls == 3:
            raise RuntimeError("enough")

    handle = model.register_forward_pre_hook(fail)
    with pytest.raises(RuntimeError, match="enough"):
        find(work(model))
    handle.remove()
    assert (model.training, model.calls, model.modes) == (True, 0, [])


def test_a_batch_that_the_model_cannot_take(clock):
    with pytest.raises(DataError) as caught:
        find(
            Work(
                model=Slow(clock, 1),
                fp32=None,
                calls=(Call((torch.ones(2, 5),), {}),),
                func=None,
                warmup=1,
                iterations=1,
                seed=1,
            )
        )
    assert str(caught.value).startswith("`Slow` cannot take a batch of the dataloader (RuntimeErr")
    assert "it is called with the input, a tuple of inputs one by one, a dict" in str(caught.value)


def test_a_function_is_timed_in_place_of_the_model(clock):
    model = Slow(clock, 0.25)

    def twice(model):
        model(torch.ones(3, 4))
        model(torch.ones(5, 4))
        return 0.75

    found = find(work(model, func=twice, warmup=0, iterations=2))
    assert found.timed[0].seconds == (0.5, 0.5)
    assert found.timed[0].samples == (8, 8)
    assert found.accuracies == (0.75,)
    assert not model._forward_pre_hooks


@pytest.mark.parametrize(
    ("returned", "accuracy"),
    [(None, None), ("0.5", None), (True, None), (1, 1.0), (torch.tensor([0.5]), 0.5)],
)
def test_a_number_that_the_function_returns_is_the_accuracy(clock, returned, accuracy):
    found = find(work(Slow(clock, 1), func=lambda model: returned, iterations=1))
    assert found.accuracies == (accuracy,)


def test_a_function_that_fails(clock):
    def fail(model):
        raise KeyError("labels")

    model = Slow(clock, 1)
    with pytest.raises(BenchmarkError) as caught:
        find(work(model, func=fail))
    assert str(caught.value) == (
        "`b_func` fails with `Slow` (KeyError: 'labels'); it is called with the model alone, in"
        " eval mode, and brings its own data"
    )
    assert not model._forward_pre_hooks


def test_threads_are_as_before_also_after_an_error():
    before = torch.get_num_threads()

    def fail():
        with threads(before + 1):
            raise KeyError(torch.get_num_threads())

    with pytest.raises(KeyError, match=str(before + 1)):
        fail()
    assert torch.get_num_threads() == before
    with threads(None):
        assert torch.get_num_threads() == before
