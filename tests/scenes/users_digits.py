"""A user's model and data, as `examples/digits` has them, which train in no time."""

from __future__ import annotations

import functools

import lightning.pytorch as pl
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset
from torchmetrics.classification import MulticlassAccuracy


class LitDigits(pl.LightningModule):
    """Three convolutions and a head."""

    def __init__(self, channels: int = 4, learning_rate: float = 0.01) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.net = nn.Sequential()
        self.net.stem = nn.Conv2d(1, channels, 3, stride=2, padding=1)
        self.net.relu = nn.ReLU()
        self.net.stage1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.net.stage2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.net.flat = nn.Flatten()
        self.net.head = nn.Linear(16 * channels, 2)
        self.accuracy = MulticlassAccuracy(2, average="micro")

    def forward(self, images: Tensor) -> Tensor:
        return self.net(images)

    def training_step(self, batch: list[Tensor], batch_idx: int = 0) -> Tensor:
        return F.cross_entropy(self(batch[0]), batch[1])

    def validation_step(self, batch: list[Tensor], batch_idx: int = 0) -> None:
        self.accuracy(self(batch[0]), batch[1])
        self.log("val_acc", self.accuracy)

    test_step = validation_step

    def predict_step(self, batch: list[Tensor], batch_idx: int = 0) -> Tensor:
        return self(batch[0])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=self.hparams.learning_rate)


@functools.cache
def halves(count: int, seed: int) -> TensorDataset:
    """Return images of 8 x 8 pixels; the upper or the lower half is bright."""
    images = 0.5 * torch.rand(count, 1, 8, 8, generator=torch.Generator().manual_seed(seed))
    labels = torch.arange(count) % 2
    for image, label in zip(images, labels.tolist(), strict=True):
        image[0, 4 * label : 4 * label + 4] += 0.5
    return TensorDataset(images, labels)


class DigitsData(pl.LightningDataModule):
    """Few images."""

    def __init__(self, batch_size: int = 32) -> None:
        super().__init__()
        self.batch_size = batch_size

    def train_dataloader(self) -> DataLoader[tuple[Tensor, ...]]:
        return DataLoader(halves(128, 0), self.batch_size, shuffle=True)

    def val_dataloader(self) -> DataLoader[tuple[Tensor, ...]]:
        return DataLoader(halves(64, 1), self.batch_size)

    test_dataloader = predict_dataloader = val_dataloader


@functools.cache
def trained() -> dict[str, Tensor]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        lit, images = LitDigits(), halves(64, 0).tensors
        adam = lit.configure_optimizers()
        for _ in range(20):
            adam.zero_grad()
            lit.training_step(list(images)).backward()
            adam.step()
    return lit.state_dict()


def model() -> LitDigits:
    """Return a trained one."""
    lit = LitDigits()
    lit.load_state_dict(trained())
    return lit
