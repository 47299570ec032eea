"""Losses are those that the training step returned, whatever Lightning made of them."""

import torch

from lpot_lightning.callbacks.freezing import Moment
from lpot_lightning.callbacks.training_notes import TrainingNotes


def test_losses_are_meant_over_the_batches_of_an_epoch():
    notes = TrainingNotes()
    for epoch, loss in ((0, 1.0), (0, 2.0), (1, 0.5)):
        notes.note_loss(epoch, {"loss": torch.tensor(loss)}, 1)
    assert [(one.epoch, one.loss, one.batches) for one in notes.log.epochs] == [
        (0, 1.5, 2),
        (1, 0.5, 1),
    ]


def test_a_loss_that_was_divided_is_whole_again():
    notes = TrainingNotes()
    notes.note_loss(0, {"loss": torch.tensor(0.25)}, 4)
    assert notes.log.epochs[0].loss == 1.0


def test_a_step_that_returned_nothing_or_no_number_says_nothing():
    notes = TrainingNotes()
    for outputs in (None, {}, {"loss": None}, {"loss": torch.zeros(3)}, 3.0):
        notes.note_loss(0, outputs, 1)
    assert notes.log.epochs == ()


def test_a_fit_that_goes_on_keeps_what_was_noted():
    first = TrainingNotes()
    first.note_loss(0, torch.tensor(1.0), 1)
    first.note_frozen("ranges of activations", Moment(0, 3))
    second = TrainingNotes.of(first.log.to_dict())
    second.note_frozen("ranges of activations", Moment(2, 9))
    second.note_loss(1, torch.tensor(3.0), 1)
    assert [one.loss for one in second.log.epochs] == [1.0, 3.0]
    assert [one.epoch for one in second.log.frozen] == [0]
    assert TrainingNotes.of(None).log.epochs == ()
