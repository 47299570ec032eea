"""Notes of a training: means of losses, moments of freezing, growing sparsity."""

import math

import pytest

from lpot_lightning.training_log import (
    EpochLog,
    EpochNotes,
    FrozenPart,
    SparsityLog,
    SparsityNotes,
    TrainingLog,
)


def sparse(at, **layers):
    return SparsityLog(unit="epoch", at=at, layers=layers)


def test_an_epoch_that_goes_on_in_another_fit_has_the_mean_of_all_its_batches():
    first = EpochNotes()
    first.note_losses(0, 4.0, 2)
    second = EpochNotes(first.epochs)
    second.note_losses(0, 1.0, 2)
    second.note_accuracy(0, 0.5)
    assert second.epochs == (EpochLog(epoch=0, loss=1.25, batches=4, accuracy=0.5),)


def test_a_loss_that_is_not_finite_is_none_and_stays_so():
    notes = EpochNotes()
    notes.note_losses(0, math.nan, 1)
    notes.note_losses(0, 1.0, 1)
    notes.note_accuracy(1, math.inf)
    assert [one.loss for one in notes.epochs] == [None, None]
    assert notes.epochs[1].accuracy is None


def test_only_growth_that_can_be_seen_is_noted():
    notes = SparsityNotes()
    for at, share in enumerate((0.0, 0.001, 0.3, 0.301)):
        notes.note(sparse(at, a=share), last=False)
    notes.note(sparse(9, a=0.302), last=True)
    assert [one.at for one in notes.noted] == [0, 2, 9]


def test_it_is_read_as_it_was():
    log = TrainingLog(
        (EpochLog(epoch=1, loss=0.5, batches=3),), (FrozenPart("x", 1, 2),), (sparse(0, a=0.5),)
    )
    assert TrainingLog.from_dict(log.to_dict()) == log
    with pytest.raises(TypeError):
        TrainingLog.from_dict({**log.to_dict(), "epochs": [{"epoch": "1"}]})
    with pytest.raises(KeyError):
        TrainingLog.from_dict({"epochs": []})
