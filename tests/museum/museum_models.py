"""The models of the museum, and the data that they were shown: neither may ever change."""

from __future__ import annotations

from typing import Any

import lightning.pytorch as pl
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

KINDS, SIDE = 4, 8


def samples(count: int) -> TensorDataset:
    """Return images that are made of their numbers: no version draws them otherwise."""
    numbers = torch.arange(count * SIDE * SIDE, dtype=torch.float64)
    images = torch.sin(numbers * 12.9898 + 0.5).float().reshape(count, 1, SIDE, SIDE)
    kinds = torch.arange(count) % KINDS
    for image, kind in zip(images, kinds.tolist(), strict=True):
        row, column = divmod(kind, 2)
        image[0, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4] += 1
    return TensorDataset(images, kinds)


def loader(count: int = 32) -> DataLoader:
    return DataLoader(samples(count), batch_size=8)


def shown() -> Tensor:
    """Return what every model of the museum is asked."""
    return samples(4).tensors[0]


class Exhibit(pl.LightningModule):
    """A convolution with its norm, and two layers."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.first, self.norm = nn.Conv2d(1, width, 3, padding=1), nn.BatchNorm2d(width)
        self.wide, self.head = nn.Linear(4 * width, 32), nn.Linear(32, KINDS)

    def forward(self, x: Tensor) -> Tensor:
        x = F.avg_pool2d(F.relu(self.norm(self.first(x))), 4).flatten(1)
        return self.head(F.relu(self.wide(x)))

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return F.cross_entropy(self(batch[0]), batch[1])

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val_loss", F.cross_entropy(self(batch[0]), batch[1]))

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.05)
