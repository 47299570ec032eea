"""What the benchmarks train, on what, and with which trainer."""

from __future__ import annotations

import logging
import warnings

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule, Trainer
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset
from torchmetrics.classification import MulticlassAccuracy

BATCH, IMAGES = 100, 6000
Loader = DataLoader[tuple[Tensor, ...]]


class LitClassifier(LightningModule):
    """A net, its loss and its accuracy."""

    def __init__(self, net: nn.Module, learning_rate: float = 3e-3) -> None:
        super().__init__()
        self.net, self.learning_rate = net, learning_rate
        self.accuracy = MulticlassAccuracy(10, average="micro")

    def training_step(self, batch: list[Tensor]) -> Tensor:
        """Return the loss."""
        return F.cross_entropy(self.net(batch[0]), batch[1])

    def validation_step(self, batch: list[Tensor]) -> None:
        """Log the accuracy."""
        self.accuracy(self.net(batch[0]), batch[1])
        self.log("val_acc", self.accuracy)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return the optimizer."""
        return torch.optim.Adam(self.parameters(), lr=self.learning_rate)


def digits(images: int, seed: int, *, train: bool) -> Loader:
    """Return handwritten digits, enlarged, shifted and noisy."""
    x, y = load_digits(return_X_y=True)
    half = slice(None, 1200) if train else slice(1200, None)
    pixels = torch.tensor(x[half], dtype=torch.float32).reshape(-1, 1, 8, 8) / 16
    labels = torch.tensor(y[half])
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.randint(len(pixels), (images,), generator=generator)
    large = F.interpolate(pixels[chosen], size=(14, 14), mode="bilinear")
    shifts = torch.randint(0, 3, (images, 2), generator=generator).tolist()
    moved = [F.pad(im, (a, 2 - a, b, 2 - b)) for im, (a, b) in zip(large, shifts, strict=True)]
    noisy = torch.stack(moved)
    noisy += 0.1 * torch.randn(noisy.shape, generator=generator)
    return DataLoader(TensorDataset(noisy, labels[chosen]), batch_size=BATCH, shuffle=train)


def quiet_trainer(epochs: int = 1) -> Trainer:
    """Return a trainer that shows nothing."""
    return Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )


def say_nothing() -> None:
    """Leave the output to the tables."""
    for part in ("pytorch", "fabric"):
        logging.getLogger(f"lightning.{part}").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")
