"""Two processes that train, calibrate and judge together."""

import json
import os
import signal
import subprocess
import sys
import time
import warnings
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest
import torch
import yaml
from lightning.pytorch.strategies import DDPStrategy
from lit_scenes import CENTRES, KINDS, Lit, conf, train_loader, trainer, val_loader
from users_world import kept
from warm_python import python

import lpot_lightning
from lpot_lightning import QuantizationCallback, quantize
from lpot_lightning.errors import QuantizationError
from lpot_lightning.runs import paying
from lpot_lightning.runs.paying import applies
from lpot_lightning.tuning.countdown import Countdown

MANY = {
    "strategy": {"name": "basic"},
    "accuracy_criterion": {"absolute": -1.0},
    "exit_policy": {"max_trials": 5},
}
WITH_GRAPHS = pytest.mark.usefixtures("with_graphs")
MINMAX = {"activation": {"algorithm": "minmax"}}


@pytest.fixture(autouse=True)
def _one_thread():
    """A forked process has none of the threads that torch would wait for."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class Watched(QuantizationCallback):
    """Checks the user's world around the run, in each process."""

    def on_fit_end(self, one, module):
        with kept(one, module):
            super().on_fit_end(one, module)


@pytest.fixture
def callback(workspace):
    return lambda **sections: Watched(conf(workspace, **sections))


def two(*callbacks, limit=20, start="fork", **given):
    """Return a Trainer whose fit runs in two processes of its own."""
    strategy = DDPStrategy(start_method=start, timeout=timedelta(seconds=limit))
    return trainer(*callbacks, strategy=strategy, devices=2, **{"max_epochs": 1, **given})


def fit(callback, module=None, one=None, **loaders):
    one = one or two(callback)
    one.fit(module or Lit(), train_loader(**loaders), val_loader(**loaders))
    return callback.result


def outputs(model):
    return model(CENTRES)


@pytest.mark.usefixtures("warm_processes", "with_graphs")
@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_the_result_comes_back_from_the_processes(callback, workspace, start):
    callback = callback()
    assert callback.result is None
    result = fit(callback, one=two(callback, start=start))
    assert (result.status, result.accuracy, result.baseline) == ("met", 1.0, 1.0)
    assert result.workspace == workspace
    assert len(result.trials) == 1
    assert result.trials[0].recipe.int8_ops == result.int8_ops == ("net.0", "net.2")
    assert "speed-up" in result.table()
    with pytest.raises(QuantizationError, match=r"restore it: `lpot_lightning.load\('"):
        _ = result.model
    files = workspace / "best_configure.yaml", workspace / "best_model_weights.pt"
    restored = lpot_lightning.load(*files, Lit())
    assert outputs(restored).argmax(1).tolist() == list(range(KINDS))


def scales(workspace):
    ops = yaml.safe_load((workspace / "best_configure.yaml").read_text())["op"]
    return {op: (one["activation"]["scale"], one.get("input")) for op, one in ops.items()}


def test_the_statistics_of_both_are_put_together(callback, tmp_path):
    found = []
    for number, one in enumerate((two, two, trainer)):
        asked = conf(tmp_path / str(number), quantization={"model_wise": MINMAX})
        if number == 0:  # a quarter of the data, split in two, is another range
            asked["quantization"]["calibration"] = {"sampling_size": 32}
        fit(quantization := QuantizationCallback(asked), one=one(quantization))
        assert quantization.result.accuracy == 1.0
        found.append(scales(tmp_path / str(number)))
    part, both, alone = found
    assert both == alone != part


def test_each_process_calibrates_on_its_share(callback, workspace):
    fit(callback(quantization={"calibration": {"sampling_size": 64}}))
    configure = yaml.safe_load((workspace / "best_configure.yaml").read_text())
    assert configure["calibration"]["samples"] == 64


class Uneven(Lit):
    """Logs the share of hits without telling the other process."""

    def validation_step(self, batch, batch_idx):
        hits = (self.net(batch[0]).argmax(1) == batch[1]).float().mean()
        self.log("val_acc", hits if self.global_rank == 0 else hits / 2)


class Hooked(Lit):
    def calib_dataloader(self):
        return train_loader(112, shuffle=False)


def test_a_loader_that_nobody_dealt_out_is_calibrated_on_once(callback, tmp_path):
    for number, one in enumerate((two, trainer)):
        asked = conf(tmp_path / str(number), quantization={"model_wise": MINMAX})
        fit(quantization := QuantizationCallback(asked), Hooked(), one(quantization))
    assert scales(tmp_path / "0") == scales(tmp_path / "1")


