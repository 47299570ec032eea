"""Transformers of today in plain torch, with the widths of their papers."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Attention(nn.Module):
    """Self-attention; queries, keys and values come of one layer, as in timm."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Return ``[batch, tokens, width]``."""
        n, t, c = x.shape
        qkv = self.qkv(x).reshape(n, t, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(*qkv.unbind(0))
        y: Tensor = self.proj(mixed.transpose(1, 2).reshape(n, t, c))
        return y


class Block(nn.Module):
    """Attention and two linear layers, each normalized before and added after."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1, self.attention = nn.LayerNorm(width, 1e-6), Attention(width, heads)
        self.norm2, self.up = nn.LayerNorm(width, 1e-6), nn.Linear(width, 4 * width)
        self.act, self.down = nn.GELU(), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Return ``[batch, tokens, width]``."""
        x = x + self.attention(self.norm1(x))
        y: Tensor = self.down(self.act(self.up(self.norm2(x))))
        return x + y


class Vit(nn.Module):
    """ViT-S/16: 22 million parameters."""

    def __init__(self, width: int = 384, heads: int = 6, depth: int = 12) -> None:
        super().__init__()
        self.embed = nn.Conv2d(3, width, 16, 16)
        self.token = nn.Parameter(0.02 * torch.randn(1, 1, width))
        self.place = nn.Parameter(0.02 * torch.randn(1, 197, width))
        self.blocks = nn.Sequential(*(Block(width, heads) for _ in range(depth)))
        self.norm, self.head = nn.LayerNorm(width, 1e-6), nn.Linear(width, 1000)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits."""
        x = self.embed(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(len(x), -1, -1), x], 1) + self.place
        logits: Tensor = self.head(self.norm(self.blocks(x))[:, 0])
        return logits


class BertAttention(nn.Module):
    """Self-attention with a layer each for queries, keys and values, as in transformers."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads, self.size = heads, width // heads
        self.query, self.key = nn.Linear(width, width), nn.Linear(width, width)
        self.value, self.dense = nn.Linear(width, width), nn.Linear(width, width)
        self.norm, self.dropout = nn.LayerNorm(width, 1e-12), nn.Dropout(0.1)

    def _split(self, x: Tensor) -> Tensor:
        return x.view(x.shape[0], -1, self.heads, self.size).transpose(1, 2)

    def forward(self, x: Tensor) -> Tensor:
        """Return ``[batch, tokens, width]``."""
        query, key, value = (self._split(f(x)) for f in (self.query, self.key, self.value))
        mixed = F.scaled_dot_product_attention(query, key, value)
        mixed = mixed.transpose(1, 2).reshape(x.shape)
        y: Tensor = self.norm(self.dropout(self.dense(mixed)) + x)
        return y


class BertLayer(nn.Module):
    """Attention and two linear layers, each normalized after what it is added to."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attention = BertAttention(width, heads)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.norm, self.dropout = nn.LayerNorm(width, 1e-12), nn.Dropout(0.1)

    def forward(self, x: Tensor) -> Tensor:
        """Return ``[batch, tokens, width]``."""
        x = self.attention(x)
        y: Tensor = self.norm(self.dropout(self.down(F.gelu(self.up(x)))) + x)
        return y


class Bert(nn.Module):
    """Embeddings and four of the twelve layers of BERT-base."""

    def __init__(self, width: int = 768, heads: int = 12, depth: int = 4) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(30522, width), nn.Embedding(512, width)
        self.norm, self.dropout = nn.LayerNorm(width, 1e-12), nn.Dropout(0.1)
        self.layers = nn.Sequential(*(BertLayer(width, heads) for _ in range(depth)))

    def forward(self, ids: Tensor) -> Tensor:
        """Return the states of all tokens."""
        places = torch.arange(ids.shape[1], device=ids.device)
        x = self.dropout(self.norm(self.words(ids) + self.places(places)))
        states: Tensor = self.layers(x)
        return states
