"""Nets with all that may be bfloat16."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lpot_lightning.quantization.capability import BF16
from lpot_lightning.quantization.layers import PreparedLayers
from lpot_lightning.recipe import Recipe


class Heads(nn.Module):
    """Attention of two heads, by torch's function or written out."""

    def __init__(self, *, by_function: bool = True) -> None:
        super().__init__()
        self.by_function = by_function
        self.mixed, self.out = nn.Linear(16, 48), nn.Linear(16, 16)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        parts = self.mixed(x).chunk(3, -1)
        q, k, v = (one.view(*x.shape[:2], 2, 8).transpose(1, 2) for one in parts)
        if self.by_function:
            y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        else:
            y = ((q @ k.transpose(-2, -1)) / 8**0.5).softmax(-1).matmul(v)
        return x + self.out(y.transpose(1, 2).reshape(x.shape))


class Mixing(nn.Module):
    """A function with a weight."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(16, 16) / 4)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight)


class Patches(nn.Module):
    """An image as tokens, a function with a weight, attention, a head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, 2, padding=1, padding_mode="reflect")
        self.mixing = Mixing()
        self.heads, self.norm = Heads(), nn.LayerNorm(16)
        self.first, self.last = nn.Linear(16, 32), nn.Linear(32, 4, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.stem(x).flatten(2).transpose(1, 2)
        tokens = self.heads(self.mixing(tokens))
        return self.last(F.relu(self.first(self.norm(tokens).mean(1))))


def patches() -> Patches:
    torch.manual_seed(0)
    return Patches().eval()


def images(count: int = 4, seed: int = 0) -> Tensor:
    return torch.randn(count, 3, 8, 8, generator=torch.Generator().manual_seed(seed))


def all_bf16(prepared: PreparedLayers) -> Recipe:
    return Recipe.of({op.name: BF16 for op in prepared.ops})
