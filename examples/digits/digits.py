"""A small residual net on scikit-learn's handwritten digits; nothing in it knows of int8."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningDataModule, LightningModule
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset, random_split
from torchmetrics.classification import MulticlassAccuracy


class Residual(nn.Module):
    """Two convolutions and a shortcut."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        """Return features of the shape of ``x``."""
        y = F.relu(self.norm1(self.conv1(x)))
        return F.relu(x + self.norm2(self.conv2(y)))


class ResNet(nn.Module):
    """A stem, two stages of two residual blocks, a linear head."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, channels, 3, padding=1)
        self.stage1 = nn.Sequential(Residual(channels), Residual(channels))
        self.grow = nn.Conv2d(channels, 2 * channels, 3, stride=2, padding=1)
        self.stage2 = nn.Sequential(Residual(2 * channels), Residual(2 * channels))
        self.head = nn.Linear(2 * channels, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits ``[batch, 10]`` of images ``[batch, 1, 8, 8]``."""
        x = self.stage1(F.relu(self.stem(x)))
        x = self.stage2(F.relu(self.grow(x)))
        return self.head(x.mean((2, 3)))


class LitDigits(LightningModule):
    """Ten classes, cross entropy, accuracy."""

    def __init__(self, channels: int = 24, learning_rate: float = 2e-3) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.net = ResNet(channels)
        self.accuracy = MulticlassAccuracy(10, average="micro")

    def forward(self, images: Tensor) -> Tensor:
        """Return logits."""
        return self.net(images)

    def training_step(self, batch: list[Tensor]) -> Tensor:
        """Return the loss."""
        return F.cross_entropy(self(batch[0]), batch[1])

    def validation_step(self, batch: list[Tensor]) -> None:
        """Log the accuracy."""
        self.accuracy(self(batch[0]), batch[1])
        self.log("val_acc", self.accuracy, prog_bar=True)

    test_step = validation_step

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return the optimizer."""
        return torch.optim.Adam(self.parameters(), lr=self.hparams.learning_rate)


class DigitsData(LightningDataModule):
    """1,797 images of 8 x 8 pixels, 1,200 of them for training."""

    def __init__(self, batch_size: int = 64) -> None:
        super().__init__()
        self.batch_size = batch_size

    def setup(self, stage: str) -> None:
        """Split the digits, always in the same way."""
        x, y = load_digits(return_X_y=True)
        images = torch.tensor(x, dtype=torch.float32).reshape(-1, 1, 8, 8) / 16
        digits = TensorDataset(images, torch.tensor(y))
        order = torch.Generator().manual_seed(0)
        self.train, self.val = random_split(digits, [1200, 597], order)

    def train_dataloader(self) -> DataLoader[tuple[Tensor, ...]]:
        """Return shuffled batches."""
        return DataLoader(self.train, self.batch_size, shuffle=True)

    def val_dataloader(self) -> DataLoader[tuple[Tensor, ...]]:
        """Return batches in order."""
        return DataLoader(self.val, self.batch_size)

    test_dataloader = val_dataloader
