"""Signals and faults when what was trained is judged, cut or saved: it is not lost."""

import os
import re
import signal
from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch.plugins.environments import SLURMEnvironment
from lit_scenes import conf, files_in, points, same, train_loader, trainer, val_loader, weights_of
from qat_scenes import APPROACH
from sparse_scenes import (
    EPOCHS,
    Rolling,
    Seen,
    checkpoints,
    halved,
    pruned,
    pruning,
    pruning_conf,
    weights_at,
)
from torch.utils.data import DataLoader

import lpot_lightning
from lpot_lightning import BenchmarkCallback, QATCallback, QuantizationCallback, callbacks_from_conf
from lpot_lightning.callbacks import benchmark
from lpot_lightning.callbacks import pruning as callback_file
from lpot_lightning.errors import EvaluationError
from lpot_lightning.machine.lock import WorkspaceLock
from lpot_lightning.runs import channels
from lpot_lightning.runs import prune as pruning_run
from lpot_lightning.trainer import ending
from lpot_lightning.trainer.validation_judge import ValidationJudge

pytestmark = [
    pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty"),
    pytest.mark.filterwarnings("ignore:Be aware that when using `ckpt_path`, callbacks used"),
    pytest.mark.filterwarnings("ignore:The dirpath has changed from"),
]
BOTH = pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
CHANNELS = {"pattern": "channel"}
PHASES = {
    "choosing": (callback_file, "chosen_weights"),
    "cutting": (channels, "cut"),
    "timing": (channels, "compared"),
    "judging": (ValidationJudge, "evaluate"),
    "saving": (pruning_run, "save_pruned"),
}


@pytest.fixture
def strike(monkeypatch):
    """Return what lets a signal come, a few times, when a function is called."""

    def set_up(owner, name, number=signal.SIGTERM, times=1, call=1):
        work, calls = getattr(owner, name), []

        def struck(*given, **words):
            calls.append(name)
            if len(calls) == call:
                for _ in range(times):
                    signal.raise_signal(number)
            return work(*given, **words)

        monkeypatch.setattr(owner, name, struck)

    return set_up


def code_of(run, *given, **words) -> object:
    with pytest.raises(SystemExit) as ended:
        run(*given, **words)
    return ended.value.code


def path_in(text):
    (path,) = re.findall(r"go on with `fit\(ckpt_path='(.*)'\)`", text)
    return path


def resumed(workspace, path, *pruners):
    """Go on from ``path``: nothing is trained, and it is judged."""
    seen, again = Seen(), pruning(workspace, *pruners, tuning=LOOSE)
    pruned(again, None, seen, ckpt_path=path)
    assert not seen.batches
    return again.result


def qat_conf(workspace):
    return conf(workspace, quantization={"approach": "quant_aware_training"})


BASELINE = {pruning_conf: {"baseline": 1.0}, conf: {}, qat_conf: {"baseline": 1.0}}
LOOSE = {"accuracy_criterion": {"absolute": 0.9}}


@BOTH
@pytest.mark.parametrize("phase", list(PHASES)[:-1])
def test_before_the_verdict_the_weights_are_on_disk(workspace, strike, caplog, phase, number):
    caplog.set_level("INFO")
    callback, module = pruning(workspace, CHANNELS, baseline=1.0, tuning=LOOSE), Rolling()
    strike(*PHASES[phase], number, times=3)
    handlers = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    assert code_of(pruned, callback, module) == 128 + number
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == handlers
    assert caplog.text.count("interrupted: ") == 1
    assert "the pruned model was not judged yet; the trained weights are in" in caplog.text
    assert files_in(workspace) == ["report.html", "unjudged.ckpt"]
    assert callback.result is None
    with WorkspaceLock(workspace):
        assert same(weights_at(path_in(caplog.text)), weights_of(module))
    result = resumed(workspace, path_in(caplog.text), CHANNELS)
    assert (result.baseline, result.reached, result.status) == (1.0, True, "met")


@BOTH
def test_while_it_is_saved_it_is_saved_whole(workspace, strike, caplog, number):
    caplog.set_level("INFO")
    callback = pruning(workspace, tuning=LOOSE)
    strike(*PHASES["saving"], number, times=3)
    assert code_of(pruned, callback) == 128 + number
    assert caplog.text.count("interrupted: ") == 1
    assert "the pruned model is judged (`val_acc` " in caplog.text
    assert "unjudged.ckpt" not in files_in(workspace)
    files = [workspace / f"pruned_{name}" for name in ("configure.yaml", "model_weights.pt")]
    assert f"go on with `lpot_lightning.load('{files[0]}', '{files[1]}', model)`" in caplog.text
    assert halved(lpot_lightning.load(*files, Rolling()))
    assert callback.result.status == "met"


