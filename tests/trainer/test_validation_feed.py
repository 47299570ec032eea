"""What a step sees in a pass that only shows it a few batches."""

from __future__ import annotations

import pytest
import torch
from lit_scenes import Lit, conf, fitted, points, train_loader, trainer, val_loader
from qat_scenes import APPROACH
from torch.utils.data import DataLoader

from lpot_lightning import QATCallback, QuantizationCallback, quantize
from lpot_lightning.conf.reader import read_conf
from lpot_lightning.trainer.session import Session


class Gathering(Lit):
    """Holds all answers against all labels when the epoch ends."""

    def __init__(self):
        super().__init__()
        self.answers, self.ends = [], 0
        self.register_buffer("labels", points(48, seed=1).tensors[1])

    def validation_step(self, batch, batch_idx):
        self.answers.append(self.net(batch[0]).argmax(1))

    def on_validation_epoch_end(self):
        answers = torch.cat(self.answers)
        self.answers.clear()
        self.log("val_acc", (answers == self.labels).float().mean())


def test_the_end_of_an_epoch_comes_where_all_of_the_data_were_seen(workspace):
    callback = QuantizationCallback(conf(workspace))
    fitted(callback, Gathering(), max_epochs=1, num_sanity_val_steps=0)
    result = callback.result
    again = trainer().validate(result.model, val_loader(), verbose=False)[0]["val_acc"]
    assert again == pytest.approx(result.accuracy)
    assert not result.model.answers


class Episodes(Lit):
    """Takes a batch apart into groups, so that it has to be whole."""

    def validation_step(self, batch, batch_idx):
        groups = self.net(batch[0]).view(3, -1, 3)
        self.acc(groups.flatten(0, 1), batch[1])
        self.log("val_acc", self.acc)


def test_a_batch_is_whole_where_its_first_samples_are_not_enough(workspace):
    loaders = DataLoader(points(144), 48), DataLoader(points(48, seed=1), 48)
    result = quantize(trainer(), Episodes(), *loaders, conf=conf(workspace))
    assert result.status == "met"


class Asking(Lit):
    """Looks at the data set that it is validated on."""

    def validation_step(self, batch, batch_idx):
        assert len(self.trainer.val_dataloaders.dataset) == 48
        super().validation_step(batch, batch_idx)


class AskingEach(Lit):
    def validation_step(self, batch, batch_idx, dataloader_idx=0):
        loaders = self.trainer.val_dataloaders
        assert len(loaders[dataloader_idx].dataset) == (48, 24)[dataloader_idx]
        if dataloader_idx == 0:
            super().validation_step(batch, batch_idx)


def test_a_step_finds_the_users_loaders(workspace):
    callback = QuantizationCallback(conf(workspace))
    fitted(callback, Asking(), max_epochs=1)
    assert callback.result.status == "met"


def test_so_it_does_with_several(workspace):
    several = [val_loader(), val_loader(24)]
    result = quantize(trainer(), AskingEach(), train_loader(), several, conf=conf(workspace))
    assert result.status == "met"


class Following(Lit):
    """Relies, after the end of an epoch, on what it made there."""

    def on_validation_epoch_end(self):
        self.done = True

    def on_validation_end(self):
        assert self.done

    def on_validation_model_train(self):
        del self.done
        self.train()


@pytest.mark.parametrize("kind", [QuantizationCallback, QATCallback])
def test_hooks_that_follow_the_end_of_an_epoch_come_with_it(workspace, kind):
    callback = kind(conf(workspace, quantization=APPROACH if kind is QATCallback else {}))
    one = trainer(callback, max_epochs=1, num_sanity_val_steps=0)
    one.fit(Following(), train_loader(), val_loader())
    assert callback.result.status == "met"


@pytest.mark.parametrize("module", [Asking, AskingEach])
def test_before_the_first_batch_of_a_fit_the_loaders_are_there_as_well(workspace, module):
    callback = QATCallback(conf(workspace, quantization=APPROACH))
    loaders = val_loader() if module is Asking else [val_loader(), val_loader(24)]
    trainer(callback, max_epochs=1).fit(module(), train_loader(), loaders)
    assert callback.result.status == "met"


class PerBatch(Lit):
    """Has something for each batch of the data that it was made for."""

    def __init__(self):
        super().__init__()
        self.sizes, self.steps = [16, 0, 0], 0

    def validation_step(self, batch, batch_idx):
        self.steps += 1
        if len(batch[0]) != self.sizes[batch_idx]:
            raise ValueError(f"this is not batch {batch_idx}")


def test_a_batch_that_is_timed_again_is_still_the_first_one(workspace):
    found = []

    class Times(Lit):
        def on_validation_end(self):
            session = Session(self.trainer, PerBatch(), [])
            with session.at_work(read_conf(conf(workspace))) as work:
                found.extend(work.feed(calib="val").step_seconds(work.model(), 5))

    trainer().validate(Times(), val_loader(), verbose=False)
    assert len(found) == 5
    assert min(found) > 0
