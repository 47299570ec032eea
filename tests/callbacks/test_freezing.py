"""When ranges and BatchNorm statistics stop changing."""

import logging

import lightning.pytorch as pl
import pytest
import torch
from lit_scenes import same, trainer, weights_of
from qat_scenes import (
    ConvLit,
    checkpoints,
    images,
    qat,
    ranges_in,
    train_images,
    trained,
    val_images,
)
from torch.utils.data import ConcatDataset, DataLoader, IterableDataset

from lpot_lightning.callbacks.freezing import FreezePlan, Moment
from lpot_lightning.callbacks.length import Length
from lpot_lightning.errors import ConfError

pytestmark = [
    pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty"),
    pytest.mark.filterwarnings("ignore:Be aware that when using `ckpt_path`, callbacks used"),
    pytest.mark.filterwarnings("ignore:The dirpath has changed from"),
]


def plan(first=(0, 0), asked=None, **given):
    """Return the moments of BatchNorm and of ranges, as pairs of epoch and step."""
    names = ("freeze_batch_norm", "freeze_observers")
    none = {"max_epochs": None, "max_steps": None, "per_epoch": None, "is_endless": False}
    length = Length(epoch=first[0], step=first[1], within=0, **{**none, **given})
    given_ones = {**dict.fromkeys(names, Moment()), **(asked or {})}
    found = FreezePlan.of(length, Moment(*first), given_ones)
    return [(one.epoch, one.step) for one in (found.batch_norm, found.observers)]


@pytest.mark.parametrize(
    ("given", "moments"),
    [
        ({}, [(None, None)] * 2),
        ({"max_epochs": 8}, [(4, None), (6, None)]),
        ({"max_epochs": 8, "per_epoch": 10}, [(4, None), (6, None)]),
        ({"max_epochs": 8, "first": (4, 40)}, [(6, None), (7, None)]),
        ({"max_epochs": 1}, [(None, None)] * 2),
        ({"max_epochs": 1, "per_epoch": 10}, [(None, 5), (None, 7)]),
        ({"max_epochs": 5, "per_epoch": 10, "first": (4, 40)}, [(None, 45), (None, 47)]),
        ({"max_epochs": 1, "per_epoch": 1}, [(None, None)] * 2),
        ({"max_steps": 100}, [(None, 50), (None, 75)]),
        ({"max_steps": 100, "is_endless": True}, [(None, 50), (None, 75)]),
        ({"max_steps": 100, "first": (0, 20)}, [(None, 60), (None, 80)]),
        ({"max_steps": 100, "max_epochs": 8}, [(4, 50), (6, 75)]),
        ({"max_steps": 6, "max_epochs": 1, "per_epoch": 10}, [(None, 3), (None, 4)]),
        ({"max_steps": 1}, [(None, None)] * 2),
    ],
    ids=str,
)
def test_the_default_is_half_and_three_quarters_of_the_nearer_limit(given, moments):
    assert plan(**given) == moments


def test_what_is_asked_for_takes_the_place_of_the_default_alone():
    asked = {"freeze_batch_norm": Moment(step=9)}
    assert plan(asked=asked, max_epochs=8) == [(None, 9), (6, None)]


@pytest.mark.parametrize(
    ("moment", "now", "has_come"),
    [
        (Moment(), Moment(9, 99), False),
        (Moment(2), Moment(1, 99), False),
        (Moment(2), Moment(2, 0), True),
        (Moment(step=5), Moment(9, 4), False),
        (Moment(step=5), Moment(0, 5), True),
        (Moment(2, 5), Moment(0, 5), True),
        (Moment(2, 5), Moment(1, 4), False),
    ],
    ids=str,
)
def test_a_moment_has_come_by_either_count(moment, now, has_come):
    assert moment.has_come(now) is has_come


# -- in a fit -----------------------------------------------------------------------------------


class Endless(IterableDataset):
    def __iter__(self):
        while True:
            yield from images(96, 0)


def endless():
    return DataLoader(Endless(), batch_size=16), val_images()


class Followed(pl.Callback):
    """Takes down after each batch whether ranges and statistics have changed in it."""

    def __init__(self):
        self.ranges, self.statistics, self._before = [], [], None

    def on_train_batch_end(self, one, module, *_):
        ranges = one.callbacks[-1]._now.ranges["ranges"]
        now = torch.cat([ranges["low"], ranges["high"]]).clone(), module.net[1].running_mean.clone()
        if self._before is not None:
            for found, was, is_ in zip(
                (self.ranges, self.statistics), self._before, now, strict=True
            ):
                found.append(not torch.equal(was, is_))
        self._before = now


def changed(callback, **given):
    """Return how many steps made ranges and statistics; the first one is the begin of both."""
    followed = Followed()
    trained(callback, None, followed, **given)
    found = []
    for each in (followed.ranges, followed.statistics):
        assert each == sorted(each, reverse=True)  # once frozen, always frozen
        found.append(1 + sum(each))
    return found


STEPS = {"max_epochs": -1, "max_steps": 8}


def test_data_without_end_freeze_by_steps(workspace, caplog):
    caplog.set_level(logging.INFO)
    given = {**STEPS, "val_check_interval": 4, "check_val_every_n_epoch": None}
    assert changed(qat(workspace), data=endless(), **given) == [6, 4]
    assert "step 4: from here on the statistics of BatchNorm are frozen" in caplog.text
    assert "step 6: from here on the ranges of activations are frozen" in caplog.text


@pytest.mark.parametrize(
    ("given", "steps"),
    [
        ({"max_epochs": 9, "max_steps": 8}, [6, 4]),
        ({"max_epochs": 1}, [4, 3]),
        ({"max_epochs": 2}, [6, 6]),
        ({"max_epochs": 1, "accumulate_grad_batches": 2}, [4, 4]),
        ({"max_epochs": 1, "max_steps": 4}, [3, 2]),
    ],
    ids=str,
)
def test_where_steps_count_and_where_epochs(workspace, given, steps):
    """Six batches an epoch."""
    assert changed(qat(workspace), **given) == steps