class Listening(QuantizationCallback):
    def on_fit_end(self, one, module):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            super().on_fit_end(one, module)
        said = [str(warning.message) for warning in caught]
        Path(f"{one.global_rank}.txt").write_text("\n".join(said))


def test_a_metric_that_is_not_synchronized_is_averaged_and_told(workspace):
    assert fit(Listening(conf(workspace)), Uneven()).baseline == 0.75
    told = "`val_acc` differs between the 2 processes, and their mean is taken"
    assert [Path(f"{rank}.txt").read_text().count(told) for rank in (0, 1)] == [1, 0]


class OnlyFirst(Lit):
    """Logs in the first process alone."""

    def validation_step(self, batch, batch_idx):
        hits = (self.net(batch[0]).argmax(1) == batch[1]).float().mean()
        if self.global_rank == 0:
            self.log("val_acc", hits, rank_zero_only=True)


def test_a_metric_of_the_first_process_alone_is_the_accuracy(callback):
    result = fit(callback(), OnlyFirst())
    assert (result.baseline, result.accuracy, result.monitor) == (1.0, 1.0, "val_acc")


class Synchronized(Lit):
    """Exchanges numbers itself, in every way that Lightning has."""

    def validation_step(self, batch, batch_idx):
        hits = (self.net(batch[0]).argmax(1) == batch[1]).float()
        assert self.all_gather(hits).shape == (2, len(hits))
        assert self.trainer.strategy.broadcast(self.global_rank) == 0
        assert self.trainer.world_size == 2
        self.trainer.strategy.barrier()
        self.log("val_acc", hits.mean() / (1 + self.global_rank), sync_dist=True)


@WITH_GRAPHS
@pytest.mark.filterwarnings("ignore:.*all_gather is deprecated:FutureWarning")
def test_code_that_exchanges_numbers_itself(callback):
    assert fit(callback(), Synchronized()).baseline == 0.75  # a mean of our own would warn


class Slow(Lit):
    def on_validation_epoch_end(self):
        if is_int8(self):
            time.sleep(1.0)


def is_int8(module):
    return any(name.endswith("lpot_int8.kernel") for name, _ in module.named_modules())


def test_tuning_takes_longer_than_processes_wait_for_each_other(callback):
    callback = callback(tuning=MANY)
    result = fit(callback, Slow(), two(callback, limit=2.4))
    assert sum(trial.score.seconds for trial in result.trials) > 2 * 2.4
    assert [trial.score.failure for trial in result.trials] == [None] * 5


class FailsOnce(Lit):
    """Fails in the second of two processes, at the second int8 model; the first waits for it."""

    def on_validation_epoch_start(self):
        if is_int8(self) and self.global_rank == 1:
            self.passes = Path("passes")
            self.passes.write_text(self.passes.read_text() + "x" if self.passes.exists() else "x")
            if self.passes.read_text() == "xx":
                raise MemoryError("no room")


def test_a_trial_that_fails_in_one_process_fails_in_both_and_the_next_one_runs(callback):
    result = fit(callback(tuning=MANY), FailsOnce())
    failures = [trial.score.failure for trial in result.trials]
    assert failures == [None, "RankError: process 1: MemoryError: no room", None, None, None]


class CannotBeTimed(Lit):
    """Raises in the second process, in the first step in int8."""

    def validation_step(self, batch, batch_idx):
        if is_int8(self) and self.global_rank == 1 and not Path("timed").exists():
            Path("timed").touch()
            raise MemoryError("no room")
        super().validation_step(batch, batch_idx)


def test_what_one_process_cannot_time_none_judges_by_time(callback, workspace, monkeypatch):
    monkeypatch.setattr(paying, "applies", applies)
    result = fit(callback(), CannotBeTimed())
    assert Path("timed").exists()
    assert [trial.score.failure for trial in result.trials] == [None]
    assert (result.op_times, result.not_paying) == ({}, {})


class NanInOne(Lit):
    """Logs no number in the second process where its first int8 model is judged."""

    def on_validation_epoch_start(self):
        self.number = 1.0
        if is_int8(self) and self.global_rank == 1 and not Path("judged").exists():
            Path("judged").touch()
            self.number = float("nan")

    def validation_step(self, batch, batch_idx):
        self.log("val_acc", self.number * (self.net(batch[0]).argmax(1) == batch[1]).float().mean())