def test_going_on_ends_as_one_that_nobody_stopped(workspace, tmp_path, strike, caplog):
    caplog.set_level("INFO")
    whole = pruning(tmp_path / "whole", tuning=LOOSE)
    torch.manual_seed(0)
    pruned(whole)
    torch.manual_seed(0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pruning_run, "isfinite", lambda *_: signal.raise_signal(signal.SIGTERM))
        assert code_of(pruned, pruning(workspace, tuning=LOOSE)) == 143
    result, told = resumed(workspace, path_in(caplog.text)), whole.result
    assert (result.baseline, result.accuracy) == (told.baseline, told.accuracy)
    assert result.layers == told.layers
    assert same(weights_of(result.model), weights_of(told.model))


def test_the_world_is_as_after_any_other_exception(workspace, monkeypatch):
    def fail():
        raise OSError("another")

    ends = []
    for strike in (fail, lambda: signal.raise_signal(signal.SIGTERM)):
        monkeypatch.setattr(pruning_run, "isfinite", lambda *_, strike=strike: strike())
        torch.manual_seed(0)
        callback, module = pruning(workspace), Rolling()
        one = trainer(callback, max_epochs=EPOCHS)
        with pytest.raises((OSError, SystemExit)):
            one.fit(module, DataLoader(points(64), 16), val_loader(24))
        state = one.state.status, one.state.fn, one.callbacks[0] is callback, callback.result
        ends.append((state, module.training, torch.get_rng_state().tolist(), module.trainer is one))
        ends[-1] += tuple(value.tolist() for value in weights_of(module).values())
    assert ends[0] == ends[1]


def test_a_checkpoint_that_holds_them_is_named_and_none_is_written(
    workspace, tmp_path, strike, caplog
):
    caplog.set_level("INFO")
    strike(*PHASES["judging"], call=2)
    code = code_of(pruned, pruning(workspace), None, checkpoints(tmp_path / "saved"))
    assert code == 143
    assert path_in(caplog.text) == str(tmp_path / "saved/last.ckpt")
    assert files_in(workspace) == ["report.html"]
    assert resumed(workspace, path_in(caplog.text)).reached


def test_one_from_before_the_end_or_without_masks_does_not_count(
    workspace, tmp_path, strike, caplog
):
    caplog.set_level("INFO")
    early = checkpoints(tmp_path / "early", every_n_epochs=3, save_last=False)
    bare = checkpoints(tmp_path / "bare", save_weights_only=True)
    strike(*PHASES["judging"], call=2)
    assert code_of(pruned, pruning(workspace), None, early, bare) == 143
    assert path_in(caplog.text) == str(workspace / "unjudged.ckpt")


def test_stopped_again_no_second_one_is_written(workspace, strike, caplog):
    caplog.set_level("INFO")
    strike(pruning_run, "isfinite")
    assert code_of(pruned, pruning(workspace)) == 143
    path = path_in(caplog.text)
    caplog.clear()
    strike(pruning_run, "isfinite")
    assert code_of(pruned, pruning(workspace), ckpt_path=path) == 143
    assert path_in(caplog.text) == path
    assert files_in(workspace) == ["report.html", "unjudged.ckpt"]


def test_another_training_keeps_its_own(workspace, strike, caplog):
    caplog.set_level("INFO")
    for _ in range(2):
        strike(pruning_run, "isfinite")
        assert code_of(pruned, pruning(workspace)) == 143
    assert files_in(workspace) == ["report.html", "unjudged-1.ckpt", "unjudged.ckpt"]


def test_in_a_fast_dev_run_nothing_is_written(workspace, strike, caplog):
    caplog.set_level("INFO")
    strike(*PHASES["judging"], call=2)
    assert code_of(pruned, pruning(workspace), fast_dev_run=True) == 143
    assert "was not judged yet; go on with the same call of `fit`" in caplog.text
    assert not workspace.exists()


def test_what_keeps_them_from_being_saved_is_told(workspace, strike, caplog):
    caplog.set_level("INFO")

    class Full(Rolling):
        def on_save_checkpoint(self, checkpoint):
            raise OSError("disk full")

    strike(*PHASES["judging"], call=2)
    assert code_of(pruned, pruning(workspace), Full()) == 143
    assert "the trained weights could not be saved (OSError: disk full)" in caplog.text


