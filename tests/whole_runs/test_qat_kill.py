"""A training for int8 that is killed, and gone on with."""

import json
import os
import signal

import lightning.pytorch as pl
import pytest
import torch
from fork_server import unreadable
from lit_scenes import same
from qat_scenes import ConvLit, checkpoints, qat, ranges_in, trained

EPOCHS, SAVED = 4, "saved/last.ckpt"
pytestmark = pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty")
HARD = {"accuracy_criterion": {"absolute": -1.0}, "strategy": {"name": "basic"}}


@pytest.fixture(autouse=True)
def _one_thread():
    """A forked process has none of the threads that torch would wait for."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class Killed(pl.Callback):
    """Ends the process as the power would, in one batch of one epoch."""

    def __init__(self, epoch, batch):
        self._at = epoch, batch

    def on_train_batch_end(self, one, module, outputs, batch, batch_idx):
        if (one.current_epoch, batch_idx) == self._at:
            os.kill(os.getpid(), signal.SIGKILL)


def fit(folder, *others, tuning=None, ckpt_path=None):
    torch.manual_seed(0)
    callback = qat(folder / "workspace", tuning=tuning or {}, ckpt="last")
    _, module = trained(
        callback,
        ConvLit(),
        checkpoints(folder / "saved"),
        *others,
        max_epochs=EPOCHS,
        ckpt_path=ckpt_path,
        default_root_dir=str(folder),
    )
    return callback, module


def dies(work):
    """Run ``work`` in a process of its own, which has to be killed by it."""
    child = os.fork()
    if not child:
        try:
            work()
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status)
    assert os.WTERMSIG(status) == signal.SIGKILL


def end(folder, callback, module):
    """Return all that has to be equal: weights, ranges, files and result."""
    result = callback.result
    told = json.loads((folder / "workspace" / "result.json").read_text())
    trials = [(one.recipe.key, one.score.accuracy) for one in result.trials]
    best = torch.load(folder / "workspace" / "best_model_weights.pt", weights_only=True)
    return {
        "weights": module.state_dict(),
        "ranges": ranges_in(folder / SAVED),
        "int8": best,
        "told": [result.baseline, result.accuracy, result.status, result.evaluations, trials],
        "kept": [told["baseline"], told["accuracy"], told["status"]],
    }


def equal(one, other):
    tensors = all(same(one[name], other[name]) for name in ("weights", "ranges", "int8"))
    return tensors and all(one[name] == other[name] for name in ("told", "kept"))


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("quiet")
    torch.set_num_threads(1)
    return end(folder, *fit(folder))


@pytest.mark.parametrize("epoch", range(1, EPOCHS))
def test_killed_in_each_epoch(tmp_path, uninterrupted, epoch):
    dies(lambda: fit(tmp_path, Killed(epoch, 2)))
    assert list(unreadable(tmp_path)) == []
    again = end(tmp_path, *fit(tmp_path, ckpt_path=str(tmp_path / SAVED)))
    assert equal(again, uninterrupted)


def test_killed_before_anything_was_saved(tmp_path, uninterrupted):
    dies(lambda: fit(tmp_path, Killed(0, 2)))
    assert equal(end(tmp_path, *fit(tmp_path)), uninterrupted)


def test_killed_while_ops_fall_back(tmp_path, monkeypatch):
    """No finished trial is repeated, and the end is the same."""
    quiet = tmp_path / "quiet"
    expected = end(quiet, *fit(quiet, tuning=HARD))

    def killed_after_three(*_):
        seen.append(1)
        if len(seen) == 3:
            os.kill(os.getpid(), signal.SIGKILL)

    seen: list[int] = []
    with monkeypatch.context() as patched:
        patched.setattr("lpot_lightning.trainer.tuned_run._tell", killed_after_three)
        dies(lambda: fit(tmp_path, tuning=HARD))
    callback, module = fit(tmp_path, tuning=HARD, ckpt_path=str(tmp_path / SAVED))
    assert [one.replayed for one in callback.result.trials[:4]] == [True, True, True, False]
    assert equal(end(tmp_path, callback, module), expected)
