"""A pruning that ends in the middle, and is gone on with: the same end, to the bit."""

import logging
import os
import signal

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import OnExceptionCheckpoint
from lit_scenes import points, same, trainer, val_loader, weights_of
from sparse_scenes import (
    EPOCHS,
    GRADIENT,
    WEIGHTS,
    Rolling,
    Seen,
    checkpoints,
    halved,
    pruned,
    pruning,
    state_in,
    weights_at,
    zeros,
)
from torch.utils.data import ConcatDataset, DataLoader

from lpot_lightning.errors import ArtifactError, ConfError
from lpot_lightning.trainer.validation_judge import ValidationJudge

pytestmark = [
    pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty"),
    pytest.mark.filterwarnings("ignore:Be aware that when using `ckpt_path`, callbacks used"),
    pytest.mark.filterwarnings("ignore:The dirpath has changed from"),
]
KINDS = {"magnitude": {}, "sensitivity": GRADIENT}
# each batch alike: Lightning begins an epoch that it goes on with by the first of the data
DATA = DataLoader(ConcatDataset([points(16)] * 4), batch_size=16), val_loader(24)
SCHEDULE = {"end_epoch": 3, "target_sparsity": 0.6}


@pytest.fixture(autouse=True)
def _one_thread():
    """A forked process has none of the threads that torch would wait for."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def fit(folder, kind, *others, ckpt_path=None, **given):
    """Return the callback, and all that has to be equal at the end."""
    torch.manual_seed(0)
    callback = pruning(folder / "workspace", KINDS[kind], **SCHEDULE, **given)
    saved = checkpoints(folder / "saved")
    one, module = pruned(callback, None, saved, *others, data=DATA, ckpt_path=ckpt_path)
    buffers = one.optimizers[0].state_dict()["state"]
    return callback, {
        "weights": weights_of(module),
        "momentum": {str(n): each["momentum_buffer"] for n, each in buffers.items()},
        "files": weights_of_file(folder),
        "saved": weights_at(folder / "saved/last.ckpt"),
        "masks": packed(folder / "saved/last.ckpt"),
    }


def weights_of_file(folder):
    return torch.load(folder / "workspace/pruned_model_weights.pt", weights_only=True)


def packed(path):
    return {name: one["kept"] for name, one in state_in(path)["pruner"]["masks"].items()}


def equal(one, other):
    (callback, end), (other_callback, other_end) = one, other
    result, told = callback.result, other_callback.result
    assert (result.baseline, result.accuracy) == (told.baseline, told.accuracy)
    assert (result.status, result.reached, result.layers) == (told.status, True, told.layers)
    return end.keys() == other_end.keys() and all(same(end[n], other_end[n]) for n in end)


@pytest.fixture(scope="module", params=KINDS)
def whole(request, tmp_path_factory):
    """Return the folder and the end of a fit that nothing disturbed, and its kind."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("whole")
    within = checkpoints(folder / "within", every_n_train_steps=3, save_last=False)
    return folder, fit(folder, request.param, within), request.param


@pytest.mark.parametrize("epoch", range(EPOCHS - 1))
def test_from_the_checkpoint_of_each_epoch(tmp_path, whole, epoch):
    folder, end, kind = whole
    (path,) = (folder / "saved").glob(f"epoch={epoch}-*")
    seen = Seen()
    assert equal(fit(tmp_path, kind, seen, ckpt_path=str(path)), end)
    assert len(seen.batches) == 4 * (EPOCHS - 1 - epoch)


@pytest.mark.parametrize("step", [3, 6, 9, 15])
def test_from_the_middle_of_an_epoch(tmp_path, whole, step):
    folder, end, kind = whole
    (path,) = (folder / "within").glob(f"*step={step}.ckpt")
    seen = Seen()
    assert equal(fit(tmp_path, kind, seen, ckpt_path=str(path)), end)
    assert len(seen.batches) == 4 * EPOCHS - step


def test_from_the_end(tmp_path, whole):
    folder, end, kind = whole
    callback = pruning(tmp_path / "workspace", KINDS[kind], **SCHEDULE)
    pruned(callback, None, data=DATA, ckpt_path=str(folder / "saved/last.ckpt"))
    again, told = callback.result, end[0].result
    assert (again.accuracy, again.baseline) == (told.accuracy, told.baseline)
    assert (again.status, again.reached, again.layers) == (told.status, True, told.layers)
    assert same(weights_of_file(tmp_path), end[1]["files"])


