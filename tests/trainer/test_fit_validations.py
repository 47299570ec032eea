"""What a fit has judged is not judged again."""

import copy
import logging
import random
from dataclasses import dataclass

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lit_scenes import Lit, LossLit, points, train_loader, trainer, val_loader
from torch import nn
from torch.utils.data import DataLoader

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


def _other_private(module):
    module._scale = -1.0


def _other_tensor(module):
    module.prior = torch.ones(3)


def _other_object(module):
    module.hparams.anything = {"table": np.ones(3)}


def _other_long_list(module):
    module.table = [0.0] * 300


@pytest.mark.parametrize(
    "touch",
    [
        _other_weights,
        _other_constant,
        _other_private,
        _other_tensor,
        _other_object,
        _other_long_list,
    ],
)
def test_what_is_another_model_at_the_end_is_judged(callback, touch):
    assert passes(callback(), None, Touching(touch)) == 1


def test_data_in_another_order_each_time_are_no_measure(callback):
    assert passes(callback(), val=val_loader(shuffle=True)) == 1


@dataclass
class Batch:
    x: torch.Tensor
    y: torch.Tensor


def _batch(items):
    return Batch(*map(torch.stack, zip(*items, strict=True)))


class OfObjects(Lit):
    def training_step(self, batch, batch_idx):
        return super().training_step((batch.x, batch.y), batch_idx)

    def validation_step(self, batch, batch_idx):
        self.acc(self.net(batch.x), batch.y)
        self.log("val_acc", self.acc, batch_size=len(batch.x))


@pytest.mark.parametrize("shuffle", [False, True])
def test_what_is_in_a_batch_of_a_class_of_the_users_is_seen(callback, shuffle):
    train = train_loader(collate_fn=_batch)
    val = val_loader(collate_fn=_batch, shuffle=shuffle)
    quantization = callback()
    trainer(quantization, max_epochs=2).fit(OfObjects(0.01), train, val)
    result = quantization.result
    assert result.evaluations - len(result.trials) == shuffle


@pytest.mark.parametrize(
    "draw", [lambda: torch.rand(1), lambda: np.random.rand(1), lambda: random.random()]
)
def test_a_step_that_draws_random_numbers_measures_another_model_each_time(callback, draw):
    class Draws(Lit):
        def validation_step(self, batch, batch_idx):
            draw()
            super().validation_step(batch, batch_idx)

    assert passes(callback(), Draws(0.01)) == 1


def test_a_buffer_of_another_kind_ends_no_fit(callback):
    module = Lit(0.01)
    module.register_buffer("table", torch.eye(3).to_sparse(), persistent=False)
    assert passes(callback(), module) == 1


@pytest.mark.parametrize("shuffle", [False, True])
def test_after_one_validation_alone_the_first_batch_shows_whether_its_data_come_again(
    callback, shuffle
):
    val = val_loader(shuffle=shuffle)
    assert passes(callback(), val=val, max_epochs=1, num_sanity_val_steps=0) == shuffle


def test_the_first_batch_alone_is_no_proof_where_others_have_differed(callback):
    class FirstOnly(torch.utils.data.Sampler):
        def __iter__(self):
            return iter([*range(16), *(torch.randperm(32) + 16).tolist()])

        def __len__(self):
            return 48

    assert passes(callback(), val=val_loader(sampler=FirstOnly())) == 1


def test_a_part_of_the_data_is_another_measure(callback):
    assert passes(callback(evaluation={"accuracy": {"iteration": 1}})) == 1


def test_a_callback_that_may_log_the_metric_is_sought_by_a_pass(callback):
    class Logs(pl.Callback):
        def on_validation_epoch_end(self, trainer, pl_module):
            pl_module.log("val_of_mine", 1.0)

    assert passes(callback(monitor="val_of_mine"), None, Logs()) > 0


def test_other_precisions_are_judged_in_float32(callback):
    assert passes(callback(), precision="bf16-mixed") == 1


@pytest.mark.parametrize(("seed", "spent"), [(1, 0), (5, 1)])
def test_a_fit_that_goes_on_knows_the_data_of_before(callback, tmp_path, seed, spent):
    one = trainer(callback(), max_epochs=2)
    one.fit(Lit(0.0), train_loader(), val_loader())
    one.save_checkpoint(tmp_path / "last.ckpt")
    again = callback()
    two = trainer(again, max_epochs=3)
    other = DataLoader(points(48, seed=seed), batch_size=16)
    two.fit(Lit(0.0), train_loader(), other, ckpt_path=tmp_path / "last.ckpt")
    assert again.result.evaluations - len(again.result.trials) == spent


@pytest.mark.parametrize(("seed", "spent"), [(1, 0), (5, 1)])
def test_a_fit_that_is_over_looks_at_its_first_batch_again(callback, tmp_path, seed, spent):
    one = trainer(callback(), max_epochs=2)
    one.fit(Lit(0.01), train_loader(), val_loader())
    one.save_checkpoint(tmp_path / "last.ckpt")
    again = callback()
    other = DataLoader(points(48, seed=seed), batch_size=16)
    two = trainer(again, max_epochs=2)
    two.fit(Lit(0.01), train_loader(), other, ckpt_path=tmp_path / "last.ckpt")
    assert again.result.evaluations - len(again.result.trials) == spent


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
