"""How long a fit is, as far as it is known before its first batch."""

import lightning.pytorch as pl
import pytest
from lightning.pytorch.callbacks import GradientAccumulationScheduler
from lit_scenes import Lit, points, train_loader, trainer, val_loader
from sparse_scenes import ByHand
from torch.utils.data import DataLoader, IterableDataset

from lpot_lightning.callbacks.length import Length


class Unsized(IterableDataset):
    def __iter__(self):
        return iter(points(64))


class Measured(pl.Callback):
    """Takes the length down when the first epoch begins."""

    def __init__(self):
        self.length = None

    def on_train_epoch_start(self, one, module):
        self.length = self.length or Length.of(one, module)


def length(module=None, *others, data=None, **given):
    measured, module = Measured(), Lit() if module is None else module
    one = trainer(measured, *others, **{"max_epochs": 2, **given})
    one.fit(module, train_loader(64) if data is None else data, val_loader(24))
    return measured.length


@pytest.mark.parametrize(
    ("given", "per_epoch", "steps"),
    [
        ({}, 4, 8),
        ({"accumulate_grad_batches": 3}, 2, 4),
        ({"limit_train_batches": 3}, 3, 6),
        ({"max_steps": 5}, 4, 5),
        ({"max_steps": 9}, 4, 8),
        ({"max_epochs": -1, "max_steps": 5}, 4, 5),
        ({"reload_dataloaders_every_n_epochs": 1}, None, None),
        ({"reload_dataloaders_every_n_epochs": 1, "max_steps": 5}, None, 5),
    ],
    ids=str,
)
def test_steps_of_a_fit(given, per_epoch, steps):
    found = length(**given)
    assert (found.per_epoch, found.steps) == (per_epoch, steps)
    assert not found.is_endless


def test_data_without_length():
    data = DataLoader(Unsized(), batch_size=16)
    found = length(data=data, max_epochs=-1, max_steps=5)
    assert (found.per_epoch, found.steps) == (None, 5)
    assert found.is_endless
    found = length(data=data)
    assert (found.steps, found.is_endless) == (None, True)
    assert length(data=data, limit_train_batches=3).steps == 6


def test_steps_that_are_not_known():
    assert length(ByHand()).per_epoch is None
    accumulates = GradientAccumulationScheduler({0: 1, 1: 2})
    assert length(None, accumulates).per_epoch is None


def test_the_first_step_of_an_epoch():
    one = Length(
        epoch=2, step=11, max_epochs=5, max_steps=None, per_epoch=4, within=3, is_endless=False
    )
    assert [one.first_step_of(epoch) for epoch in (2, 3, 5)] == [8, 12, 20]
    assert one.steps == 20
