"""Schedules that count steps of the optimizer."""

import logging

import pytest
import torch
from lit_scenes import points, same, val_loader, weights_of
from sparse_scenes import (
    GRADIENT,
    WEIGHTS,
    ByHand,
    Double,
    Rolling,
    Seen,
    StopsAfter,
    Twins,
    checkpoints,
    halved,
    pruned,
    pruning,
    state_in,
    weights_at,
    zeros,
)
from torch.utils.data import ConcatDataset, DataLoader, IterableDataset

pytestmark = [
    pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty"),
    pytest.mark.filterwarnings("ignore:Be aware that when using `ckpt_path`, callbacks used"),
    pytest.mark.filterwarnings("ignore:The dirpath has changed from"),
]
BOTH = pytest.mark.parametrize("kind", [{}, GRADIENT], ids=["magnitude", "sensitivity"])
LOOSE = {"accuracy_criterion": {"absolute": 0.3}}
STEPS = {"start_epoch": None, "end_epoch": None, "start_step": 4, "end_step": 10}


class Endless(IterableDataset):
    def __iter__(self):
        while True:
            yield from points(64)


def endless():
    return DataLoader(Endless(), batch_size=16), val_loader(24)


def by_steps(workspace, *pruners, **given):
    return pruning(workspace, *pruners, **{**STEPS, "tuning": LOOSE, **given})


def shares(seen):
    """Return the share of zeros of the first weight after each batch."""
    return [round(zeros(one)[WEIGHTS[0]], 3) for one in seen.batches]


@BOTH
def test_data_without_end(workspace, kind):
    """One epoch for Lightning, in which `max_steps` and `val_check_interval` count."""
    callback, module, seen = by_steps(workspace, kind), Rolling(), Seen()
    pruned(
        callback, module, seen, data=endless(), max_epochs=-1, max_steps=14,
        val_check_interval=7, check_val_every_n_epoch=None,
    )  # fmt: skip
    found = shares(seen)
    assert found[:5] == [0.0] * 5
    assert found == sorted(found)
    assert 0 < found[5] < found[8] < 0.5
    assert found[10:] == [0.5] * 4
    assert (callback.result.status, callback.result.reached) == ("met", True)
    assert halved(callback.result.model)


def test_each_step_trains_with_what_the_schedule_asks(workspace):
    callback, seen = by_steps(workspace, {"names": WEIGHTS[0]}), Seen()
    pruned(callback, None, seen)  # 16 steps in 4 epochs
    want = [0.0] * 4 + [n * 0.5 / 6 for n in range(6)] + [0.5] * 6
    assert shares(seen) == pytest.approx(want, abs=0.005)


def test_a_stair_lasts_its_steps(workspace):
    callback, seen = by_steps(workspace, {"update_frequency": 3}), Seen()
    pruned(callback, None, seen)
    assert shares(seen) == [0.0] * 7 + [0.25] * 3 + [0.5] * 6


@pytest.mark.parametrize(
    "given",
    [
        {"accumulate_grad_batches": 2, "max_epochs": 6},
        {"precision": "bf16-mixed"},
        {"precision": "64-true"},
        {"gradient_clip_val": 0.5},
        {"val_check_interval": 3, "check_val_every_n_epoch": None},
        {"reload_dataloaders_every_n_epochs": 1},
        {"max_epochs": -1, "max_steps": 11},
        {"limit_train_batches": 2, "max_epochs": 6},
    ],
    ids=str,
)
@BOTH
def test_trainers(workspace, kind, given):
    callback, module = by_steps(workspace, kind), Double()
    pruned(callback, module, **given)
    assert (callback.result.status, callback.result.reached) == ("met", True)
    assert halved(module)


def test_batches_of_one_step_train_with_one_sparsity(workspace):
    """Accumulated ones; a step that is asked for twice prunes once."""
    callback, seen = by_steps(workspace), Seen()
    pruned(callback, None, seen, accumulate_grad_batches=2, max_epochs=6)
    found = shares(seen)
    assert found[::2] == found[1::2]
    assert len(set(found)) == 7


def test_steps_are_those_that_the_trainer_counts(workspace):
    """With two optimizers, each step of each."""
    callback, seen = by_steps(workspace), Seen()
    one, _ = pruned(callback, Twins(), seen)
    assert one.global_step == 32
    found = shares(seen)
    assert found[2] == 0.0
    assert 0 < found[3] < 0.5
    assert found[5:] == [0.5] * 11


def test_steps_that_nobody_counts_are_told(workspace):
    """Those of an optimizer that Lightning does not see; `max_steps` does not count them either."""
    callback = by_steps(workspace)
    with pytest.warns(UserWarning, match="after 0 steps .* in step 10. .*use_pl_optimizer"):
        pruned(callback, ByHand(wrapped=False), max_epochs=2)
    assert not callback.result.reached


def test_one_pruner_counts_steps_and_another_epochs(workspace):
    callback = pruning(
        workspace,
        {"names": WEIGHTS[0], "start_step": 6, "end_step": 6},
        {"names": WEIGHTS[1], "start_epoch": 2, "end_epoch": 2},
        tuning=LOOSE,
    )
    seen = Seen()
    pruned(callback, None, seen)
    first, second = ([zeros(one)[name] for one in seen.batches] for name in WEIGHTS)
    assert first == [0.0] * 6 + [0.5] * 10
    assert second == [0.0] * 8 + [0.5] * 8


