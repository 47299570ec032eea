"""Which weights are quantized where a callback averages them."""

import logging

import pytest
import torch
from lightning.pytorch.callbacks import (
    EarlyStopping,
    EMAWeightAveraging,
    ModelCheckpoint,
    StochasticWeightAveraging,
    WeightAveraging,
)
from lit_scenes import (
    KINDS,
    Lit,
    fitted,
    same,
    small_net,
    train_loader,
    trainer,
    val_loader,
    weights_of,
)
from pairs import paired
from torch import nn
from users_world import watched

from lpot_lightning.quantization.quantized_layer import QuantizedLayer


class Fresh(Lit):
    """Learns from the beginning, so that each epoch's weights are others."""

    def __init__(self, lr=0.05):
        super().__init__(lr)
        self.net = small_net()

    def validation_step(self, batch, batch_idx):
        super().validation_step(batch, batch_idx)
        self.log("epoch", float(self.current_epoch))


class Normed(Fresh):
    """Has a batch norm, for which SWA adds an epoch."""

    def __init__(self, lr=0.05):
        super().__init__(lr)
        self.net = nn.Sequential(small_net(), nn.BatchNorm1d(KINDS))


class Apart(Fresh):
    """Keeps a weight elsewhere in its checkpoints, and puts it back when one is loaded."""

    def on_save_checkpoint(self, checkpoint):
        checkpoint["apart"] = checkpoint["state_dict"].pop("net.0.weight")

    def on_load_checkpoint(self, checkpoint):
        checkpoint["state_dict"]["net.0.weight"] = checkpoint["apart"]


AVERAGES = {
    "swa": lambda: StochasticWeightAveraging(swa_lrs=0.05, swa_epoch_start=1),
    "average": lambda: WeightAveraging(),
    "ema": lambda: EMAWeightAveraging(decay=0.9),
}
each_average = pytest.mark.parametrize("average", AVERAGES.values(), ids=AVERAGES)
each_module = pytest.mark.parametrize("kind", [Fresh, Normed])
LOOSE = {"tuning": {"accuracy_criterion": {"absolute": 1.0}}}
BEFORE = "is from before the weights were averaged"


def drifted(callback, average, kind, saver, ckpt="best", first=False):
    """Fit three epochs; return the module's weights, the file's and the quantized ones."""
    torch.manual_seed(1)
    quantization = watched(callback(monitor="val_acc", ckpt=ckpt, **LOOSE))
    module, both = kind(), [average, saver]
    callbacks = [quantization, *both] if first else [*both, quantization]
    one = trainer(*callbacks, max_epochs=3, enable_checkpointing=True)
    one.fit(module, train_loader(), val_loader())
    assert quantization.watched == 1
    assert len(quantization.result.int8_ops) == 2
    state = torch.load(quantization.result.workspace / "best_quantized.ckpt", weights_only=True)[
        "state_dict"
    ]
    path = saver.last_model_path if ckpt == "last" else saver.best_model_path
    (tested,) = trainer().test(quantization.result.model, val_loader(), verbose=False)
    assert tested["val_acc"] == pytest.approx(quantization.result.accuracy)
    return weights_of(module), torch.load(path, weights_only=True)["state_dict"], state


@pytest.mark.parametrize(
    ("average", "kind", "first"), paired(list(AVERAGES), [Fresh, Normed], [True, False])
)
def test_without_a_monitor_the_averaged_weights_are_quantized(
    callback, tmp_path, average, kind, first
):
    saver = ModelCheckpoint(tmp_path / "kept")
    module, _, quantized = drifted(callback, AVERAGES[average](), kind, saver, first=first)
    assert same(quantized, module)


@each_average
@each_module
def test_with_a_monitor_the_best_checkpoint_wins(callback, tmp_path, average, kind):
    saver = ModelCheckpoint(tmp_path / "kept", monitor="epoch", mode="min")
    module, best, quantized = drifted(callback, average(), kind, saver)
    assert same(quantized, best)
    assert not same(quantized, module)


def test_the_best_checkpoint_is_loaded_by_the_hook_of_the_module(callback, tmp_path):
    saver = ModelCheckpoint(tmp_path / "kept", monitor="epoch", mode="min")
    quantization = callback(monitor="val_acc", ckpt="best", **LOOSE)
    one = trainer(saver, quantization, max_epochs=2, enable_checkpointing=True)
    one.fit(module := Apart(), train_loader(), val_loader())
    kept = torch.load(saver.best_model_path, weights_only=True)
    (weight,) = (
        part.kernel.rounded
        for name, part in quantization.result.model.named_modules()
        if isinstance(part, QuantizedLayer) and name.startswith("net.0.")
    )
    assert weight.stands_for(kept["apart"])
    assert not weight.stands_for(module.net[0].weight)


@each_average
def test_current_weights_are_the_averaged_ones(callback, tmp_path, average):
    saver = ModelCheckpoint(tmp_path / "kept", monitor="epoch", mode="min")
    module, _, quantized = drifted(callback, average(), Normed, saver, ckpt="current")
    assert same(quantized, module)


def test_the_last_checkpoint_is_taken_at_its_word(callback, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    saver = ModelCheckpoint(tmp_path / "kept", save_last=True)
    module, last, quantized = drifted(callback, AVERAGES["swa"](), Fresh, saver, ckpt="last")
    assert same(quantized, last)
    assert not same(quantized, module)
    assert f"{BEFORE}; for the averaged ones: `ckpt='current'`" in caplog.text


@pytest.mark.parametrize(
    ("average", "monitor", "said"),
    [
        ("swa", None, f"{BEFORE}: quantizing the current, averaged ones"),
        ("swa", "epoch", f"{BEFORE}; for the averaged ones: `ckpt='current'`"),
        ("ema", None, ""),
        ("ema", "epoch", ""),
    ],
)
def test_what_is_quantized_is_said(callback, tmp_path, caplog, average, monitor, said):
    caplog.set_level(logging.INFO)
    saver = ModelCheckpoint(tmp_path / "kept", monitor=monitor)
    drifted(callback, AVERAGES[average](), Fresh, saver)
    assert (BEFORE in caplog.text) == bool(said)
    assert said in caplog.text


def test_a_training_that_stopped_before_the_average_is_quantized_as_saved(
    callback, tmp_path, caplog
):
    caplog.set_level(logging.INFO)
    saver = ModelCheckpoint(tmp_path / "kept")
    stopping = EarlyStopping("epoch", patience=1, mode="min")
    swa = StochasticWeightAveraging(swa_lrs=0.05, swa_epoch_start=1)
    quantization, module = callback(monitor="val_acc", **LOOSE), Fresh()
    others = (stopping, swa, saver)
    fitted(quantization, module, others=others, enable_checkpointing=True, max_epochs=9)
    assert stopping.stopped_epoch == 1
    assert BEFORE not in caplog.text


@each_average
@each_module
def test_the_training_is_the_same_with_and_without_us(callback, tmp_path, average, kind):
    def trained(*ours):
        torch.manual_seed(1)
        module = kind()
        one = trainer(average(), *ours, max_epochs=3)
        one.fit(module, train_loader(), val_loader())
        return weights_of(module), one.global_step, one.current_epoch, one.max_epochs

    alone, ours = trained(), trained(callback(monitor="val_acc", **LOOSE))
    assert same(alone[0], ours[0])
    assert alone[1:] == ours[1:]
