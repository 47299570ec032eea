"""What newcomers give to a fit that cannot be, how soon they are told, and in which words."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import lightning.pytorch as pl
import pytest
import torch
import torch.nn.functional as F
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from sensor_scenes import (
    Sensor,
    conf,
    fitted,
    quantization,
    quantized,
    train_loader,
    trainer,
    val_loader,
)

from lpot_lightning import LpotError, PruningCallback, QuantizationCallback

EPOCH = 6
"""Steps of one."""
SOON = {"target_sparsity": 0.5, "start_epoch": 0, "end_epoch": 10, "pruners": [{}]}
PRUNING = {"approach": {"weight_compression": SOON}}
BOTH = train_loader, val_loader


class Blind(Sensor):
    validation_step = pl.LightningModule.validation_step


class Silent(Sensor):
    def validation_step(self, batch, batch_idx):
        self(batch["x"])


class Undefined(Sensor):
    def validation_step(self, batch, batch_idx):
        self.log("val/f1", self(batch["x"]).mean() * torch.nan)


class OnlyLoss(Sensor):
    def validation_step(self, batch, batch_idx):
        self.log("val/loss", F.cross_entropy(self(batch["x"]), batch["y"]))


def watched_by(name: str) -> Callable[[], None]:
    return lambda: fitted(quantization(monitor=name))


WRONG: dict[str, tuple[Callable[[], object], int, list[str]]] = {
    "a monitor, nearly right": (watched_by("val_f1"), EPOCH, ["Did you mean `val/f1`?"]),
    "the end of a monitor": (watched_by("f1"), EPOCH, ["Did you mean `val/f1`?"]),
    "another monitor": (
        watched_by("accuracy"),
        EPOCH,
        ["`monitor` is `accuracy`, which the validation loop does not log", "logs `val/f1`, `val"],
    ),
    "a monitor of others": (
        watched_by("valid_accuracy"),
        EPOCH,
        ["`monitor` is `valid_accuracy`", "it logs `val/f1`, `val/loss`"],
    ),
    "several metrics and no monitor": (
        lambda: fitted(QuantizationCallback(conf()), num_sanity_val_steps=2),
        0,
        ["the validation loop logs `val/f1`, `val/loss`: say which one is the accuracy"],
    ),
    "no validation data": (
        lambda: fitted(quantization(), None, train_loader()),
        0,
        ["there is no validation data: pass `val_dataloaders`"],
    ),
    "no validation step": (
        lambda: fitted(quantization(), Blind()),
        0,
        ["`Blind` has no `validation_step`: the validation loop is what int8 models are judged"],
    ),
    "a validation that logs nothing": (
        lambda: fitted(quantization(), Silent()),
        EPOCH,
        ["logs nothing for the epoch: call `self.log('val_acc', …)` in `validation_step`"],
    ),
    "a metric that is no number": (
        lambda: fitted(quantization(), Undefined()),
        2 * EPOCH,
        ["`val/f1` is nan", "look at the weights, the validation data and the metric"],
    ),
    "modules that match none": (
        lambda: fitted(quantization(modules=["nett.*"])),
        0,
        ["`modules` has `nett.*`, which matches no module. Did you mean `net."],
    ),
    "an op that is none": (
        lambda: fitted(
            quantization(
                sections={"quantization": {"op_wise": {"heed": {"weight": {"dtype": ["fp32"]}}}}}
            )
        ),
        0,
        ["`quantization.op_wise.heed` matches no module. Did you mean `head`?"],
    ),
    "a loss of which nobody says whether less is better": (
        lambda: fitted(QuantizationCallback(conf()), OnlyLoss(), num_sanity_val_steps=2),
        0,
        ["`val/loss` is a plain number", "set `tuning.accuracy_criterion.higher_is_better`"],
    ),
    "a direction that the metric contradicts": (
        lambda: fitted(
            quantization(
                sections={
                    "tuning": {"accuracy_criterion": {"relative": 0.1, "higher_is_better": False}}
                }
            ),
            num_sanity_val_steps=2,
        ),
        0,
        ["whether a higher `val/f1` is better is contradicted", "says False, the metric itself"],
    ),
    "barebones": (
        lambda: pl.Trainer(barebones=True, accelerator="cpu", callbacks=[quantization()]).fit(
            Sensor(), *(one() for one in BOTH)
        ),
        0,
        ["`Trainer(barebones=True)` logs nothing", "leave it out"],
    ),
    "no validation batch": (
        lambda: fitted(quantization(), limit_val_batches=0),
        0,
        ["there is no validation data", "leave `limit_val_batches` above 0"],
    ),
    "two that quantize": (
        lambda: fitted(quantization(), others=[quantization()]),
        0,
        ["2 callbacks that quantize (QuantizationCallback, QuantizationCallback)", "keep one"],
    ),
    "a workspace where nothing can be": (
        lambda: fitted(quantization(sections={"tuning": {"workspace": {"path": "/proc/here"}}})),
        0,
        ["cannot write to the workspace `/proc/here`", "another one in `tuning.workspace.path`"],
    ),
    "fewer epochs than a pruning takes": (
        lambda: fitted(PruningCallback(conf(pruning=PRUNING), monitor="val/f1")),
        0,
        ["`end_epoch` is 10", "`max_epochs=11` or more, or let `end_epoch` be earlier"],
    ),
    "an int8 model to a fit": (
        lambda: trainer(max_epochs=1).fit(quantized(Path("good")).model, *(one() for one in BOTH)),
        0,
        ["an int8 model cannot be trained, it has no gradients: train the fp32 model"],
    ),
}


@pytest.mark.filterwarnings("ignore:You defined a `validation_step` but have no `val_dataloader`")
@pytest.mark.filterwarnings("ignore:You passed in a `val_dataloader` but have no")
@pytest.mark.parametrize(("give", "steps", "words"), WRONG.values(), ids=WRONG)
def test_what_is_said_puts_it_right_and_soon(give, steps, words):
    Sensor.steps = 0
    with pytest.raises(LpotError) as told:
        give()
    assert [word for word in words if word not in str(told.value)] == []
    assert Sensor.steps <= steps


class Mean(pl.Callback):
    """Logs what the steps return."""

    def on_validation_epoch_start(self, trainer, pl_module):
        self.found = []

    def on_validation_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.found.append(outputs)

    def on_validation_epoch_end(self, trainer, pl_module):
        pl_module.log("val/map", torch.stack(self.found).mean())


class Returning(Sensor):
    def validation_step(self, batch, batch_idx):
        return (self(batch["x"]).argmax(1) == batch["y"]).float().mean()


def test_a_metric_that_a_callback_logs():
    callback = quantization(monitor="val/map")
    fitted(callback, Returning(), others=[Mean()])
    assert callback.result.monitor == "val/map"


def test_early_stopping_on_the_loss_and_a_checkpoint_on_the_score():
    watching = [EarlyStopping("val/loss"), ModelCheckpoint(monitor="val/f1", mode="max")]
    callback = QuantizationCallback(conf())
    fitted(callback, others=watching, enable_checkpointing=True)
    assert callback.result.monitor == "val/f1"


@pytest.mark.filterwarnings("ignore:.*[Pp]rofiler.*")
def test_a_profiler():
    callback = quantization()
    fitted(callback, profiler="pytorch")
    assert callback.result.status is not None
