"""Early stopping waits while a model is on its way to its target."""

import logging

import pytest
import torch
from lightning.pytorch.callbacks import EarlyStopping
from lit_scenes import val_loader
from sparse_scenes import Rolling, StopsAfter, checkpoints, halved, pruned, pruning

from lpot_lightning import PruningCallback, callbacks_from_conf
from lpot_lightning.callbacks.patience import HeldPatience

pytestmark = [
    pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty"),
    pytest.mark.filterwarnings("ignore:Be aware that when using `ckpt_path`, callbacks used"),
]


class Worth(Rolling):
    """Logs, in each epoch, the next of some numbers; then the last again."""

    def __init__(self, *worth):
        super().__init__()
        self.worth = worth

    def on_validation_epoch_end(self):
        self.log("worth", self.worth[min(self.current_epoch, len(self.worth) - 1)])


def stopping(patience=1, **given):
    return EarlyStopping("worth", mode="max", patience=patience, **given)


def early(workspace, **given):
    """Return a callback that reaches its target in epoch 4."""
    return pruning(workspace, **{"monitor": "val_acc", "end_epoch": 4, **given})


SINKING = tuple(-float(n) for n in range(12))


@pytest.mark.parametrize("patience", [0, 1, 2, 5])
@pytest.mark.parametrize("first", [True, False], ids=["before", "after"])
@pytest.mark.parametrize("at_epoch_end", [True, False, None])
def test_it_waits_for_the_target_and_looks_anew_then(workspace, patience, first, at_epoch_end):
    stop, callback = stopping(patience, check_on_train_epoch_end=at_epoch_end), early(workspace)
    others = {"first": (stop,)} if first else {}
    one, module = pruned(
        callback, Worth(*SINKING), *(() if first else (stop,)), max_epochs=12, **others
    )
    assert one.current_epoch == 5 + max(1, patience)  # best in epoch 4, and those that are worse
    assert callback.result.reached
    assert halved(module)
    assert (stop.wait_count, stop.stopped_epoch) == (max(1, patience), 4 + max(1, patience))


def test_it_waits_within_an_epoch(workspace):
    stop = stopping()
    callback = pruning(workspace, start_epoch=None, end_epoch=None, end_step=10, monitor="val_acc")
    given = {"max_epochs": -1, "max_steps": 16, "val_check_interval": 1}
    one, _ = pruned(callback, Worth(0.0), stop, check_val_every_n_epoch=None, **given)
    assert one.global_step == 12
    assert callback.result.reached


def test_one_line_says_that_it_would_have_ended(workspace, caplog):
    caplog.set_level(logging.INFO)
    pruned(early(workspace), Worth(*SINKING), stopping(2), max_epochs=8)
    assert caplog.text.count("`EarlyStopping` waits for the target sparsity: `worth`") == 1
    assert "was no better 2 times, which would have ended the training here" in caplog.text


def test_nothing_is_said_where_it_would_have_gone_on(workspace, caplog):
    caplog.set_level(logging.INFO)
    pruned(early(workspace), Worth(0.0, -1.0, 1.0, 0.0, 2.0), stopping(2), max_epochs=6)
    assert "waits for the target" not in caplog.text


@pytest.mark.parametrize(
    ("worth", "given"),
    [
        ((0.0, float("nan")), {}),
        ((0.0, float("inf")), {}),
        ((0.0, 0.9), {"stopping_threshold": 0.8}),
        ((0.0, -9.0), {"divergence_threshold": -8.0}),
    ],
    ids=str,
)
def test_what_is_not_finite_and_thresholds_end_a_fit_as_ever(workspace, worth, given):
    stop, callback = stopping(9, **given), early(workspace)
    with pytest.warns(UserWarning, match="the training ended in epoch 1"):
        pruned(callback, Worth(*worth), stop, max_epochs=9)
    assert stop.stopped_epoch == 1
    assert not callback.result.reached


def test_it_does_not_wait_where_that_is_not_asked_for(workspace):
    stop, callback = stopping(), early(workspace, wait_for_target=False)
    with pytest.warns(UserWarning, match="the training ended in epoch 1"):
        pruned(callback, Worth(*SINKING), stop, max_epochs=9)
    assert (stop.wait_count, stop.stopped_epoch) == (1, 1)


def test_each_waits(workspace):
    stops = stopping(), EarlyStopping("val_acc", mode="max", patience=2)
    callback = early(workspace)
    one, _ = pruned(callback, Worth(*SINKING), *stops, max_epochs=9)
    assert callback.result.reached
    assert one.current_epoch > 4


@pytest.mark.parametrize("worth", [SINKING, (0.0, -1.0, 1.0)], ids=["never better", "better"])
def test_what_it_counted_is_given_back(workspace, worth):
    """As it would be without us, if nothing ended the fit."""
    stop, alone = stopping(9), stopping(9)
    with pytest.warns(UserWarning, match="the training ended"):
        pruned(early(workspace), Worth(*worth), stop, StopsAfter(12), max_epochs=9)
    pruned(early(None, target_sparsity=0.0), Worth(*worth), alone, StopsAfter(12), max_epochs=9)
    assert stop.state_dict() == alone.state_dict()
    assert vars(stop).keys() == vars(alone).keys()


def test_a_fit_that_fails_gives_it_back_too(workspace):
    class Failing(Worth):
        def on_train_epoch_end(self):
            if self.current_epoch == 2:
                raise RuntimeError("no")

    stop = stopping(9)
    with pytest.raises(RuntimeError, match="no"):
        pruned(early(workspace), Failing(*SINKING), stop, max_epochs=9)
    assert stop.wait_count >= 1


def test_a_checkpoint_has_what_it_counted(tmp_path, workspace):
    saved, stop = checkpoints(tmp_path / "saved"), stopping()
    pruned(early(workspace), Worth(*SINKING), stop, saved, max_epochs=8)
    counts = []
    for epoch in range(4):
        (path,) = (tmp_path / "saved").glob(f"epoch={epoch}-*")
        states = torch.load(path, weights_only=True)["callbacks"]
        counts.append(states[stop.state_key]["wait_count"])
    assert counts == [0, 1, 2, 3]
    (path,) = (tmp_path / "saved").glob("epoch=2-*")
    again = early(workspace)
    one, _ = pruned(again, Worth(*SINKING), stopping(), max_epochs=8, ckpt_path=str(path))
    assert again.result.reached
    assert one.current_epoch == 6


def test_a_quick_run_and_a_validation_leave_it_alone(workspace):
    stop, callback = stopping(), early(workspace)
    one, module = pruned(callback, Worth(0.0), stop, fast_dev_run=True)
    assert stop.wait_count == 0
    one.validate(module, val_loader(24), verbose=False)
    assert stop.wait_count == 0


def test_a_target_that_was_reached_before_is_not_waited_for(workspace):
    """A fit that goes on with what is pruned."""
    callback, module = early(workspace), Worth(*SINKING)
    pruned(callback, module, max_epochs=5)
    one, _ = pruned(callback, module, stopping(), max_epochs=9)
    assert one.current_epoch == 2


def test_both_callbacks_of_a_yaml(workspace):
    conf = {**early(workspace).conf.to_dict(), "quantization": {}}
    for asked in (True, False):
        first, _ = callbacks_from_conf(conf, wait_for_target=asked)
        assert isinstance(first, PruningCallback)
        assert first.wait_for_target is asked


def test_nothing_is_held_at_first():
    held = HeldPatience("it")
    checkpoint = {"callbacks": {}}
    held.put_into(checkpoint)
    held.let_go()
    assert checkpoint == {"callbacks": {}}
