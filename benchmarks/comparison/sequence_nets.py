"""Small transformers and a recurrent net: for images, and for texts of 64 words."""

from __future__ import annotations

import torch
from attentive import BertLayer, Block
from torch import Tensor, nn

CLASSES, PATCHES = 10, 16
WORDS, TOKENS = 16, 64


class SmallVit(nn.Module):
    """A ViT (Dosovitskiy et al., 2020): patches of four by four, a token of the class."""

    def __init__(self, width: int = 96, heads: int = 4, depth: int = 3) -> None:
        super().__init__()
        self.embed = nn.Conv2d(1, width, 4, 4)
        self.token = nn.Parameter(0.02 * torch.randn(1, 1, width))
        self.place = nn.Parameter(0.02 * torch.randn(1, PATCHES + 1, width))
        self.blocks = nn.Sequential(*(Block(width, heads) for _ in range(depth)))
        self.norm, self.head = nn.LayerNorm(width, 1e-6), nn.Linear(width, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits."""
        x = self.embed(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1) + self.place
        logits: Tensor = self.head(self.norm(self.blocks(x))[:, 0])
        return logits


class SmallBert(nn.Module):
    """A BERT (Devlin et al., 2018) that tells the class of a text by its first state."""

    def __init__(self, width: int = 64, heads: int = 4, depth: int = 3) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(WORDS, width), nn.Embedding(TOKENS, width)
        self.norm = nn.LayerNorm(width, 1e-12)
        self.layers = nn.Sequential(*(BertLayer(width, heads) for _ in range(depth)))
        self.pooler, self.head = nn.Linear(width, width), nn.Linear(width, CLASSES)

    def forward(self, ids: Tensor) -> Tensor:
        """Return logits."""
        places = torch.arange(ids.shape[1], device=ids.device)
        states = self.layers(self.norm(self.words(ids) + self.places(places)))
        logits: Tensor = self.head(torch.tanh(self.pooler(states[:, 0])))
        return logits


class RowsGru(nn.Module):
    """Two recurrent layers (Cho et al., 2014) that read an image two rows at a time."""

    def __init__(self, width: int = 128) -> None:
        super().__init__()
        self.gru = nn.GRU(32, width, num_layers=2, batch_first=True)
        self.head = nn.Linear(width, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits."""
        states, _ = self.gru(x.reshape(-1, 8, 32))
        logits: Tensor = self.head(states[:, -1])
        return logits
