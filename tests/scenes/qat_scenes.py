"""A small convolutional LightningModule with BatchNorm, and fits that train it for int8."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
import torch.nn.functional as F
from lightning.pytorch.callbacks import ModelCheckpoint
from lit_scenes import Lit, conf, trainer
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from torchmetrics.classification import MulticlassAccuracy

from lpot_lightning import QATCallback

APPROACH = {"approach": "quant_aware_training"}
KINDS = 4


def images(count: int, seed: int) -> TensorDataset:
    """Return noise with one bright quarter, which is the label."""
    draw = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % KINDS
    pictures = 0.6 * torch.randn(count, 1, 8, 8, generator=draw)
    for number, label in enumerate(labels.tolist()):
        pictures[number, :, 4 * (label // 2) :, 4 * (label % 2) :][:, :4, :4] += 1
    return TensorDataset(pictures, labels)


def train_images(count: int = 96, **given: Any) -> DataLoader:
    """Return batches in an order that depends on nothing."""
    return DataLoader(images(count, 0), **{"batch_size": 16, **given})


def val_images(count: int = 48, **given: Any) -> DataLoader:
    return DataLoader(images(count, 1), **{"batch_size": 16, **given})


class ConvLit(Lit):
    """Convolutions with norms, a sum and dropout that is a layer."""

    def __init__(self, lr: float = 0.05) -> None:
        super().__init__(lr)
        self.net = nn.Sequential(
            nn.Conv2d(1, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(),
            Doubled(8), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(32, KINDS),
        )  # fmt: skip
        self.acc = MulticlassAccuracy(KINDS, average="micro")

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=self.hparams.lr, momentum=0.9)


class Doubled(nn.Module):
    """Adds what it computes to what it gets."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width)

    def forward(self, x):
        return x + F.relu(self.norm(self.conv(x)))


def qat(workspace: Path | None = None, **given: Any) -> QATCallback:
    """Return a callback; sections go to the conf, the rest to the callback."""
    own = ("monitor", "modules", "ckpt", "baseline")
    freezes = [name for name in given if name.startswith("freeze_")]
    arguments = {name: given.pop(name) for name in (*own, *freezes) if name in given}
    given["quantization"] = {**APPROACH, **given.pop("quantization", {})}
    return QATCallback(conf(workspace, **given), **arguments)


def checkpoints(folder: Path, **given: Any) -> ModelCheckpoint:
    return ModelCheckpoint(folder, **{"save_last": True, "save_top_k": -1, **given})


def trained(
    callback: QATCallback,
    module: pl.LightningModule | None = None,
    *others: pl.Callback,
    data: tuple[Any, ...] | None = None,
    ckpt_path: str | None = None,
    **given: Any,
) -> tuple[pl.Trainer, pl.LightningModule]:
    """Fit with ``callback`` last, and return the Trainer and the module."""
    module = ConvLit() if module is None else module
    saves = any(isinstance(one, ModelCheckpoint) for one in others)
    one = trainer(*others, callback, **{"max_epochs": 4, "enable_checkpointing": saves, **given})
    loaders = (train_images(), val_images()) if data is None else data
    one.fit(module, *loaders, ckpt_path=ckpt_path)
    return one, module


def ranges_in(path: Path | str) -> dict[str, torch.Tensor]:
    """Return the ranges that a checkpoint holds."""
    saved = torch.load(path, weights_only=True)
    return saved["lpot_lightning"]["qat"]["training"]["ranges"]
