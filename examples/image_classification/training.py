"""A classifier trained in fp32, by Lightning; nothing in it knows of int8."""

from __future__ import annotations

import warnings
from pathlib import Path

import torch
import torch.nn.functional as F
from images import Images
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor, nn
from torch.utils.data import DataLoader


class LitClassifier(LightningModule):
    """Cross entropy, and a learning rate that rises and falls."""

    def __init__(self, net: nn.Module, learning_rate: float = 3e-3) -> None:
        super().__init__()
        self.net, self.learning_rate = net, learning_rate

    def training_step(self, batch: list[Tensor]) -> Tensor:
        """Return the loss."""
        return F.cross_entropy(self.net(_turned(batch[0])), batch[1])

    def configure_optimizers(self) -> dict[str, object]:
        """Return the optimizer and its schedule."""
        adam = torch.optim.AdamW(self.parameters(), weight_decay=0.01)
        steps = int(self.trainer.estimated_stepping_batches)
        rate = torch.optim.lr_scheduler.OneCycleLR(adam, self.learning_rate, steps)
        return {"optimizer": adam, "lr_scheduler": {"scheduler": rate, "interval": "step"}}


def train(net: nn.Module, folder: Path, *, size: int, epochs: int) -> None:
    """Train ``net`` in place on the images of ``folder``, and leave it in eval mode."""
    warnings.filterwarnings("ignore", message=".*(num_workers|LeafSpec|smaller than)")
    trainer = Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=False,
    )
    loader = DataLoader(Images(folder, size), batch_size=32, shuffle=True, drop_last=True)
    trainer.fit(LitClassifier(net), loader)
    net.eval()


def accuracy(net: nn.Module, loader: DataLoader) -> float:
    """Return the share of images whose class has the best score."""
    with torch.no_grad():
        right = [net(images).argmax(1) == kinds for images, kinds in loader]
    return float(torch.cat(right).float().mean())


def _turned(images: Tensor) -> Tensor:
    """Return them turned by a quarter now and then, or upside down."""
    turns = int(torch.randint(4, ()))
    images = images.rot90(turns, (2, 3))
    return images.flip(3) if torch.rand(()) < 0.5 else images
