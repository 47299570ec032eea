"""BlendCNN: convolutions over words, all of which have a say."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torchmetrics.classification import MulticlassAccuracy


class BlendCNN(nn.Module):
    """Branches of 1-D convolutions, side by side; the mean of every layer goes into the blend.

    Args:
        vocab_size: words.
        max_len: tokens of a pair.
        dim: numbers that stand for a word.
        channels: of each convolution.
        kernel_sizes: one list a branch, with the width of each of its convolutions.
        hidden: of the layer that blends.
        dropout: share of the embedding that is left out in training.
        n_labels: classes.
    """

    def __init__(
        self,
        vocab_size: int,
        max_len: int = 128,
        dim: int = 256,
        channels: int = 192,
        kernel_sizes: list[list[int]] | None = None,
        hidden: int = 100,
        dropout: float = 0.1,
        n_labels: int = 2,
    ) -> None:
        super().__init__()
        kernel_sizes = kernel_sizes or [[3], [5], [7]]
        self.word = nn.Embedding(vocab_size, dim)
        self.sentence = nn.Embedding(2, dim)
        self.position = nn.Parameter(0.1 * torch.randn(max_len, dim))
        self.norm = nn.LayerNorm(dim)
        self.drop = nn.Dropout(dropout)
        self.branches = nn.ModuleList(
            nn.ModuleList(
                nn.Conv1d(channels if depth else dim, channels, width, padding=width // 2)
                for depth, width in enumerate(widths)
            )
            for widths in kernel_sizes
        )
        self.blend = nn.Linear(channels * sum(map(len, kernel_sizes)), hidden)
        self.classifier = nn.Linear(hidden, n_labels)

    def forward(self, input_ids: Tensor, segment_ids: Tensor, input_mask: Tensor) -> Tensor:
        """Return logits ``[batch, n_labels]`` of numbers ``[batch, max_len]``."""
        x = self.word(input_ids) + self.sentence(segment_ids) + self.position
        x = self.drop(self.norm(x)) * input_mask.unsqueeze(-1)
        x = x.transpose(1, 2)
        means = []
        for branch in self.branches:
            y = x
            for conv in branch:
                y = F.relu(conv(y))
                # has an int8 kernel, which `y.mean(2)` has not
                means.append(F.adaptive_avg_pool1d(y, 1))
        return self.classifier(F.relu(self.blend(torch.cat(means, 1).flatten(1))))


class LitBlendCNN(LightningModule):
    """Two classes, cross entropy, accuracy; for its arguments see ``BlendCNN``."""

    def __init__(
        self,
        vocab_size: int = 20000,
        max_len: int = 128,
        dim: int = 256,
        channels: int = 192,
        kernel_sizes: list[list[int]] | None = None,
        hidden: int = 100,
        dropout: float = 0.1,
        lr: float = 1e-3,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.lr = lr
        self.net = BlendCNN(vocab_size, max_len, dim, channels, kernel_sizes, hidden, dropout)
        self.accuracy = MulticlassAccuracy(2, average="micro")

    def forward(self, input_ids: Tensor, segment_ids: Tensor, input_mask: Tensor) -> Tensor:
        """Return logits."""
        return self.net(input_ids, segment_ids, input_mask)

    def training_step(self, batch: list[Tensor]) -> Tensor:
        """Return the loss."""
        *inputs, labels = batch
        return F.cross_entropy(self(*inputs), labels)

    def validation_step(self, batch: list[Tensor]) -> None:
        """Log the accuracy."""
        *inputs, labels = batch
        self.accuracy(self(*inputs), labels)
        self.log("val_acc", self.accuracy, prog_bar=True)

    test_step = validation_step

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return the optimizer."""
        return torch.optim.Adam(self.parameters(), lr=self.lr)