def test_steps_that_are_asked_for(workspace):
    callback = qat(workspace, freeze_batch_norm_step=2, freeze_observers_step=5)
    assert changed(callback, max_epochs=2) == [5, 2]
    assert (callback.freeze_batch_norm_step, callback.freeze_observers_step) == (2, 5)


def test_a_quick_run_freezes_nothing_and_is_not_refused(workspace):
    callback = qat(workspace, freeze_batch_norm=3, freeze_observers_step=50)
    trained(callback, fast_dev_run=True)
    assert callback.result is not None


class Untrained(ConvLit):
    """Must not come to its first batch."""

    def training_step(self, batch, batch_idx):
        raise AssertionError("trained")


@pytest.mark.parametrize(
    ("asked", "given", "said"),
    [
        (
            {"freeze_observers_step": 8},
            STEPS,
            "`freeze_observers_step` is 8, and there are 8 steps: no step is left in which it would"
            " be frozen; train longer, freeze earlier, or leave it out for the default",
        ),
        (
            {"freeze_batch_norm_step": 12},
            {"max_epochs": 2},
            "`freeze_batch_norm_step` is 12, and there are 12 steps: no step is left",
        ),
        (
            {"freeze_observers_step": 0},
            STEPS,
            "`freeze_observers_step` is 0, and the training for int8 begins with step 0: the ranges"
            " of activations would never be learned; take a later one, or leave it out",
        ),
        (
            {"freeze_observers": 2},
            {"max_epochs": 9, "max_steps": 12},
            "`freeze_observers` is 2, an epoch that begins after 12 steps, and `max_steps` is 12:"
            " it would never be frozen; train longer, or freeze earlier; `freeze_observers_step` in"
            " place of it counts steps",
        ),
        (
            {"freeze_batch_norm": 1},
            {"data": endless(), **STEPS},
            "`freeze_batch_norm` is 1, and the training data have no length: `max_steps=8` may end"
            " the fit in its first epoch. Say by `limit_train_batches` how many batches an epoch"
            " has; `freeze_batch_norm_step` in place of it counts steps",
        ),
    ],
    ids=lambda given: given if isinstance(given, str) else " ".join(map(str, given)),
)
def test_what_would_come_too_late_or_too_early_is_refused(workspace, asked, given, said):
    callback = qat(workspace, **asked)
    with pytest.raises(ConfError) as caught:
        trained(callback, Untrained(), **given)
    assert said in str(caught.value)
    assert callback.result is None


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (
            {"freeze_observers_step": -1},
            "`freeze_observers_step` is `-1`; allowed: a step",
        ),
        ({"freeze_batch_norm_step": True}, "`freeze_batch_norm_step` is `True`; allowed: a step"),
        (
            {"freeze_observers": 1, "freeze_observers_step": 9},
            "`freeze_observers` is an epoch and `freeze_observers_step` a step: leave one of them",
        ),
    ],
    ids=str,
)
def test_arguments_that_cannot_be(asked, said):
    with pytest.raises(ConfError) as caught:
        qat(None, **asked)
    assert said in str(caught.value)


@pytest.mark.parametrize("asked", [{}, {"freeze_batch_norm_step": 3, "freeze_observers_step": 5}])
def test_a_fit_that_goes_on_ends_as_one_that_nobody_stopped(tmp_path, asked):
    """Within its only epoch, before and after things were frozen."""
    alike = DataLoader(ConcatDataset([images(16, 0)] * 8), batch_size=16)
    given = {"data": (alike, val_images()), "max_epochs": 1}
    ends = []
    for step in (None, 2, 4, 5, 7):
        folder = tmp_path / str(step)
        saved = checkpoints(folder, every_n_train_steps=1)
        path = None if step is None else next((tmp_path / "None").glob(f"*step={step}.ckpt"))
        callback = qat(folder / "ws", **asked)
        _, module = trained(callback, None, saved, ckpt_path=path and str(path), **given)
        ends.append((weights_of(module), ranges_in(folder / "last.ckpt"), callback.result.accuracy))
    for weights, ranges, accuracy in ends[1:]:
        assert same(weights, ends[0][0])
        assert same(ranges, ends[0][1])
        assert accuracy == ends[0][2]


def test_an_fp32_fit_that_goes_on_is_counted_from_there(tmp_path, workspace):
    saved = checkpoints(tmp_path / "saved")
    trainer(saved, max_epochs=1, enable_checkpointing=True).fit(
        ConvLit(), train_images(), val_images()
    )
    given = {"ckpt_path": saved.last_model_path, "max_epochs": -1, "max_steps": 14}
    assert changed(qat(workspace), **given) == [6, 4]  # of 8
    with pytest.raises(ConfError, match="is 6, and the training for int8 begins with step 6"):
        changed(qat(workspace, freeze_observers_step=6), **given)


def test_ranges_that_are_new_when_all_is_frozen_learn_for_an_epoch(tmp_path, workspace):
    """The YAML asks for something else than the checkpoint was trained with."""
    saved = checkpoints(tmp_path / "saved")
    asked = {"freeze_observers_step": 3, "freeze_batch_norm_step": 3}
    trained(qat(tmp_path / "first", **asked), None, saved, max_epochs=1)
    callback = qat(workspace, modules=["net"], **asked)
    with pytest.warns(UserWarning, match="the ranges of activations are learned anew"):
        found = changed(callback, ckpt_path=saved.last_model_path, max_epochs=3)
    assert found == [6, 1]
