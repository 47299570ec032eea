"""Batches follow the module, wherever the training was."""

import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.strategies import SingleDeviceStrategy
from lit_scenes import Lit, conf, train_loader, trainer, val_loader
from users_world import kept

from lpot_lightning import quantize
from tests.whole_runs.test_trainer_zoo import quantized


class Elsewhere(SingleDeviceStrategy):
    """A device that is no CPU, and holds nothing but shapes, once the training is over."""

    def __init__(self):
        super().__init__(device=torch.device("cpu"))

    def teardown(self):
        super().teardown()
        self._root_device = torch.device("meta")

    def batch_to_device(self, batch, device=None, dataloader_idx=0):
        assert self.root_device.type == "cpu", "the user's strategy was asked for a batch"
        return super().batch_to_device(batch, device, dataloader_idx)

    def validation_step(self, *args, **kwargs):
        assert self.root_device.type == "cpu", "the user's strategy was asked for a step"
        return super().validation_step(*args, **kwargs)


class Placing(Lit):
    """Makes tensors where it is, in all the ways there are."""

    def __init__(self, lr=0.01):
        super().__init__(lr)
        self.register_buffer("scale", torch.ones(3))
        self.plain = [torch.ones(3)]

    def validation_step(self, batch, batch_idx):
        device = self.device
        assert device == batch[0].device
        assert self.trainer.strategy.root_device == device
        logits = self.net(batch[0].to(device)) * self.scale
        logits = logits + torch.zeros(3, device=device) + torch.zeros_like(logits)
        logits = logits + torch.zeros(3, device=self.trainer.strategy.root_device)
        logits = logits + torch.zeros(3).type_as(logits) * self.plain[0].to(device)
        self.acc(logits, batch[1].to(self.acc.device))
        self.log("val_acc", self.acc)

    test_step = validation_step


class Transferring(Placing):
    """Moves batches by itself."""

    def transfer_batch_to_device(self, batch, device, dataloader_idx):
        assert device == self.device
        return [one.to(device) for one in batch]

    def on_after_batch_transfer(self, batch, dataloader_idx):
        assert batch[0].device == self.device
        return batch


def elsewhere(**given):
    return {"strategy": Elsewhere(), "accelerator": "cpu", **given}


@pytest.mark.parametrize("kind", [Lit, Placing, Transferring])
def test_batches_follow_the_module(callback, kind):
    one = quantized(callback(), kind(lr=0.01), **elsewhere(num_sanity_val_steps=1))
    assert one.strategy.root_device.type == "meta"


@pytest.mark.parametrize("precision", ["bf16-mixed", "bf16-true"])
def test_so_they_do_in_another_precision(callback, precision):
    quantized(callback(), Lit(lr=0.01), **elsewhere(precision=precision))


def test_the_best_checkpoint_is_read_to_the_cpu(callback, tmp_path):
    saver = ModelCheckpoint(tmp_path / "kept", monitor="val_acc", mode="max")
    given = elsewhere(enable_checkpointing=True)
    quantized(callback(), Placing(lr=0.01), others=(saver,), **given)


@pytest.mark.parametrize("kind", [Placing, Transferring])
def test_a_trained_model_is_quantized_on_the_cpu(workspace, kind):
    one, module = trainer(**elsewhere()), kind()
    one.strategy._root_device = torch.device("meta")
    with kept(one, module):
        result = quantize(one, module, train_loader(), val_loader(), conf=conf(workspace))
    assert (result.status, result.accuracy) == ("met", 1.0)
    assert result.model.device.type == "cpu"
