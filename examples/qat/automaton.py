"""A neural cellular automaton that reads handwritten digits; nothing in it knows of int8."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torchmetrics.classification import MulticlassAccuracy

sys.path.append(str(Path(__file__).parents[1] / "digits"))
from digits import DigitsData as DigitsData  # noqa: E402


class Automaton(nn.Module):
    """Cells that look at their neighbours, again and again, by one rule.

    Each pixel is a cell with a state of a few channels. A step is a depthwise convolution and two
    layers in each cell, whose output is added to the state (Mordvintsev et al., 2020; Randazzo et
    al., 2020, for digits). All steps share their weights, so that there are few of them: 6,154.
    """

    def __init__(self, channels: int = 16, hidden: int = 128, steps: int = 6) -> None:
        super().__init__()
        self.steps = steps
        self.seed = nn.Conv2d(1, channels, 3, padding=1)
        self.look = nn.Conv2d(channels, channels, 3, padding=1, groups=channels)
        self.think = nn.Conv2d(channels, hidden, 1)
        self.act = nn.Conv2d(hidden, channels, 1)
        self.vote = nn.Linear(channels, 10)
        nn.init.zeros_(self.act.weight)
        nn.init.zeros_(self.act.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits ``[batch, 10]`` of images ``[batch, 1, height, width]``."""
        state = self.seed(x)
        for _ in range(self.steps):
            state = state + self.act(F.relu(self.think(self.look(state))))
        return self.vote(state.mean((2, 3)))


class LitAutomaton(LightningModule):
    """Ten classes, cross entropy, accuracy.

    Args:
        learning_rate: the highest, which is reached after a third of the training.
        start_from: a checkpoint whose weights the training starts from.
    """

    def __init__(self, learning_rate: float = 1e-2, start_from: str | None = None) -> None:
        super().__init__()
        self.save_hyperparameters(ignore="start_from")
        self.net = Automaton()
        self.accuracy = MulticlassAccuracy(10, average="micro")
        if start_from is not None:
            self.load_state_dict(torch.load(start_from, weights_only=True)["state_dict"])

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

    def configure_optimizers(self) -> Any:
        """Return an optimizer whose learning rate rises and falls once."""
        optimizer = torch.optim.AdamW(self.parameters(), lr=self.hparams.learning_rate)
        steps = int(self.trainer.estimated_stepping_batches)
        rate = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, self.hparams.learning_rate, total_steps=steps
        )
        return [optimizer], [{"scheduler": rate, "interval": "step"}]
