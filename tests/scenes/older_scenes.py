"""A module, its data and Trainers of `pytorch_lightning`, the older name of Lightning."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from lit_scenes import KINDS, _trained, points, small_net
from torch.utils.data import DataLoader
from torchmetrics.classification import MulticlassAccuracy

pl = pytest.importorskip("pytorch_lightning")


class OlderLit(pl.LightningModule):
    """As ``Lit``."""

    def __init__(self, lr: float = 0.0) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.net = small_net()
        self.net.load_state_dict(_trained())
        self.acc = MulticlassAccuracy(KINDS, average="micro")

    def forward(self, x):
        return self.net(x)

    def training_step(self, batch, batch_idx):
        return F.cross_entropy(self.net(batch[0]), batch[1])

    def validation_step(self, batch, batch_idx):
        self.acc(self.net(batch[0]), batch[1])
        self.log("val_acc", self.acc)

    test_step = validation_step

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=self.hparams.lr)


class OlderPoints(pl.LightningDataModule):
    """As ``Points``."""

    def setup(self, stage):
        self.train, self.val = points(120), points(48, seed=1)

    def train_dataloader(self):
        return DataLoader(self.train, batch_size=16, shuffle=True)

    def val_dataloader(self):
        return DataLoader(self.val, batch_size=16)

    test_dataloader = val_dataloader


def older_trainer(*callbacks: Any, **given: Any) -> Any:
    """Return a Trainer that does nothing but what is asked for."""
    quiet = dict.fromkeys(
        ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False
    )
    usual = {"max_epochs": 1, "accelerator": "cpu", "num_sanity_val_steps": 0}
    return pl.Trainer(callbacks=list(callbacks), **{**quiet, **usual, **given})
