"""Trainers that cannot be judged by are refused before any training, by name."""

import lightning.pytorch as pl
import pytest
from lightning.pytorch.strategies import (
    DeepSpeedStrategy,
    FSDPStrategy,
    ModelParallelStrategy,
    XLAStrategy,
)
from lightning.pytorch.strategies.single_xla import SingleDeviceXLAStrategy
from lit_scenes import Lit, conf, train_loader, trainer, val_loader
from users_world import kept

from lpot_lightning import quantize
from lpot_lightning.errors import ConfError, EvaluationError, QuantizationError


def refused(callback, workspace, kind, match, one, module):
    """Check that neither a fit nor `quantize` begins, and that nothing is left behind."""
    quantization = callback()
    with pytest.raises(kind, match=match):
        quantization.setup(one, module, "fit")
    with pytest.raises(kind, match=match):
        quantize(one, module, train_loader(), val_loader(), conf=conf(workspace))
    assert quantization.result is None
    assert not workspace.exists()


@pytest.mark.parametrize(
    "kind",
    [DeepSpeedStrategy, FSDPStrategy, ModelParallelStrategy, SingleDeviceXLAStrategy, XLAStrategy],
)
def test_strategies_that_split_the_model_or_keep_it_elsewhere(callback, workspace, kind):
    """Their packages and devices are not here: one that was never set up stands for them."""
    one = trainer()
    own, one._accelerator_connector.strategy = one.strategy, object.__new__(kind)
    match = f"`{kind.__name__}` .*: train with it, then quantize the checkpoint"
    refused(callback, workspace, QuantizationError, match, one, Lit())
    one._accelerator_connector.strategy = own


def test_barebones(callback, workspace):
    one, module = pl.Trainer(barebones=True, accelerator="cpu", devices=1), Lit()
    with kept(one, module):
        match = r"`Trainer\(barebones=True\)` logs nothing"
        refused(callback, workspace, EvaluationError, match, one, module)


class Untrained(Lit):
    """Must never be trained."""

    def training_step(self, batch, batch_idx):
        raise AssertionError("too late")


def test_validation_switched_off(callback, workspace):
    one = trainer(callback(), max_epochs=1, limit_val_batches=0)
    with pytest.raises(EvaluationError, match="leave `limit_val_batches` above 0"):
        one.fit(Untrained(), train_loader(), val_loader())
    assert not workspace.exists()


def test_no_step_or_no_data_to_validate(callback, workspace):
    class Blind(Untrained):
        validation_step = pl.LightningModule.validation_step

    for module, data, match in (
        (Blind(), (train_loader(),), "has no `validation_step`"),
        (Untrained(), (train_loader(),), "there is no validation data"),
    ):
        with pytest.raises(EvaluationError, match=match):
            trainer(callback(), max_epochs=1).fit(module, *data)
    assert not workspace.exists()


def test_two_callbacks(callback, workspace):
    one = trainer(callback(), callback(), max_epochs=1)
    with pytest.raises(ConfError, match="has 2 callbacks that quantize"):
        one.fit(Untrained(), train_loader(), val_loader())
    assert not workspace.exists()