def test_a_trial_that_is_nan_in_one_process_fails_in_both(callback):
    tuning = {**MANY, "accuracy_criterion": {"absolute": -1.0, "higher_is_better": True}}
    failures = [trial.score.failure for trial in fit(callback(tuning=tuning), NanInOne()).trials]
    assert failures[0] is not None
    assert failures[1:] == [None] * 4


def test_a_run_goes_on_where_two_processes_left_it(callback, workspace):
    tuning = {**MANY, "exit_policy": {"max_trials": 2}}
    fit(callback(tuning=tuning))
    first = history(workspace)
    result = fit(callback(tuning=MANY))
    assert [trial.replayed for trial in result.trials] == [True] * 2 + [False] * 3
    assert history(workspace)[:2] == first


class Guesses(Lit):
    """Guesses where it is int8, in both processes or in the ``only`` one."""

    only = None

    def validation_step(self, batch, batch_idx):
        logits = self.net(batch[0])
        if is_int8(self) and self.only in (None, self.global_rank):
            logits = logits.roll(1, 1)
        self.acc(logits, batch[1])
        self.log("val_acc", self.acc)


def tuned(workspace, module):
    """Try three recipes on 40 batches each, in two processes."""
    tuning = {"strategy": {"name": "random"}, "exit_policy": {"max_trials": 3}}
    quantization = Watched(conf(workspace, tuning=tuning))
    two(quantization).fit(module, train_loader(), val_loader(640, batch_size=8))
    return quantization.result


def test_a_hopeless_trial_ends_early_in_both(workspace):
    result = tuned(workspace, Guesses())
    assert [trial.score.screened for trial in result.trials] == [False, True, True]
    assert [trial.score.evaluations for trial in result.trials] == [1.125, 0.125, 0.125]
    assert result.baseline == 1.0
    assert result.accuracy < 0.1
    told = [line["score"]["screened"] for line in history(workspace)]
    assert told == [True, True, True, False]
    again = tuned(workspace, Guesses())
    assert all(trial.replayed for trial in again.trials)
    assert again.trials == result.trials


class OneGuesses(Guesses):
    """One of two guesses: that is a drop of a half, and hopeless; the other goes on to its end."""

    only = 1


def test_a_trial_that_is_hopeless_in_one_is_given_up_in_both(workspace):
    result = tuned(workspace, OneGuesses())
    assert [trial.score.screened for trial in result.trials] == [False, True, True]
    assert [trial.score.evaluations for trial in result.trials][1:] == [(5 + 40) / 80] * 2
    assert result.accuracy == pytest.approx(0.5, abs=0.05)


class Timed(Lit):
    """Moves a clock on by its int8 batches, twice as fast in the second process."""

    seconds = 0.0

    def validation_step(self, batch, batch_idx):
        super().validation_step(batch, batch_idx)
        if is_int8(self):
            Timed.seconds += 1.0 + self.global_rank
            with Path(f"{self.global_rank}.batches").open("a") as file:
                file.write("x")


def test_the_time_ends_a_trial_in_both(workspace, monkeypatch):
    clock = lambda: Timed.seconds  # noqa: E731
    monkeypatch.setattr("lpot_lightning.runs.quantize.monotonic", clock)
    monkeypatch.setattr(
        "lpot_lightning.judging.screened_judge.Countdown", partial(Countdown, clock)
    )
    tuning = {"strategy": {"name": "basic"}, "exit_policy": {"timeout": 60}}
    quantization = Watched(conf(workspace, tuning=tuning))
    two(quantization).fit(Timed(), train_loader(), val_loader(640, batch_size=8))
    assert len(quantization.result.trials) == len(history(workspace)) == 1
    seen = [len(Path(f"{rank}.batches").read_text()) for rank in (0, 1)]
    assert seen[0] - seen[1] == 20 - 10  # what the second trial had left after 40 each


def history(workspace):
    lines = map(json.loads, (workspace / "history.jsonl").read_text().splitlines())
    return [line for line in lines if line["kind"] == "trial"]


def test_what_one_process_refuses_both_refuse(callback, workspace):
    workspace.write_text("a file in the way")
    with pytest.raises(Exception, match="cannot write to the workspace") as told:
        fit(callback())
    assert "ArtifactError" in str(told.value)


