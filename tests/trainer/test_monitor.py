"""Which logged metric is the accuracy, and which way is up."""

import pytest
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint

from lpot_lightning.errors import ConfError, EvaluationError
from lpot_lightning.trainer.monitor import Monitor, find_monitor

LOGGED = {"val_acc": 0.9, "val_loss": 0.3}


def found(given=None, asked=None, *, watchers=(), logged=LOGGED, directions=None):
    return find_monitor(given, asked, watchers, logged, directions or {})


def test_the_argument_comes_first():
    assert found("val_acc", watchers=[EarlyStopping("val_loss")]) == Monitor("val_acc", True)


def test_then_what_a_checkpoint_or_early_stopping_watches():
    assert found(watchers=[ModelCheckpoint(monitor="val_loss")]) == Monitor("val_loss", False)
    assert found(watchers=[EarlyStopping("val_acc", mode="max")]) == Monitor("val_acc", True)


def test_a_watched_metric_that_validation_does_not_log_is_passed_over():
    watchers = [ModelCheckpoint(monitor="train_loss"), EarlyStopping("val_acc", mode="max")]
    assert found(watchers=watchers).name == "val_acc"


def test_then_the_only_metric():
    assert found(logged={"f1": 0.5}) == Monitor("f1", True)
    assert found(logged={"f1": 0.5, "f1_epoch": 0.5}).name == "f1"


def test_a_checkpoint_chooses_the_weights_and_counts_more_than_early_stopping():
    watchers = [EarlyStopping("val_loss"), ModelCheckpoint(monitor="val_acc", mode="max")]
    assert found(watchers=watchers) == Monitor("val_acc", True)
    assert found(watchers=watchers[::-1]) == Monitor("val_acc", True)


def test_several_metrics_and_nobody_who_watches_one_need_a_choice():
    with pytest.raises(EvaluationError, match="logs `val_acc`, `val_loss`: say which one"):
        found()


def test_several_checkpoints_with_several_metrics_need_a_choice():
    watchers = [ModelCheckpoint(monitor="val_acc", mode="max"), ModelCheckpoint(monitor="val_loss")]
    with pytest.raises(EvaluationError, match="several `ModelCheckpoint` watch `val_acc`, `val_l"):
        found(watchers=watchers)
    assert found("val_loss", watchers=watchers) == Monitor("val_loss", False)


@pytest.mark.parametrize("given", ["f1", "test_f1", "f1_epoch"])
def test_the_only_name_of_that_end_is_proposed(given):
    with pytest.raises(EvaluationError, match="Did you mean `val/f1`?"):
        found(given, logged={"val/f1": 0.5, "val/loss": 0.5})
    with pytest.raises(EvaluationError, match="logs `train/f1`, `val/f1`.$"):
        found("F1", logged={"val/f1": 0.5, "train/f1": 0.5})


def test_a_name_that_is_logged_for_each_loader_needs_a_choice():
    logged = {"acc/dataloader_idx_0": 0.5, "acc/dataloader_idx_1": 0.6}
    with pytest.raises(EvaluationError, match="`acc`, which is logged for each of 2 .*say which"):
        found("acc", logged=logged)
    assert found("acc/dataloader_idx_1", logged=logged).name == "acc/dataloader_idx_1"


def test_who_keeps_the_best_and_the_worst_needs_a_direction():
    both = [ModelCheckpoint(monitor="val_acc", mode=mode) for mode in ("min", "max")]
    with pytest.raises(ConfError, match="contradicted: .* says False, .* says True"):
        found(watchers=both)
    assert found(watchers=both, asked=True) == Monitor("val_acc", True)
    assert found(watchers=both, directions={"val_acc": True}) == Monitor("val_acc", True)


def test_an_unknown_name_is_told_with_the_nearest_known():
    with pytest.raises(EvaluationError, match="logs `val_acc`, `val_loss`. Did you mean `val_acc`"):
        found("val_ac")


def test_nothing_logged_is_told():
    with pytest.raises(EvaluationError, match=r"logs nothing .* `self.log\('val_acc', …\)`"):
        found(logged={})


@pytest.mark.parametrize(
    ("asked", "mode", "metric", "higher"),
    [
        (None, None, None, True),
        (None, None, False, False),
        (None, "min", None, False),
        (False, None, None, False),
        (True, "max", True, True),
    ],
)
def test_the_direction_is_the_yamls_the_watchers_or_the_metrics(asked, mode, metric, higher):
    watchers = [] if mode is None else [EarlyStopping("val_acc", mode=mode)]
    one = found("val_acc", asked, watchers=watchers, directions={"val_acc": metric})
    assert one.higher_is_better == higher


@pytest.mark.parametrize(
    ("asked", "mode", "metric"), [(True, "min", None), (False, None, True), (None, "max", False)]
)
def test_a_contradicted_direction_is_refused(asked, mode, metric):
    watchers = [] if mode is None else [EarlyStopping("val_acc", mode=mode)]
    with pytest.raises(ConfError, match="higher `val_acc` is better is contradicted: .* says True"):
        found("val_acc", asked, watchers=watchers, directions={"val_acc": metric})


def test_a_plain_number_that_sounds_like_a_loss_needs_a_direction():
    with pytest.raises(ConfError, match="sounds like a loss, .* set `tuning.accuracy_criterion"):
        found("val_loss")


def test_what_is_logged_by_step_as_well_is_one_metric():
    logged = {"val_acc": 0.9, "val_acc_epoch": 0.9, "val_loss": 0.3}
    both = [ModelCheckpoint(monitor=name, mode="max") for name in ("val_acc_epoch", "val_acc")]
    assert found(watchers=both, logged=logged) == Monitor("val_acc", True)


@pytest.mark.parametrize("name", ["FID", "EER", "val/ppl", "val_mape"])
def test_a_name_that_tells_nothing_is_said_to_be_taken_as_higher_is_better(name):
    (note,) = found(logged={name: 0.5}).notes
    assert note == (
        f"`{name}` is taken as higher is better, as nothing says which way it is: if it is not, set"
        " `tuning.accuracy_criterion.higher_is_better: false` in the YAML"
    )
    assert not found(asked=False, logged={name: 0.5}).notes
    assert not found(logged={name: 0.5}, directions={name: True}).notes
    assert not found(watchers=[ModelCheckpoint(monitor=name)], logged={name: 0.5}).notes


@pytest.mark.parametrize("name", ["val_acc", "val/top1", "mAP", "f1", "mIoU", "R2"])
def test_of_a_name_that_everybody_knows_nothing_is_said(name):
    assert not found(logged={name: 0.5}).notes
