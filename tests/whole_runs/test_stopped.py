"""Ctrl-C and SIGTERM in each phase of a run without a Trainer."""

import contextlib
import multiprocessing
import os
import signal
import threading

import instance_scenes
import plain_scenes
import pytest
import torch
from plain_scenes import QAT, Judge, quantization
from torch import nn

from lpot_lightning import Benchmark, Pruning
from lpot_lightning.lpot import given
from lpot_lightning.machine.lock import WorkspaceLock
from lpot_lightning.runs import prune as pruning_run

BOTH = pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
TIMED = {
    "model": {"name": "small", "framework": "pytorch"},
    "evaluation": {"performance": {"warmup": 1, "iteration": 9}},
}


@pytest.fixture(autouse=True)
def _as_before(caplog):
    caplog.set_level("INFO")
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    yield
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


@pytest.fixture
def fp32():
    return plain_scenes.net()


def code_of(run, *given, **words) -> object:
    random = torch.get_rng_state()
    with pytest.raises(SystemExit) as ended:
        run(*given, **words)
    assert torch.equal(torch.get_rng_state(), random)
    return ended.value.code


def sent(number, times=3):
    """Return what sends a signal, and again while it ends."""
    return lambda *_, **__: [signal.raise_signal(number) for _ in range(times)]


def swallowed(*_):
    with contextlib.suppress(BaseException):
        signal.raise_signal(signal.SIGTERM)


def then_failing(*_):
    swallowed()
    raise RuntimeError("DataLoader worker exited")


def pruning(workspace, epochs=2):
    """Return one, and a `q_func` that prunes by its hooks."""
    model = {"name": "corners", "framework": "pytorch_fx"}
    weights = {"target_sparsity": 0.5, "end_epoch": 1, "pruners": [{}]}
    section = {"approach": {"weight_compression": weights}}
    tuning = {"workspace": {"path": str(workspace)}}
    made = Pruning({"model": model, "pruning": section, "tuning": tuning})

    def train(model: nn.Module) -> None:
        for epoch in range(epochs):
            made.on_epoch_begin(epoch)
            plain_scenes.train(model)
            made.on_batch_end()
            made.on_epoch_end()

    made.q_func, made.eval_func = train, plain_scenes.accuracy
    return made


@BOTH
def test_a_pruning_while_the_users_function_trains(fp32, workspace, caplog, number):
    one = pruning(workspace)
    one.q_func = sent(number)
    assert code_of(one, fp32) == 128 + number
    assert caplog.text.count("interrupted: ") == 1
    assert "nothing was trained to its end or written; go on with the same call" in caplog.text
    assert [path.name for path in workspace.iterdir()] == ["lock"]
    with WorkspaceLock(workspace):
        pass
    assert one.result is None


@BOTH
def test_while_the_dense_model_is_judged(fp32, workspace, caplog, number):
    one = pruning(workspace)
    one.eval_func = Judge(1, sent(number))
    assert code_of(one, fp32) == 128 + number
    assert "nothing was trained to its end" in caplog.text


@BOTH
def test_while_the_pruned_model_is_judged_its_weights_are_kept(fp32, workspace, caplog, number):
    one = pruning(workspace)
    one.eval_func = Judge(2, sent(number))
    assert code_of(one, fp32) == 128 + number
    path = workspace / "unjudged.pt"
    assert f"`model.load_state_dict(torch.load('{path}'))`; the same call" in caplog.text
    found = torch.load(path, weights_only=True)
    assert float((found["head.weight"] == 0).float().mean()) == 0.5
    fp32.load_state_dict(found)


@BOTH
def test_while_it_is_saved_it_is_saved_whole(fp32, workspace, caplog, number, monkeypatch):
    save = pruning_run.save_pruned

    def struck(*given):
        sent(number)()
        save(*given)

    monkeypatch.setattr(pruning_run, "save_pruned", struck)
    assert code_of(pruning(workspace), fp32) == 128 + number
    assert "the pruned model is judged (`accuracy` " in caplog.text
    assert {one.name for one in workspace.iterdir()} - {"lock"} == {
        "pruned_configure.yaml", "pruned_model_weights.pt", "pruning_result.json",
        "report.html",
    }  # fmt: skip


@pytest.mark.parametrize("strike", [swallowed, then_failing])
def test_a_signal_that_the_users_function_swallows_ends_it_too(fp32, workspace, strike):
    one = pruning(workspace)
    one.q_func = strike
    assert code_of(one, fp32) == 143


@BOTH
def test_a_training_for_int8_by_the_users_function(fp32, workspace, caplog, number):
    one = quantization(workspace, QAT)
    one.q_func = sent(number)
    assert code_of(one, fp32) == 128 + number
    said = "interrupted: no trial was finished; go on with the same call"
    assert caplog.text.count(said) == 1
    with WorkspaceLock(workspace):
        pass


@BOTH
def test_while_calibration_data_are_read(fp32, workspace, caplog, number, monkeypatch):
    monkeypatch.setattr(given, "collect", sent(number))
    assert code_of(quantization(workspace), fp32) == 128 + number
    assert caplog.text.count("interrupted: no trial was finished; go on with") == 1


@BOTH
def test_a_benchmark(caplog, number):
    judge = Judge(5, sent(number))
    assert code_of(Benchmark(TIMED), plain_scenes.net(), b_func=judge) == 128 + number
    assert judge.calls == 5
    assert caplog.text.count("interrupted: the benchmark is not finished, and nothing was") == 1


@pytest.mark.parametrize("strike", [swallowed, then_failing])
@pytest.mark.parametrize("call", [1, 5])
def test_a_benchmark_whose_function_swallows_it(strike, call):
    judge = Judge(call, strike)
    assert code_of(Benchmark(TIMED), plain_scenes.net(), b_func=judge) == 143
    assert judge.calls == call


def test_its_accuracy_alone():
    judge = Judge(1, sent(signal.SIGTERM))
    given = {"b_func": judge, "mode": "accuracy"}
    assert code_of(Benchmark(TIMED), plain_scenes.net(), **given) == 143


@BOTH
def test_its_processes_are_gone(number):
    timer = threading.Timer(1.0, os.kill, [os.getpid(), number])
    benchmark = Benchmark(instance_scenes.conf(2))
    timer.start()
    code = code_of(benchmark, instance_scenes.Small(), b_func=instance_scenes.sleep)
    assert code == 128 + number
    assert not multiprocessing.active_children()


def test_a_handler_of_the_user_decides():
    called = []
    before = signal.signal(signal.SIGTERM, lambda *_: called.append("mine"))
    try:
        judge = Judge(2, sent(signal.SIGTERM, times=1))
        assert Benchmark(TIMED)(plain_scenes.net(), b_func=judge).speed
    finally:
        signal.signal(signal.SIGTERM, before)
    assert called == ["mine"]


def test_in_another_thread_it_runs():
    found = []
    work = lambda: found.append(Benchmark(TIMED)(plain_scenes.net(), b_func=Judge()))  # noqa: E731
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found[0].speed
