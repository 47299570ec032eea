"""What a fit has judged is not judged again."""

import copy
import logging

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lit_scenes import Lit, LossLit, train_loader, trainer, val_loader
from torch import nn

TAKEN = "was judged by the fit's own validation of epoch"


def passes(quantization, module=None, *callbacks, val=None, **given):
    """Fit, and return how many passes the fp32 model was judged in by the run."""
    one = trainer(quantization, *callbacks, **{"max_epochs": 2, **given})
    one.fit(module or Lit(0.01), train_loader(), val or val_loader())
    result = quantization.result
    return result.evaluations - sum(trial.score.evaluations for trial in result.trials)


def test_the_last_validation_stands_for_the_baseline(callback, caplog):
    with caplog.at_level(logging.INFO):
        assert passes(callback()) == 0
    assert f"{TAKEN} 1: that is taken, and no pass is spent" in caplog.text


def test_it_is_what_a_pass_would_have_found(callback, tmp_path):
    quantization, module = callback(monitor="val_hits"), LossLit(0.01)
    assert passes(quantization, module) == 0
    (found,) = trainer().validate(copy.deepcopy(module), val_loader(), verbose=False)
    assert found[quantization.result.monitor] == quantization.result.baseline


def test_of_the_best_checkpoint_the_validation_of_its_epoch_is_taken(callback, caplog, tmp_path):
    class Worse(Lit):
        def on_train_epoch_end(self):
            if self.current_epoch == 1:
                nn.init.zeros_(self.net[2].weight)

        def on_train_epoch_start(self):
            if self.current_epoch == 2:
                nn.init.zeros_(self.net[2].weight)

    best = ModelCheckpoint(tmp_path / "kept", monitor="val_acc", mode="max")
    with caplog.at_level(logging.INFO):
        given = {"max_epochs": 3, "enable_checkpointing": True}
        assert passes(callback(), Worse(0.01), best, **given) == 0
    assert f"{TAKEN} 0" in caplog.text


class Touching(pl.Callback):
    def __init__(self, touch):
        self.touch = touch

    def on_train_end(self, trainer, pl_module):
        self.touch(pl_module)


def _other_weights(module):
    with torch.no_grad():
        module.net[0].bias.add_(1e-3)


def _other_constant(module):
    module.net[1].inplace = True


@pytest.mark.parametrize("touch", [_other_weights, _other_constant])
def test_what_is_another_model_at_the_end_is_judged(callback, touch):
    assert passes(callback(), None, Touching(touch)) == 1


def test_data_in_another_order_each_time_are_no_measure(callback):
    assert passes(callback(), val=val_loader(shuffle=True)) == 1


def test_one_validation_alone_does_not_show_that_its_data_come_again(callback):
    assert passes(callback(), max_epochs=1, num_sanity_val_steps=0) == 1
    assert passes(callback(), max_epochs=1, num_sanity_val_steps=1) == 0


def test_a_part_of_the_data_is_another_measure(callback):
    assert passes(callback(evaluation={"accuracy": {"iteration": 1}})) == 1


def test_a_callback_that_may_log_the_metric_is_sought_by_a_pass(callback):
    class Logs(pl.Callback):
        def on_validation_epoch_end(self, trainer, pl_module):
            pl_module.log("val_of_mine", 1.0)

    assert passes(callback(monitor="val_of_mine"), None, Logs()) > 0


def test_other_precisions_are_judged_in_float32(callback):
    assert passes(callback(), precision="bf16-mixed") == 1


def test_a_fit_that_goes_on_has_it_in_its_checkpoint(callback, tmp_path, caplog):
    one = trainer(callback(), max_epochs=2)
    one.fit(Lit(0.01), train_loader(), val_loader())
    one.save_checkpoint(tmp_path / "last.ckpt")
    again = callback()
    two = trainer(again, max_epochs=2)
    with caplog.at_level(logging.INFO):
        two.fit(Lit(0.01), train_loader(), val_loader(), ckpt_path=tmp_path / "last.ckpt")
    assert again.result.evaluations == one.callbacks[0].result.evaluations
    assert f"{TAKEN} 1" in caplog.text


@pytest.mark.parametrize("damage", [3, {"last": 3}, {"last": {"model": "x"}}])
def test_a_damaged_record_costs_a_pass_and_no_fit(callback, tmp_path, damage):
    one = trainer(callback(), max_epochs=2)
    one.fit(Lit(0.01), train_loader(), val_loader())
    one.save_checkpoint(tmp_path / "last.ckpt")
    saved = torch.load(tmp_path / "last.ckpt", weights_only=True)
    saved["lpot_lightning"]["validations"] = damage
    torch.save(saved, tmp_path / "last.ckpt")
    again = callback()
    with pytest.warns(UserWarning, match="is damaged: the fp32 model is judged anew"):
        trainer(again, max_epochs=2).fit(
            Lit(0.01), train_loader(), val_loader(), ckpt_path=tmp_path / "last.ckpt"
        )
    assert again.result.evaluations == 2.0
