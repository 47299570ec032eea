"""Ctrl-C and SIGTERM while a run tunes, and who may use its workspace meanwhile."""

import contextlib
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from lit_scenes import Lit, Points, conf, files_in, fitted, train_loader, trainer, val_loader
from users_world import kept
from warm_python import python

from lpot_lightning import load, quantize
from lpot_lightning.callbacks import tuned
from lpot_lightning.commands.benchmark import benchmark

BOTH = pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])


class Struck(Lit):
    """Something happens in a batch of each trial."""

    def strike(self):
        raise NotImplementedError

    def validation_step(self, batch, batch_idx):
        if batch_idx == 1 and any("quantized" in str(type(one)) for one in self.modules()):
            self.strike()
        super().validation_step(batch, batch_idx)


def struck(strike):
    module = Struck()
    vars(module)["strike"] = strike
    return module


def sent(number):
    return struck(lambda: signal.raise_signal(number))


def quantized(workspace, module):
    """Quantize, and check that the user's world is as before."""
    one = trainer()
    with kept(one, module):
        return quantize(one, module, train_loader(), val_loader(), conf=conf(workspace))


def code_of(run, *given) -> object:
    with pytest.raises(SystemExit) as ended:
        run(*given)
    return ended.value.code


def test_every_phase_in_processes_of_their_own():
    script = Path(__file__).parents[1] / "scenes/stops.py"
    run = [python(), str(script), "--stops", "3", "--seconds", "60"]
    done = subprocess.run(run, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr


@BOTH
def test_a_fit_ends_with_the_code_of_the_signal(callback, workspace, number, caplog):
    caplog.set_level("INFO")
    quantization = callback()
    assert code_of(fitted, quantization, sent(number)) == 128 + number
    assert quantization.watched == 1
    assert "interrupted: no trial was finished; go on with the same call of `fit`" in caplog.text
    assert files_in(workspace) == ["history.jsonl", "report.html"]
    fitted(quantization)
    assert quantization.result.status == "met"


@BOTH
def test_also_while_the_weights_are_looked_for(callback, number, caplog, monkeypatch):
    caplog.set_level("INFO")
    monkeypatch.setattr(tuned, "chosen_weights", lambda *_: signal.raise_signal(number))
    assert code_of(fitted, callback()) == 128 + number
    assert caplog.text.count("interrupted: no trial was finished; go on with") == 1


@BOTH
def test_so_does_benchmark(number, caplog):
    caplog.set_level("INFO")

    class Called(Lit):
        def forward(self, x):
            signal.raise_signal(number)

    asked = {**conf(), "evaluation": {"performance": {"warmup": 1, "iteration": 4}}}
    assert code_of(lambda: benchmark(trainer(), Called(), Points(), conf=asked)) == 128 + number
    assert caplog.text.count("interrupted: the benchmark is not finished, and nothing was") == 1
    assert "go on with the same call of `benchmark`" in caplog.text


@BOTH
def test_so_does_quantize(workspace, number, caplog):
    caplog.set_level("INFO")
    assert code_of(quantized, workspace, sent(number)) == 128 + number
    assert "go on with the same call of `quantize`" in caplog.text
    assert quantized(workspace, Lit()).status == "met"


def test_what_is_on_disk_is_told_and_loads(workspace, caplog):
    caplog.set_level("INFO")
    strikes = iter([lambda: None, lambda: signal.raise_signal(signal.SIGTERM)])
    module, tuning = struck(lambda: next(strikes)()), {"accuracy_criterion": {"absolute": -1.0}}
    asked = conf(workspace, tuning={**tuning, "strategy": {"name": "basic"}})
    data = train_loader(), val_loader()
    assert code_of(lambda: quantize(trainer(), module, *data, conf=asked)) == 143
    said = "1 finished trial and the best model so far (`val_acc` 1.0000, not met) are in `"
    assert said in caplog.text
    load(workspace / "best_configure.yaml", workspace / "best_model_weights.pt", Lit())


def test_a_signal_that_the_users_code_swallows_ends_the_run_too(callback):
    def swallow():
        with contextlib.suppress(BaseException):
            signal.raise_signal(signal.SIGTERM)

    assert code_of(fitted, callback(), struck(swallow)) == 143


def test_an_error_that_a_signal_caused_is_no_failed_trial(callback, workspace):
    def fail():
        with contextlib.suppress(BaseException):
            signal.raise_signal(signal.SIGINT)
        raise RuntimeError("DataLoader worker exited")

    assert code_of(fitted, callback(), struck(fail)) == 130
    assert '"trial"' not in (workspace / "history.jsonl").read_text()


def interrupt():
    raise KeyboardInterrupt


def test_a_keyboard_interrupt_that_is_no_signal_counts_as_one(callback, workspace):
    assert code_of(fitted, callback(), struck(interrupt)) == 130
    assert code_of(quantized, workspace, struck(interrupt)) == 130


def test_another_exit_keeps_its_code(callback, workspace):
    def leave():
        sys.exit(7)

    assert code_of(fitted, callback(), struck(leave)) == 7
    assert code_of(quantized, workspace, struck(leave)) == 7


@pytest.fixture
def own_handler():
    called = []
    before = signal.signal(signal.SIGTERM, lambda *_: called.append("mine"))
    yield called
    signal.signal(signal.SIGTERM, before)


def test_a_handler_of_the_user_is_called_and_decides(callback, own_handler):
    quantization = callback()
    fitted(quantization, sent(signal.SIGTERM))
    assert quantization.result.status == "met"
    assert own_handler == ["mine"]


def test_in_quantize_lightning_decides_to_end_and_the_code_is_right(workspace, own_handler):
    assert code_of(quantized, workspace, sent(signal.SIGTERM)) == 143
    assert own_handler == ["mine"]


def test_a_run_in_another_thread_works(workspace):
    found = []
    thread = threading.Thread(target=lambda: found.append(quantized(workspace, Lit())))
    thread.start()
    thread.join()
    assert found[0].status == "met"


def test_runs_at_the_same_time_have_a_workspace_each(callback, workspace):
    found = []

    class Trained(Lit):
        def on_fit_start(self):
            found.append(quantized(workspace, Lit()).workspace)

    quantization = callback()
    fitted(quantization, Trained())
    assert found == [workspace / "parallel" / "1"]
    assert quantization.result.workspace == workspace


def test_it_is_free_after_a_fit_and_after_a_failed_one(callback, workspace):
    def fail():
        raise OSError("in training")

    class Untrained(Lit):
        def on_train_start(self):
            fail()

    quantization = callback()
    with pytest.raises(OSError, match="in training"):
        fitted(quantization, Untrained(), max_epochs=1)
    assert quantized(workspace, Lit()).status == "met"
    fitted(quantization)
    assert quantized(workspace, Lit()).status == "met"


def test_runs_in_several_workspaces_do_not_meet(callback, tmp_path):
    class Trained(Lit):
        def on_fit_start(self):
            assert quantized(tmp_path / "other", Lit()).status == "met"

    fitted(callback(), Trained())
