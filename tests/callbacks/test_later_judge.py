"""The user's metric of another model, when the run is over."""

from __future__ import annotations

import copy
import gc
import weakref

import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from lit_scenes import Lit, Points, conf, fitted, train_loader, trainer, val_loader
from users_world import kept

from lpot_lightning import quantize
from lpot_lightning.errors import ExportError
from lpot_lightning.module.copying import second_model


def hopeless(result):
    """Return a copy of the model that gives the same answer to everything."""
    model = second_model(result.model)
    vars(model.net)["forward"] = lambda x: torch.eye(3)[torch.zeros(len(x), dtype=torch.long)]
    return model


def test_after_a_fit_the_trainer_is_asked_again_and_is_as_before(callback, tmp_path):
    callback, module = callback(), Lit()
    logger = CSVLogger(tmp_path / "csv")
    one = fitted(callback, module, max_epochs=1, logger=logger, log_every_n_steps=1)
    judge = callback.result.origin.judge
    logged = tmp_path / "csv/lightning_logs/version_0/metrics.csv"
    before = logged.read_bytes()
    with kept(one, module):
        assert judge(second_model(callback.result.model)) == callback.result.accuracy == 1.0
        assert judge(hopeless(callback.result)) == pytest.approx(1 / 3)
    assert logged.read_bytes() == before


def test_all_of_the_validation_data_judges_and_a_limit_of_it(callback):
    class Counting(Lit):
        seen = 0

        def validation_step(self, batch, batch_idx):
            type(self).seen += 1
            super().validation_step(batch, batch_idx)

    callback = callback()
    one = fitted(callback, Counting(), limit_val_batches=2)
    Counting.seen = 0
    callback.result.origin.judge(second_model(callback.result.model))
    assert Counting.seen == 1 + 2  # one sets up the data
    assert one.limit_val_batches == 2


def test_a_datamodule_judges(callback):
    callback = callback()
    one = fitted(callback, datamodule=Points())
    data = one.datamodule
    assert callback.result.origin.judge(hopeless(callback.result)) == pytest.approx(1 / 3)
    assert one.datamodule is data


def test_the_modules_own_data_judge(callback):
    class Own(Lit):
        def train_dataloader(self):
            return train_loader()

        def val_dataloader(self):
            return val_loader()

    callback = callback()
    fit = trainer(callback)
    fit.fit(Own())
    assert callback.result.origin.judge(hopeless(callback.result)) == pytest.approx(1 / 3)


def test_after_quantize_the_trainer_may_be_nobody_elses(workspace):
    result = quantize(trainer(), Lit(), train_loader(), val_loader(), conf=conf(workspace))
    gc.collect()
    assert result.origin.judge(hopeless(result)) == pytest.approx(1 / 3)


def test_a_metric_that_a_checkpoint_watches_is_the_one(callback, tmp_path):
    class Both(Lit):
        def validation_step(self, batch, batch_idx):
            super().validation_step(batch, batch_idx)
            self.log("other", 7.0)

    callback = callback()
    saver = ModelCheckpoint(tmp_path / "kept", monitor="val_acc", mode="max")
    one = fitted(callback, Both(), others=(saver,), enable_checkpointing=True)
    assert callback.result.origin.judge(hopeless(callback.result)) == pytest.approx(1 / 3)
    assert one.callbacks.count(saver) == 1


def test_a_trainer_that_is_gone_is_told(callback):
    callback = callback()
    fitted(callback)
    result = callback.result
    assert isinstance(result.origin.judge._trainer, weakref.ref)
    result.origin.judge._trainer = lambda: None
    with pytest.raises(ExportError, match="the trainer that judges is gone: keep it until"):
        result.origin.judge(second_model(result.model))


def test_several_processes_are_refused(callback, monkeypatch):
    callback = callback()
    one = fitted(callback)
    monkeypatch.setattr(type(one), "world_size", 2)
    with pytest.raises(ExportError, match="has 2 processes, and one of them cannot judge alone"):
        callback.result.origin.judge(second_model(callback.result.model))


def test_a_copy_of_an_origin_has_no_judge(callback):
    callback = callback()
    fitted(callback)
    origin = copy.deepcopy(callback.result.origin)
    assert origin.judge is None
    assert len(origin.calls) == len(callback.result.origin.calls) == 4