class Drifts(Lit):
    """Has other running statistics in each process, as batch norms do."""

    def __init__(self):
        super().__init__()
        self.register_buffer("bias", torch.zeros(KINDS))

    def on_train_epoch_end(self):
        self.bias += 100 * self.global_rank * torch.eye(KINDS)[0]

    def validation_step(self, batch, batch_idx):
        self.acc(self.net(batch[0]) + self.bias, batch[1])
        self.log("val_acc", self.acc)


def test_all_judge_the_model_of_the_first(callback):
    assert fit(callback(), Drifts()).baseline == 1.0


def test_quantize_wants_the_model_back(workspace):
    with pytest.raises(QuantizationError, match="use `strategy='ddp'`, or one process"):
        quantize(two(), Lit(), train_loader(), val_loader(), conf=conf(workspace))
    assert not workspace.exists()


def test_a_distributed_strategy_in_one_process(workspace):
    one = trainer(strategy=DDPStrategy(), devices=1)
    assert quantize(one, Lit(), train_loader(), val_loader(), conf=conf(workspace)).status == "met"


SCRIPT = """
import sys
import time
sys.path.insert(0, {tests!r})
from lit_scenes import Lit, conf, train_loader, trainer, val_loader
from lpot_lightning import QuantizationCallback, quantize
from users_world import kept, watched

class Slow(Lit):
    def on_validation_epoch_end(self):
        time.sleep({pause})

if __name__ == "__main__":
    quantization = watched(QuantizationCallback(conf("fitted", tuning={tuning})))
    one = trainer(quantization, strategy="ddp", devices=2, max_epochs=1)
    model = Slow()
    one.fit(model, train_loader(), val_loader())
    with kept(one, model):
        again = quantize(one, model, train_loader(), val_loader(), conf=conf("again"))
    for result in (quantization.result, again):
        trainer().validate(result.model, val_loader(), verbose=False)
        replayed = sum(trial.replayed for trial in result.trials)
        print(f"rank {{one.global_rank}}: {{result.status}} {{result.accuracy}} {{replayed}}")
"""


@pytest.fixture
def script(tmp_path):
    """Return a writer of programs that train with DDP."""

    def write(pause=0.0, tuning=None, cold=False):
        path = tmp_path / "train.py"
        tests = str(Path(__file__).parents[1] / "scenes")
        path.write_text(SCRIPT.format(tests=tests, pause=pause, tuning=tuning or {}))
        return [sys.executable if cold else python(), path]

    return write


@pytest.mark.parametrize(
    "cold", [False, pytest.param(True, marks=pytest.mark.soak)], ids=["warm", "cold"]
)
def test_processes_that_run_the_same_script(script, tmp_path, cold):
    done = subprocess.run(script(cold=cold), capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    for rank in (0, 1):
        assert done.stdout.count(f"rank {rank}: met 1.0 0") == 2
    assert {path.name for path in (tmp_path / "again").iterdir()} >= {"best_quantized.ckpt"}


def test_a_signal_ends_all_processes_and_the_next_run_goes_on(script):
    command = script(pause=0.3, tuning=MANY)
    with subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as run:
        assert run.stderr is not None
        for line in run.stderr:
            if line.startswith("trial 2:"):
                os.killpg(run.pid, signal.SIGTERM)  # as a scheduler does
                break
        assert "interrupted: 2 finished trials and the best model so far" in run.stderr.read()
    assert run.returncode == 128 + signal.SIGTERM
    done = subprocess.run(script(tuning=MANY), capture_output=True, text=True, timeout=120)
    for rank in (0, 1):
        assert f"rank {rank}: budget_exhausted 1.0 2" in done.stdout, done.stderr


@pytest.mark.parametrize(
    "case",
    [
        "ptq.*trial.*hangs.*rank=1.*'ddp'",
        "pruning.*judging.*hangs.*rank=0.*ddp_fork",
        "ptq.*calibration.*killed.*rank=1.*'ddp'",
    ],
)
def test_one_that_does_not_come_ends_both_and_is_named(case):
    """What else may happen to a process is tried by `make chaos`."""
    ends_both(case)


@WITH_GRAPHS
@pytest.mark.parametrize(
    "case", ["export.*before.*hangs.*rank=1.*'ddp'", "export.*writing.*slow.*'ddp'"]
)
def test_also_where_files_are_exported(case):
    ends_both(case)


def ends_both(case):
    script = Path(__file__).parents[1] / "scenes/ranks_chaos.py"
    run = [python(), str(script), "--faults", "1", "--only", case]
    done = subprocess.run(run, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 rank faults, 0 hangs, 0 faults" in done.stdout