@BOTH
def test_while_the_dense_model_is_measured(workspace, strike, caplog, number):
    caplog.set_level("INFO")
    strike(*PHASES["judging"], number, times=3)
    seen = Seen()
    assert code_of(pruned, pruning(workspace), None, seen) == 128 + number
    assert not seen.batches
    assert caplog.text.count("interrupted: the training has not begun, and nothing was") == 1
    with WorkspaceLock(workspace):
        assert not files_in(workspace)


def test_so_it_is_for_a_training_for_int8(workspace, strike, caplog):
    caplog.set_level("INFO")
    strike(*PHASES["judging"])
    callback = QATCallback({**pruning_conf(workspace), "pruning": None, "quantization": APPROACH})
    assert code_of(pruned, callback) == 143
    assert "interrupted: the training has not begun, and nothing was" in caplog.text


def test_a_pruning_that_rounds_keeps_its_ranges(workspace, strike, caplog):
    caplog.set_level("INFO")
    asked = {**pruning_conf(workspace, tuning=LOOSE), "quantization": APPROACH}
    data = DataLoader(points(64), 16), val_loader(48)
    strike(pruning_run, "isfinite")
    assert code_of(pruned, *both(asked), data=data) == 143
    path = path_in(caplog.text)
    assert torch.load(path, weights_only=True)["lpot_lightning"]["qat"]["training"]
    pruned(*both(asked), data=data, ckpt_path=path)
    assert "no batch was trained with the rounding" not in caplog.text
    assert (workspace / "best_configure.yaml").exists()


def both(asked):
    first, second = callbacks_from_conf(asked)
    return first, Rolling(), second


@BOTH
def test_a_benchmark_when_a_fit_is_over(workspace, tmp_path, strike, caplog, number):
    caplog.set_level("INFO")
    callback, saved = BenchmarkCallback(pruning_conf(None)), checkpoints(tmp_path / "saved")
    strike(benchmark, "in_turns", number, times=3)
    assert code_of(pruned, callback, None, saved) == 128 + number
    assert caplog.text.count("interrupted: the benchmark is not finished") == 1
    assert path_in(caplog.text) == str(tmp_path / "saved/last.ckpt")
    assert callback.result is None


def test_a_benchmark_without_a_checkpoint_says_so(strike, caplog):
    caplog.set_level("INFO")
    strike(benchmark, "in_turns")
    assert code_of(pruned, BenchmarkCallback(pruning_conf(None))) == 143
    assert "no checkpoint has the trained weights" in caplog.text


def never_validated(callback, module=None):
    """Return what a fit says whose validation comes first when it is over."""
    with pytest.raises(EvaluationError) as caught:
        trainer(callback, max_epochs=4, check_val_every_n_epoch=9).fit(
            module or Rolling(), train_loader(), val_loader()
        )
    return str(caught.value)


@pytest.mark.parametrize("kind", [pruning_conf, conf, qat_conf])
def test_a_fault_that_is_found_when_the_training_is_over_loses_nothing(workspace, kind):
    module = Rolling()
    (wrong,) = callbacks_from_conf(kind(workspace), monitor="val_map", **BASELINE[kind])
    said = never_validated(wrong, module)
    assert "it logs `val_acc`. Did you mean `val_acc`? The trained weights are in" in said
    assert said.endswith(", once this is mended.")
    assert same(weights_at(path_in(said)), weights_of(module))
    seen, (right,) = Seen(), callbacks_from_conf(kind(workspace), monitor="val_acc")
    trainer(seen, right, max_epochs=4).fit(
        Rolling(), train_loader(), val_loader(), ckpt_path=path_in(said)
    )
    assert not seen.batches
    assert right.result.status == "met"


def test_a_checkpoint_of_the_users_is_named_where_it_has_the_weights(workspace, tmp_path):
    saver = checkpoints(tmp_path / "saved")
    one = trainer(
        saver,
        QuantizationCallback(conf(workspace), monitor="val_map"),
        max_epochs=1,
        check_val_every_n_epoch=9,
        enable_checkpointing=True,
    )
    with pytest.raises(EvaluationError) as caught:
        one.fit(Rolling(), train_loader(), val_loader())
    assert path_in(str(caught.value)) == saver.last_model_path
    assert "unjudged.ckpt" not in files_in(workspace)


@pytest.fixture
def slurm(monkeypatch, tmp_path):
    """Be a job of SLURM, and return the file in which `scontrol` notes what it was asked."""
    asked = tmp_path / "asked"
    program = tmp_path / "bin" / "scontrol"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\necho "$@" >> "{asked}"\n')
    program.chmod(0o700)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    for name, value in {"JOB_ID": "77", "JOB_NAME": "train", "NTASKS": "1", **RANK}.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    return asked