class Killed(pl.Callback):
    """Ends the process as the power would, in one batch of one epoch."""

    def __init__(self, epoch, batch):
        self._at = epoch, batch

    def on_train_batch_end(self, one, module, outputs, batch, batch_idx):
        if (one.current_epoch, batch_idx) == self._at:
            os.kill(os.getpid(), signal.SIGKILL)


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


@pytest.mark.parametrize("epoch", [1, 3])
def test_killed(tmp_path, whole, epoch):
    _, end, kind = whole
    dies(lambda: fit(tmp_path, kind, Killed(epoch, 2)))
    assert not list((tmp_path / "workspace").glob("pruned*"))
    assert equal(fit(tmp_path, kind, ckpt_path=str(tmp_path / "saved/last.ckpt")), end)


def test_killed_before_anything_was_saved(tmp_path, whole):
    _, end, kind = whole
    dies(lambda: fit(tmp_path, kind, Killed(0, 2)))
    assert equal(fit(tmp_path, kind), end)


def test_killed_while_the_files_are_written(tmp_path, whole, monkeypatch):
    """The next fit replaces what there is; none of it is read."""
    _, end, kind = whole

    def kill(*_):
        os.kill(os.getpid(), signal.SIGKILL)

    with monkeypatch.context() as patched:
        patched.setattr("lpot_lightning.runs.pruned_files.write_file", kill)
        dies(lambda: fit(tmp_path, kind))
    assert equal(fit(tmp_path, kind), end)


@pytest.mark.filterwarnings("ignore:.*fit.ckpt_path=")  # Lightning 2.6 takes it for one
@pytest.mark.parametrize("callback", ["before", "after"])
def test_a_checkpoint_that_is_saved_on_an_exception(tmp_path, callback):
    """Whichever callback hears of it first: the step may be made, and the masks not yet."""

    class Failing(Rolling):
        def on_before_zero_grad(self, optimizer):
            if self.global_step == 10:
                raise RuntimeError("no")

    saves = OnExceptionCheckpoint(tmp_path, "broken")
    first = (saves,) if callback == "before" else ()
    others = () if first else (saves,)
    with pytest.raises(RuntimeError, match="no"):
        pruned(pruning(tmp_path / "workspace"), Failing(), *others, first=first, data=DATA)
    seen, again = Seen(), pruning(tmp_path / "workspace")
    pruned(again, None, seen, data=DATA, ckpt_path=str(tmp_path / "broken.ckpt"))
    assert 4 <= len(seen.batches) <= 8
    assert all(map(halved, seen.batches))
    assert again.result.reached


def test_only_the_weights_are_saved(tmp_path, workspace):
    """The fit begins anew from pruned weights, as Lightning lets it, and says what it measures."""
    saved = checkpoints(tmp_path / "saved", save_weights_only=True)
    first = pruning(workspace)
    pruned(first, None, saved)
    torch.manual_seed(0)
    fresh = Rolling.load_from_checkpoint(tmp_path / "saved/last.ckpt")
    assert halved(fresh)
    lock = pruning(workspace, {"prune_type": "pattern_lock"})
    seen = Seen()
    pruned(lock, fresh, seen, max_epochs=1)
    assert all(map(halved, seen.batches))
    assert lock.result.baseline == first.result.accuracy


def test_the_dense_model_is_measured_once(tmp_path, workspace, monkeypatch):
    whole, judged = ValidationJudge.evaluate, []

    def noted(runner, model, label, watch=None):
        judged.append(label)
        return whole(runner, model, label, watch)

    monkeypatch.setattr(ValidationJudge, "evaluate", noted)
    saved = checkpoints(tmp_path / "saved")
    first = pruning(workspace, end_epoch=1)
    pruned(first, None, saved, max_epochs=2)
    pruned(
        pruning(workspace, end_epoch=1), None, ckpt_path=str(tmp_path / "saved/last.ckpt"),
        max_epochs=3,
    )  # fmt: skip
    assert judged == ["the dense model", "the pruned model", "the pruned model"]


