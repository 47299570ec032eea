"""A GRU that reads words; all that it logs is a loss, of which less is better."""

import lightning.pytorch as pl
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

WORDS, LONG = 40, 12


def sentences(count, seed):
    dice = torch.Generator().manual_seed(seed)
    words = torch.randint(1, WORDS, (count, LONG), generator=dice)
    return TensorDataset(words, (words < WORDS // 2).sum(1).gt(LONG // 2).long())


def train_loader():
    return DataLoader(sentences(240, 0), batch_size=24, shuffle=True)


def val_loader():
    return DataLoader(sentences(120, 1), batch_size=24)


class MyModel(pl.LightningModule):
    def __init__(self, hidden: int = 24):
        super().__init__()
        self.save_hyperparameters()
        self.embedding = nn.Embedding(WORDS, 16)
        self.gru = nn.GRU(16, hidden, batch_first=True)
        self.head = nn.Linear(hidden, 2)

    def forward(self, words):
        _, state = self.gru(self.embedding(words))
        return self.head(state[-1])

    def _loss(self, batch):
        words, kinds = batch
        return F.cross_entropy(self(words), kinds)

    def training_step(self, batch, batch_idx):
        return self._loss(batch)

    def validation_step(self, batch, batch_idx):
        self.log("loss/val", self._loss(batch))

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=0.01)