RANK = {"PROCID": "0", "LOCALID": "0", "NODEID": "0", "NTASKS_PER_NODE": "1", "NNODES": "1"}


def of_slurm(callback, module=None, **given):
    """Fit as a job does that is started again: with the same call."""
    plugins = SLURMEnvironment(**given)
    data = train_loader(), val_loader(24)
    return pruned(callback, module, seen := Seen(), plugins=plugins, data=data), seen


@pytest.mark.parametrize("kind", [pruning_conf, conf, qat_conf])
def test_a_job_of_slurm_is_requeued_and_goes_on(workspace, tmp_path, slurm, strike, caplog, kind):
    caplog.set_level("INFO")
    (callback,) = callbacks_from_conf(kind(workspace), monitor="val_acc", **BASELINE[kind])
    strike(ValidationJudge, "evaluate", signal.SIGUSR1, times=2)
    module = Rolling()
    assert code_of(of_slurm, callback, module) == 128 + signal.SIGUSR1
    kept = tmp_path / "hpc_ckpt_1.ckpt"
    assert caplog.text.count("interrupted: ") == 1
    assert f"the training is in `{kept}`; job 77 is requeued, and goes on there" in caplog.text
    assert slurm.read_text() == "requeue 77\n"
    assert not [name for name in files_in(workspace) if "unjudged" in name]
    assert same(weights_at(kept), weights_of(module))
    (again,) = callbacks_from_conf(kind(workspace), monitor="val_acc", **BASELINE[kind])
    _, seen = of_slurm(again)
    assert not seen.batches
    assert again.result.status == "met"


def test_the_signal_that_the_user_chose_and_no_other(workspace, slurm, strike, caplog):
    caplog.set_level("INFO")
    strike(*PHASES["judging"], signal.SIGUSR2, call=2)
    assert code_of(of_slurm, pruning(workspace), requeue_signal=signal.SIGUSR2) == 140
    assert "job 77 is requeued" in caplog.text


def test_an_array_job_and_a_baseline_that_is_judged(
    workspace, tmp_path, slurm, strike, monkeypatch
):
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "5")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "3")
    strike(*PHASES["judging"], signal.SIGUSR1)
    assert code_of(of_slurm, pruning(workspace)) == 138
    assert slurm.read_text() == "requeue 5_3\n"
    assert not list(tmp_path.glob("hpc_ckpt*"))  # nothing was trained so far


def test_by_sigterm_a_job_ends_and_is_not_requeued(workspace, slurm, strike, caplog):
    caplog.set_level("INFO")
    strike(*PHASES["judging"], call=2)
    assert code_of(of_slurm, pruning(workspace)) == 143
    assert not slurm.exists()
    assert files_in(workspace) == ["report.html", "unjudged.ckpt"]


@pytest.mark.parametrize("plugins", [[], [SLURMEnvironment(auto_requeue=False)]])
def test_elsewhere_the_signal_is_none_of_ours(workspace, monkeypatch, plugins):
    choose, seen = callback_file.chosen_weights, []

    def noted(*given):
        seen.append(signal.getsignal(signal.SIGUSR1))
        return choose(*given)

    monkeypatch.setattr(callback_file, "chosen_weights", noted)
    pruned(pruning(workspace), plugins=plugins)
    assert seen == [signal.SIG_DFL]


REFUSING = "#!/bin/sh\necho 'no such job' >&2\nexit 3\n"


@pytest.mark.parametrize(
    ("program", "said"), [(REFUSING, "no such job"), ("", "[Errno 8] Exec format error")]
)
def test_what_keeps_it_from_being_requeued_is_told(workspace, slurm, strike, caplog, program, said):
    caplog.set_level("INFO")
    (slurm.parent / "bin" / "scontrol").write_text(program)
    strike(*PHASES["judging"], signal.SIGUSR1, call=2)
    assert code_of(of_slurm, pruning(workspace)) == 138
    assert f"`scontrol requeue 77` failed ({said}" in caplog.text
    assert "start the same program again" in caplog.text


def test_other_processes_of_a_job_leave_the_first_one_its_time(monkeypatch, caplog):
    waited = []
    monkeypatch.setattr(ending, "sleep", waited.append)
    monkeypatch.setattr(ending, "_is_requeued", lambda trainer: True)
    ending._tell(lambda: "nothing", SimpleNamespace(is_global_zero=False))
    assert waited == [ending.REQUEUED_WITHIN]
    assert not caplog.text
