"""A small classifier, the data it learns, and a way to int8."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from lpot_lightning import Quantization


class Net(nn.Module):
    """Two convolutions with pooling, three linear layers."""

    def __init__(self, kinds: int = 4) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 6, 5)
        self.pool = nn.MaxPool2d(2)
        self.conv2 = nn.Conv2d(6, 16, 5)
        self.fc1 = nn.Linear(16 * 5 * 5, 120)
        self.fc2 = nn.Linear(120, 84)
        self.fc3 = nn.Linear(84, kinds)

    def forward(self, x: Tensor) -> Tensor:
        """Return a score for each kind of an image of 32 x 32."""
        x = self.pool(F.relu(self.conv1(x)))
        x = self.pool(F.relu(self.conv2(x)))
        x = F.relu(self.fc1(x.flatten(1)))
        return self.fc3(F.relu(self.fc2(x)))


def images(count: int, seed: int) -> TensorDataset:
    """Return noise with one bright corner each; which one is its kind."""
    pixels = torch.randn(count, 3, 32, 32, generator=torch.Generator().manual_seed(seed))
    kinds = torch.arange(count) % 4
    for image, kind in zip(pixels, kinds.tolist(), strict=True):
        row, column = divmod(kind, 2)
        image[:, 16 * row : 16 * row + 16, 16 * column : 16 * column + 16] += 0.2
    return TensorDataset(pixels, kinds)


def train_epoch(model: nn.Module, optimizer: torch.optim.Optimizer, epoch: int) -> float:
    """Train for one epoch, whose order depends on its number alone, and return the last loss."""
    model.train()
    order = torch.Generator().manual_seed(epoch)
    for pixels, kinds in DataLoader(images(512, 0), 32, shuffle=True, generator=order):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(pixels), kinds)
        loss.backward()
        optimizer.step()
    return loss.item()


def accuracy(model: nn.Module) -> float:
    """Return the share of right answers."""
    pixels, kinds = images(400, 1).tensors
    with torch.no_grad():
        return float((model(pixels).argmax(1) == kinds).float().mean())


def quantized(model: nn.Module, workspace: Path) -> nn.Module:
    """Return the int8 model, whose files are in ``workspace``."""
    conf = {
        "model": {"name": "net", "framework": "pytorch_fx"},
        "quantization": {"calibration": {"sampling_size": 128}},
        "tuning": {"workspace": {"path": str(workspace)}},
    }
    return Quantization(conf)(
        model, q_dataloader=DataLoader(images(128, 0), 32), eval_func=accuracy
    )
