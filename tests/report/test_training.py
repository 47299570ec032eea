"""How a training went."""

import math

from report_scenes import tuning

from lpot_lightning.report.training import training_section
from lpot_lightning.training_log import EpochLog, FrozenPart, TrainingLog


def test_losses_accuracies_and_frozen_epochs_are_shown():
    epochs = tuple(EpochLog(epoch=n, loss=1 / (n + 1), batches=4, accuracy=n / 4) for n in range(4))
    log = TrainingLog(epochs, (FrozenPart("ranges of activations", 3, 12),))
    found = training_section(tuning(training=log))
    assert "epoch 3: mean training loss 0.2500" in found
    assert "epoch 3: val/acc of the validation 0.7500" in found
    assert "The ranges of activations are frozen from epoch 3, step 12 on." in found


def test_a_training_that_returned_no_loss_has_the_other_chart_only():
    log = TrainingLog((EpochLog(epoch=0, accuracy=0.5), EpochLog(epoch=1, accuracy=math.inf)))
    found = training_section(tuning(training=log))
    assert "mean training loss" not in found
    assert "of the validation" in found


def test_without_a_training_there_is_no_section():
    assert training_section(tuning()) is None
    assert training_section(tuning(training=TrainingLog())) is None