def test_a_baseline_that_was_given_is_kept(tmp_path, workspace):
    saved = checkpoints(tmp_path / "saved")
    pruned(pruning(workspace, baseline=0.25), None, saved, max_epochs=3)
    again = pruning(workspace)
    pruned(again, None, ckpt_path=str(tmp_path / "saved/last.ckpt"))
    assert again.result.baseline == 0.25
    other = pruning(workspace, baseline=0.75)
    pruned(other, None, ckpt_path=str(tmp_path / "saved/last.ckpt"))
    assert other.result.baseline == 0.75


def test_what_is_gone_on_with_is_told(tmp_path, workspace, caplog):
    caplog.set_level(logging.INFO)
    pruned(pruning(workspace), None, checkpoints(tmp_path / "saved"), max_epochs=3)
    caplog.clear()
    pruned(pruning(workspace), None, ckpt_path=str(tmp_path / "saved/last.ckpt"))
    assert "going on with what is pruned: 50.0% of the weights to prune" in caplog.text


# -- the checkpoint of a fit without us ---------------------------------------------------------


def dense(folder, epochs):
    saved = checkpoints(folder / "dense")
    one = pl.Trainer(
        callbacks=[saved], max_epochs=epochs, accelerator="cpu", logger=False,
        enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    one.fit(Rolling(), *DATA)
    return str(folder / "dense/last.ckpt")


def test_a_dense_checkpoint_is_pruned_from_where_it_ended(tmp_path, workspace):
    seen, callback = Seen(), pruning(workspace, start_epoch=2, end_epoch=4)
    pruned(callback, None, seen, ckpt_path=dense(tmp_path, 2), max_epochs=6, data=DATA)
    assert [zeros(one)[WEIGHTS[0]] for one in seen.validated] == [0.0, 0.25, 0.5, 0.5]
    assert callback.result.status == "met"


def test_a_dense_checkpoint_from_after_the_schedule(tmp_path, workspace):
    said = (
        "the fit goes on in epoch 3 with a model that was not pruned before, and `end_epoch` is 2:"
        " all would go at once. Count `start_epoch` and `end_epoch` from where the fit goes on, 3"
        " or later"
    )
    with pytest.raises(ConfError) as caught:
        pruned(pruning(workspace), None, ckpt_path=dense(tmp_path, 3), max_epochs=6, data=DATA)
    assert str(caught.value) == said


@pytest.mark.parametrize("kind", KINDS)
def test_a_dense_checkpoint_from_the_middle_of_an_epoch(tmp_path, workspace, kind):
    """The epoch that it is in goes on without a start."""
    within = checkpoints(tmp_path / "within", every_n_train_steps=6, save_last=False)
    one = pl.Trainer(
        callbacks=[within], max_epochs=2, accelerator="cpu", logger=False,
        enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    one.fit(Rolling(), *DATA)
    (path,) = (tmp_path / "within").glob("*step=6.ckpt")
    seen = Seen()
    callback = pruning(workspace, KINDS[kind], start_epoch=2, end_epoch=2, initial_sparsity=0.5)
    pruned(callback, None, seen, ckpt_path=str(path), data=DATA)
    assert [halved(one) for one in seen.validated] == [False, True, True]


# -- damaged ------------------------------------------------------------------------------------


def damaged(tmp_path, change):
    """Return what a fit says that goes on with a checkpoint in which something was changed."""

    class Untrained(Rolling):
        def training_step(self, batch, batch_idx):
            raise AssertionError("trained")

    saved = checkpoints(tmp_path / "saved")
    callback = pruning(tmp_path / "workspace", GRADIENT)
    pruned(callback, None, saved, max_epochs=3)
    files = {path: path.read_bytes() for path in (tmp_path / "workspace").iterdir()}
    content = torch.load(tmp_path / "saved/last.ckpt", weights_only=True)
    change(content["callbacks"]["PruningCallback"])
    torch.save(content, tmp_path / "damaged.ckpt")
    again = pruning(tmp_path / "workspace", GRADIENT)
    with pytest.raises(ArtifactError) as caught:
        pruned(again, Untrained(), ckpt_path=str(tmp_path / "damaged.ckpt"))
    assert {path: path.read_bytes() for path in (tmp_path / "workspace").iterdir()} == files
    return str(caught.value)


def put(value, *keys):
    def change(state):
        for key in keys[:-1]:
            state = state[key]
        state[keys[-1]] = value

    return change


W = WEIGHTS[0]
DAMAGE = {
    "no pruner": (put(None, "pruner"), "`pruner` of the checkpoint's `PruningCallback` is damaged"),
    "no number": (put("x", "start"), "`start` of the checkpoint's `PruningCallback` is damaged"),
    "no masks": (put(None, "pruner", "masks"), "the masks in the checkpoint are damaged"),
    "no bits": (
        put({"shape": [16, 8]}, "pruner", "masks", W),
        f"the mask of `{W}` in the checkpoint is damaged",
    ),
    "few bits": (
        put(torch.zeros(3, dtype=torch.uint8), "pruner", "masks", W, "kept"),
        f"the mask of `{W}` in the checkpoint is damaged",
    ),
    "another shape": (
        put([8, 16], "pruner", "masks", W, "shape"),
        f"the mask of `{W}` in the checkpoint is not of shape [16, 8]",
    ),
    "another model": (
        put({}, "pruner", "masks", "net.5.weight"),
        "the checkpoint has a mask of `net.5.weight`, the model has not",
    ),
    "another place": (put(["x"], "pruner", "at"), "`pruner.at` in the checkpoint is damaged"),
    "no place": (put(None, "pruner", "at"), "the checkpoint was pruned by other pruners than"),
    "more pruners": (put([{}, {}], "pruner", "pruners"), "pruned by other pruners than the YAML"),
    "no sums": (put([None], "pruner", "pruners"), "`pruner.pruners` in the checkpoint is damaged"),
    "other sums": (
        put(torch.zeros(3), "pruner", "pruners", 0, W),
        f"the sensitivity of `{W}` is damaged",
    ),
}


@pytest.mark.parametrize(("change", "said"), DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_checkpoint(tmp_path, change, said):
    assert said in damaged(tmp_path, change)


def test_a_checkpoint_of_another_yaml(tmp_path, workspace):
    pruned(pruning(workspace), None, checkpoints(tmp_path / "saved"), max_epochs=3)
    two = pruning(workspace, {"names": WEIGHTS[0]}, {"names": WEIGHTS[1]})
    with pytest.raises(ArtifactError, match="go on with the YAML that it was trained with"):
        pruned(two, None, ckpt_path=str(tmp_path / "saved/last.ckpt"))


@pytest.mark.parametrize("step", [4, 6], ids=["end of an epoch", "middle of one"])
def test_the_length_of_what_is_left_is_known(tmp_path, step):
    """Epoch 3 begins after 12 steps, wherever the fit goes on."""
    saved = checkpoints(tmp_path / "saved", every_n_train_steps=2)
    pruned(pruning(tmp_path / "first", **SCHEDULE), None, saved, data=DATA)
    (path,) = (tmp_path / "saved").glob(f"*step={step}.ckpt")
    given = {"ckpt_path": str(path), "data": DATA, "max_epochs": 9}
    seen = Seen()
    with pytest.raises(ConfError, match="begins after 12 steps, 4 an epoch, and the Trainer stops"):
        pruned(pruning(tmp_path / "second", **SCHEDULE), None, seen, max_steps=12, **given)
    assert not seen.batches
    callback = pruning(tmp_path / "third", **SCHEDULE)
    pruned(callback, max_steps=13, **given)
    assert callback.result.reached


def test_a_dense_fit_that_goes_on_after_the_last_step(tmp_path):
    saved = checkpoints(tmp_path / "saved")
    trainer(saved, max_epochs=3, enable_checkpointing=True).fit(Rolling(), *DATA)
    steps = {"start_epoch": None, "end_epoch": None, "end_step": 9}
    with pytest.raises(ConfError) as caught:
        pruned(pruning(tmp_path / "second", **steps), data=DATA, ckpt_path=saved.last_model_path)
    assert str(caught.value) == (
        "the fit goes on in step 12 with a model that was not pruned before, and `end_step` is 9:"
        " all would go at once. Count `start_step` and `end_step` from where the fit goes on, 12"
        " or later"
    )