def test_a_lock_stays_what_it_is(workspace):
    module, seen = Rolling(), Seen()
    with torch.no_grad():
        module.net[0].weight[:4] = 0
    callback = by_steps(
        workspace, {"names": WEIGHTS[0], "prune_type": "pattern_lock"}, {"names": WEIGHTS[1]}
    )
    pruned(callback, module, seen)
    assert shares(seen) == [0.25] * 16
    assert zeros(module)[WEIGHTS[1]] == 0.5


class Sinking(Rolling):
    """Is best in its first validation, by a number of its own."""

    seen = 0

    def on_validation_epoch_end(self):
        self.seen += 1
        self.log("worth", -float(self.seen))


def test_the_best_is_sought_anew_at_the_target(tmp_path, workspace, caplog):
    caplog.set_level(logging.INFO)
    saved = checkpoints(tmp_path / "saved", monitor="worth", mode="max", save_top_k=1)
    callback = by_steps(workspace, monitor="val_acc")
    pruned(
        callback, Sinking(), saved, max_epochs=-1, max_steps=16, val_check_interval=2,
        check_val_every_n_epoch=None,
    )  # fmt: skip
    assert "step=12" in saved.best_model_path
    assert halved(weights_at(saved.best_model_path))
    assert "step 10: the target sparsity is reached: `ModelCheckpoint` looks for" in caplog.text
    assert "step 10: 50.0% of the weights to prune are zero" in caplog.text


def test_a_line_is_told_for_each_twentieth(workspace, caplog):
    caplog.set_level(logging.INFO)
    callback = by_steps(workspace, end_step=40)
    pruned(callback, max_epochs=11)
    lines = [one.getMessage() for one in caplog.records if "to prune are zero" in one.getMessage()]
    assert 8 <= len(lines) <= 11
    assert lines[-1] == "step 40: 50.0% of the weights to prune are zero"


def test_an_end_before_the_target_is_told_in_steps(workspace):
    with pytest.warns(UserWarning, match=r"ended after 7 steps with .*%.* in step 10\. Look at"):
        pruned(by_steps(workspace), None, StopsAfter(7))


def test_the_ends_of_both_units_are_told(workspace):
    callback = by_steps(workspace, {"names": WEIGHTS[0]}, {"names": WEIGHTS[1], "end_epoch": 2})
    with pytest.warns(UserWarning, match="in epoch 0, after 2 steps .* in epoch 2 and step 10"):
        pruned(callback, None, StopsAfter(2))


def test_a_quick_run(workspace):
    callback, module = by_steps(workspace), Rolling()
    pruned(callback, module, fast_dev_run=True)
    assert callback.result.reached
    assert halved(module)


@pytest.mark.filterwarnings("ignore:`training_step` returned `None`")
@BOTH
def test_steps_without_a_loss(workspace, kind):
    """They are counted, and teach nothing."""

    class Choosy(Rolling):
        def training_step(self, batch, batch_idx):
            return None if batch_idx % 2 else super().training_step(batch, batch_idx)

    callback, module, seen = by_steps(workspace, kind), Choosy(), Seen()
    pruned(callback, module, seen)
    assert shares(seen)[4] == 0.0
    assert shares(seen)[11:] == [0.5] * 5
    assert callback.result.reached


# -- gone on with -------------------------------------------------------------------------------

# each batch alike: Lightning begins an epoch that it goes on with by the first of the data
DATA = DataLoader(ConcatDataset([points(16)] * 4), batch_size=16), val_loader(24)


def fit(folder, kind, *others, ckpt_path=None):
    """Return all that has to be equal at the end."""
    torch.manual_seed(0)
    callback = by_steps(folder / "workspace", kind)
    saved = checkpoints(folder / "saved", every_n_train_steps=1)
    one, module = pruned(callback, None, saved, *others, data=DATA, ckpt_path=ckpt_path)
    buffers = one.optimizers[0].state_dict()["state"]
    masks = state_in(folder / "saved/last.ckpt")["pruner"]["masks"]
    end = {
        "weights": weights_of(module),
        "momentum": {str(n): each["momentum_buffer"] for n, each in buffers.items()},
        "masks": {name: each["kept"] for name, each in masks.items()},
    }
    return callback.result, end


@BOTH
def test_a_fit_that_goes_on_ends_as_one_that_nobody_stopped(tmp_path, kind):
    """From before the schedule, in it, at an end of an epoch, and after it."""
    result, end = fit(tmp_path / "whole", kind)
    for step in (3, 6, 8, 9, 13):
        (path,) = (tmp_path / "whole/saved").glob(f"*step={step}.ckpt")
        again, ended = fit(tmp_path / f"from_{step}", kind, ckpt_path=str(path))
        assert (again.accuracy, again.baseline) == (result.accuracy, result.baseline)
        assert again.reached
        assert all(same(end[name], ended[name]) for name in end)
