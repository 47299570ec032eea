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


class GptBlock(nn.Module):
    """Attention to what came before and two linear layers, each normalized before."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.qkv = nn.LayerNorm(width), nn.Linear(width, 3 * width)
        self.proj, self.norm2 = nn.Linear(width, width), nn.LayerNorm(width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor, cache: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return ``[batch, tokens, width]``, and the keys and values of all tokens until now."""
        n, t, c = x.shape
        qkv = self.qkv(self.norm1(x)).view(n, t, 3, self.heads, c // self.heads)
        query, kept = qkv[:, :, 0].transpose(1, 2), qkv[:, :, 1:].permute(0, 2, 3, 1, 4)
        if cache is not None:
            kept = torch.cat([cache, kept], 3)
        mixed = F.scaled_dot_product_attention(
            query, kept[:, 0], kept[:, 1], is_causal=cache is None
        )
        x = x + self.proj(mixed.transpose(1, 2).reshape(n, t, c))
        y: Tensor = self.down(F.gelu(self.up(self.norm2(x)), approximate="tanh"))
        return x + y, kept


class Gpt(nn.Module):
    """Embeddings and four of the twelve layers of GPT-2, without what scores words."""

    def __init__(self, width: int = 768, heads: int = 12, depth: int = 4) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(50257, width), nn.Embedding(1024, width)
        self.blocks = nn.ModuleList(GptBlock(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        narrow(self, depth)

    def forward(self, ids: Tensor, cache: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return the states of all tokens, or of one behind those of ``cache``; and a cache.

        A cache is ``[batch, layers, keys and values, heads, tokens, width of a head]``.
        """
        begin = 0 if cache is None else cache.shape[4]
        places = torch.arange(begin, begin + ids.shape[1], device=ids.device)
        x, caches = self.words(ids) + self.places(places), []
        for number, block in enumerate(self.blocks):
            x, kept = block(x, None if cache is None else cache[:, number])
            caches.append(kept)
        return self.norm(x), torch.stack(caches, 1)


class Mixing(nn.Module):
    """Attention of some states to others, or to those before them."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key = nn.Linear(width, width), nn.Linear(width, width, bias=False)
        self.value, self.proj = nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, x: Tensor, others: Tensor | None = None) -> Tensor:
        """Return ``[batch, tokens, width]``."""
        seen = x if others is None else others
        query, key, value = self.query(x), self.key(seen), self.value(seen)
        split = [one.unflatten(2, (self.heads, -1)).transpose(1, 2) for one in (query, key, value)]
        mixed = F.scaled_dot_product_attention(*split, is_causal=others is None)
        y: Tensor = self.proj(mixed.transpose(1, 2).flatten(2))
        return y


class WhisperBlock(nn.Module):
    """A layer of a decoder: attention to its own states and to an encoder's."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1, self.own = nn.LayerNorm(width), Mixing(width, heads)
        self.norm2, self.cross = nn.LayerNorm(width), Mixing(width, heads)
        self.norm3, self.up = nn.LayerNorm(width), nn.Linear(width, 4 * width)
        self.down = nn.Linear(4 * width, width)

    def forward(self, x: Tensor, heard: Tensor) -> Tensor:
        """Return ``[batch, tokens, width]``."""
        x = x + self.own(self.norm1(x))
        x = x + self.cross(self.norm2(x), heard)
        y: Tensor = self.down(F.gelu(self.up(self.norm3(x))))
        return x + y


class Whisper(nn.Module):
    """Whisper-tiny, without what scores words: 3000 steps of sound become 1500 frames."""

    def __init__(self, width: int = 384, heads: int = 6, depth: int = 4) -> None:
        super().__init__()
        self.conv1, self.conv2 = (
            nn.Conv1d(80, width, 3, padding=1),
            nn.Conv1d(width, width, 3, 2, padding=1),
        )
        self.frames = nn.Parameter(0.02 * torch.randn(1500, width))
        self.encoder = nn.Sequential(*(Block(width, heads) for _ in range(depth)))
        self.heard = nn.LayerNorm(width)
        self.words, self.places = nn.Embedding(51865, width), nn.Embedding(448, width)
        self.decoder = nn.ModuleList(WhisperBlock(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        narrow(self, 2 * depth)

    def forward(self, sound: Tensor, ids: Tensor) -> Tensor:
        """Return the states of all tokens."""
        x = F.gelu(self.conv2(F.gelu(self.conv1(sound)))).transpose(1, 2)
        heard = self.heard(self.encoder(x + self.frames))
        y = self.words(ids) + self.places.weight[: ids.shape[1]]
        for block in self.decoder:
            y = block(y, heard)
        states: Tensor = self.norm(y)
        return states


def narrow(net: nn.Module, depth: int) -> None:
    """Give weights the spread that GPT-2 begins with; less of it to what is added to states."""
    for name, layer in net.named_modules():
        if isinstance(layer, nn.Linear | nn.Embedding):
            added = name.endswith(("proj", "down"))
            nn.init.normal_(layer.weight, std=0.02 / (2 * depth) ** 0.5 if added else 0.02)
        if isinstance(layer, nn.Linear) and layer.bias is not None:
            nn.init.zeros_(layer.bias)
