"""Blocks of nets that people bring, small: each with inputs of more than one kind of call."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class BatchNormAct2d(nn.BatchNorm2d):
    """timm's: the norm is a function of the module's own buffers, with an activation behind."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.act = nn.SiLU()

    def forward(self, x):
        x = F.batch_norm(
            x, self.running_mean, self.running_var, self.weight, self.bias, False, 0.1, self.eps
        )
        return self.act(x)


class Conv2dSame(nn.Conv2d):
    """timm's: padded as TensorFlow does, by the size of the image."""

    def forward(self, x):
        size, stride, kernel = x.shape[-2:], self.stride, self.kernel_size
        more = [
            max((-(-one // s) - 1) * s + k - one, 0)
            for one, s, k in zip(size, stride, kernel, strict=True)
        ]
        x = F.pad(x, (more[1] // 2, more[1] - more[1] // 2, more[0] // 2, more[0] - more[0] // 2))
        return F.conv2d(x, self.weight, self.bias, stride, 0, self.dilation, self.groups)


class StdConv2d(nn.Conv2d):
    """Its weight is standardized in each call (Qiao et al., 2019)."""

    def forward(self, x):
        mean = self.weight.mean((1, 2, 3), keepdim=True)
        spread = self.weight.std((1, 2, 3), keepdim=True)
        weight = (self.weight - mean) / (spread + 1e-5)
        return F.conv2d(x, weight, self.bias, self.stride, self.padding)


class Yolo(nn.Module):
    """One activation object for all blocks, as in ultralytics."""

    act = nn.SiLU()

    def __init__(self, taken: int, given: int, size: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(taken, given, size, padding=size // 2, bias=False)
        self.bn, self.act = nn.BatchNorm2d(given), Yolo.act

    def forward(self, x):
        return self.act(self.bn(self.conv(x)))


class C2f(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        half = channels // 2
        self.first, self.last = Yolo(channels, channels), Yolo(4 * half, channels)
        self.inner = nn.ModuleList([Yolo(half, half, 3), Yolo(half, half, 3)])

    def forward(self, x):
        parts = list(self.first(x).chunk(2, 1))
        for block in self.inner:
            parts.append(block(parts[-1]) + parts[-1])
        return self.last(torch.cat(parts, 1))


class GptBlock(nn.Module):
    """With transformers' kind of linear layer."""

    def __init__(self, width: int) -> None:
        super().__init__()
        from transformers.pytorch_utils import Conv1D

        self.before, self.after = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn, self.proj = Conv1D(3 * width, width), Conv1D(width, width)
        self.fc, self.out = Conv1D(4 * width, width), Conv1D(width, 4 * width)

    def forward(self, x):
        q, k, v = self.attn(self.before(x)).split(x.shape[-1], 2)
        x = x + self.proj(F.scaled_dot_product_attention(q, k, v, is_causal=True))
        return x + self.out(F.gelu(self.fc(self.after(x)), approximate="tanh"))


class VitBlock(nn.Module):
    def __init__(self, width: int, heads: int = 2) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def forward(self, x):
        n, t, c = x.shape
        qkv = self.qkv(self.norm1(x)).reshape(n, t, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(*qkv.unbind(0))
        x = x + self.proj(mixed.transpose(1, 2).reshape(n, t, c))
        return x + self.mlp(self.norm2(x))


class Vit(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.token = nn.Conv2d(3, 16, 4, 4), nn.Parameter(torch.randn(1, 1, 16))
        self.place = nn.Parameter(torch.randn(1, 17, 16))
        self.blocks, self.norm = nn.Sequential(VitBlock(16), VitBlock(16)), nn.LayerNorm(16)
        self.head = nn.Linear(16, 5)

    def forward(self, x):
        x = self.embed(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(len(x), -1, -1), x], 1) + self.place
        return self.head(self.norm(self.blocks(x))[:, 0])


class Windows(nn.Module):
    """Attention in shifted windows, as Swin has it."""

    def __init__(self, width: int, size: int = 4) -> None:
        super().__init__()
        self.size, self.block = size, VitBlock(width)
        self.merge = nn.Linear(4 * width, 2 * width, bias=False)

    def forward(self, x):
        n, h, w, c = x.shape
        s = self.size
        x = torch.roll(x, (-s // 2, -s // 2), (1, 2))
        x = x.view(n, h // s, s, w // s, s, c).transpose(2, 3).reshape(-1, s * s, c)
        x = self.block(x).view(n, h // s, w // s, s, s, c).transpose(2, 3).reshape(n, h, w, c)
        x = torch.roll(x, (s // 2, s // 2), (1, 2))
        x = torch.cat([x[:, i::2, j::2] for i in (0, 1) for j in (0, 1)], -1)
        return self.merge(x)


class ConvNext(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, width, 2, 2)
        self.deep = nn.Conv2d(width, width, 7, padding=3, groups=width)
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.gamma = nn.Parameter(torch.rand(width))

    def forward(self, x):
        x = self.stem(x)
        y = self.norm(self.deep(x).permute(0, 2, 3, 1))
        return x + (self.gamma * self.down(F.gelu(self.up(y)))).permute(0, 3, 1, 2)


class MbConv(nn.Module):
    """Expand, depthwise, squeeze and excite, project."""

    def __init__(self, width: int) -> None:
        super().__init__()
        wide = 4 * width
        self.stem = nn.Conv2d(3, width, 3, 2, 1)
        self.expand, self.bn1 = nn.Conv2d(width, wide, 1, bias=False), nn.BatchNorm2d(wide)
        self.deep = nn.Conv2d(wide, wide, 3, padding=1, groups=wide, bias=False)
        self.bn2, self.bn3 = nn.BatchNorm2d(wide), nn.BatchNorm2d(width)
        self.less, self.more = nn.Conv2d(wide, width, 1), nn.Conv2d(width, wide, 1)
        self.project = nn.Conv2d(wide, width, 1, bias=False)

    def forward(self, x):
        x = self.stem(x)
        y = F.silu(self.bn2(self.deep(F.silu(self.bn1(self.expand(x))))))
        gate = torch.sigmoid(self.more(F.silu(self.less(y.mean((2, 3), keepdim=True)))))
        return x + self.bn3(self.project(y * gate))


class Sound(nn.Module):
    """Convolutions, a recurrent layer, a linear one."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv1d(4, 16, 5, 2), nn.BatchNorm1d(16)
        self.gru, self.head = nn.GRU(16, 8, batch_first=True), nn.Linear(8, 5)

    def forward(self, x):
        y = F.relu(self.norm(self.conv(x))).transpose(1, 2)
        return self.head(self.gru(y)[0][:, -1])


class TasNet(nn.Module):
    """Dilated depthwise convolutions of one dimension, with PReLU and GroupNorm."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.encoder, self.decoder = nn.Conv1d(1, width, 8, 4), nn.ConvTranspose1d(width, 1, 8, 4)
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.Conv1d(width, 16, 1), nn.PReLU(), nn.GroupNorm(1, 16),
                nn.Conv1d(16, 16, 3, padding=2**n, dilation=2**n, groups=16), nn.PReLU(),
                nn.GroupNorm(1, 16), nn.Conv1d(16, width, 1),
            )
            for n in range(3)
        )  # fmt: skip

    def forward(self, x):
        y = mask = F.relu(self.encoder(x))
        for block in self.blocks:
            mask = mask + block(mask)
        return self.decoder(y * torch.sigmoid(mask))


class UNet3d(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.down, self.norm = nn.Conv3d(1, 8, 3, padding=1), nn.InstanceNorm3d(8, affine=True)
        self.deep, self.up = nn.Conv3d(8, 16, 3, 2, 1), nn.ConvTranspose3d(16, 8, 2, 2)
        self.last = nn.Conv3d(16, 2, 1)

    def forward(self, x):
        a = F.leaky_relu(self.norm(self.down(x)), 0.01)
        return self.last(torch.cat([a, self.up(F.leaky_relu(self.deep(a), 0.01))], 1))


class RelativeBias(nn.Module):
    """T5's: a small table of biases is added first, to scores of any length."""

    def __init__(self, width: int = 16, heads: int = 2) -> None:
        super().__init__()
        self.heads, self.bias = heads, nn.Embedding(9, heads)
        self.q, self.k, self.v, self.o = (nn.Linear(width, width, bias=False) for _ in range(4))

    def forward(self, x):
        n, t, c = x.shape
        q, k, v = (
            f(x).view(n, t, self.heads, -1).transpose(1, 2) for f in (self.q, self.k, self.v)
        )
        places = torch.arange(t)
        near = (places[None] - places[:, None]).clamp(-4, 4) + 4
        scores = self.bias(near).permute(2, 0, 1)[None] + q @ k.transpose(-1, -2)
        return self.o((scores.softmax(-1) @ v).transpose(1, 2).reshape(n, t, c))


class Episode(nn.Module):
    """Few shots: a batch is 5 classes of 4 images, the last of each is asked."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 16)
        )

    def forward(self, x):
        found = self.body(x).reshape(5, 4, -1)
        return -torch.cdist(found[:, 3], found[:, :3].mean(1))


class Graph(nn.Module):
    """Messages along edges, added up at their ends."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.message = nn.Sequential(nn.Linear(2 * width, 16), nn.ReLU(), nn.Linear(16, width))
        self.update, self.head = nn.Linear(2 * width, width), nn.Linear(width, 3)

    def forward(self, x, edges):
        for _ in range(2):
            start, end = edges
            given = self.message(torch.cat([x[start], x[end]], 1))
            total = torch.zeros_like(x).index_add_(0, end, given)
            x = F.relu(self.update(torch.cat([x, total], 1)))
        return self.head(x)


class Lora(nn.Module):
    """A linear layer and a small one beside it."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(width, width) / width**0.5)
        self.a, self.b = nn.Linear(width, 2, bias=False), nn.Linear(2, width, bias=False)

    def forward(self, x):
        return F.linear(x, self.weight) + 0.5 * self.b(self.a(x))


@dataclass
class Brought:
    """A net, its inputs, and what becomes of it.

    Args:
        make: the net.
        inputs: of several calls, which differ in more than values.
        int8: how many ops are int8.
        told: ends of the names of what stays in fp32.
        error: the most that the answers may differ, relatively.
    """

    make: Callable[[], nn.Module]
    inputs: Callable[[], list[tuple[Any, ...]]]
    int8: int
    told: tuple[str, ...] = ()
    error: float = 0.1


def images(channels: int = 3, *sizes: int) -> Callable[[], list[tuple[Tensor]]]:
    """Return what makes batches of images: of other lengths, and of other sizes."""
    shapes = [(8, channels, 16, 16), (5, channels, 16, 16), *((4, channels, s, s) for s in sizes)]
    return lambda: [(torch.randn(*shape),) for shape in shapes]


def tokens(width: int, *lengths: int) -> Callable[[], list[tuple[Tensor]]]:
    return lambda: [(torch.randn(n, t, width),) for n, t in zip((4, 3, 6), lengths, strict=True)]


def edges() -> list[tuple[Tensor, Tensor]]:
    return [(torch.randn(n, 8), torch.randint(0, n, (2, 3 * n))) for n in (20, 13, 31)]


BROUGHT: dict[str, Brought] = {
    "BatchNormAct2d": Brought(
        lambda: nn.Sequential(
            nn.Conv2d(3, 8, 3, bias=False), BatchNormAct2d(8), nn.Conv2d(8, 8, 3), BatchNormAct2d(8)
        ),
        images(3, 20),
        2,
    ),
    "Conv2dSame": Brought(
        lambda: nn.Sequential(
            Conv2dSame(3, 8, 3, 2, bias=False), nn.BatchNorm2d(8), nn.SiLU(), Conv2dSame(8, 8, 3)
        ),
        images(3, 21),
        2,
    ),
    "StdConv2d": Brought(
        lambda: nn.Sequential(
            StdConv2d(3, 8, 3, padding=1), nn.GroupNorm(2, 8), nn.ReLU(), StdConv2d(8, 8, 3)
        ),
        images(3, 20),
        2,
        ("1",),
    ),
    "C2f": Brought(lambda: nn.Sequential(Yolo(3, 16, 3), C2f(16)), images(3, 24), 5),
    "Conv1D": Brought(lambda: nn.Sequential(GptBlock(16), GptBlock(16)), tokens(16, 6, 9, 4), 8),
    "ViT": Brought(Vit, images(3), 10),
    "Swin": Brought(lambda: Windows(16), lambda: [(torch.randn(n, 8, 8, 16),) for n in (4, 2)], 5),
    "ConvNeXt": Brought(lambda: ConvNext(8), images(3, 20), 4, ("norm",)),
    "MBConv": Brought(lambda: MbConv(8), images(3, 20), 6),
    "GRU": Brought(Sound, lambda: [(torch.randn(n, 4, t),) for n, t in ((4, 40), (3, 33))], 3),
    "ConvTasNet": Brought(
        TasNet, lambda: [(torch.randn(n, 1, t),) for n, t in ((4, 80), (2, 64))], 10
    ),
    "3-D U-Net": Brought(
        UNet3d, lambda: [(torch.randn(n, 1, 8, 8, s),) for n, s in ((2, 8), (1, 4))], 3
    ),
    "T5": Brought(RelativeBias, tokens(16, 6, 9, 4), 5),
    "episodes": Brought(Episode, lambda: [(torch.randn(20, 1, 8, 8),) for _ in range(3)], 2),
    "graph": Brought(Graph, edges, 4),
    "LoRA": Brought(
        lambda: nn.Sequential(Lora(16), nn.ReLU(), nn.Linear(16, 4)),
        lambda: [(torch.randn(n, 16),) for n in (8, 3)],
        4,
    ),
}  # fmt: skip
