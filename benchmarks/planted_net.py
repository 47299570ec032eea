"""A MobileNet-like net (22 convolutions, 1 linear), and how four of its ops are made fragile."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

CHANNELS, EXPANSION, BLOCKS, FRAGILE, DECADES = 24, 4, 7, (2, 5), 3.0


class Block(nn.Module):
    """Expand, filter each channel, project."""

    def __init__(self, stride: int) -> None:
        super().__init__()
        wide = CHANNELS * EXPANSION
        self.expand = nn.Conv2d(CHANNELS, wide, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(wide)
        self.depthwise = nn.Conv2d(wide, wide, 3, stride, 1, groups=wide, bias=False)
        self.norm2 = nn.BatchNorm2d(wide)
        self.project = nn.Conv2d(wide, CHANNELS, 1, bias=False)
        self.norm3 = nn.BatchNorm2d(CHANNELS)

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's features."""
        x = F.relu(self.norm1(self.expand(x)))
        x = F.relu(self.norm2(self.depthwise(x)))
        return F.relu(self.norm3(self.project(x)))

    @torch.no_grad()
    def make_fragile(self, generator: torch.Generator, decades: float) -> None:
        """Rescale the channels between ``depthwise`` and ``project``; the function stays."""
        drawn = torch.rand(self.norm2.num_features, generator=generator)
        exponents = drawn * (2 * decades) - decades
        scale = 10**exponents
        self.norm2.weight.mul_(scale)
        self.norm2.bias.mul_(scale)
        self.project.weight.div_(scale[None, :, None, None])


class PlantedNet(nn.Sequential):
    """A stem, seven blocks, a linear head; ten classes of images ``[batch, 1, 16, 16]``."""

    def __init__(self) -> None:
        stem = nn.Sequential(
            nn.Conv2d(1, CHANNELS, 3, padding=1, bias=False), nn.BatchNorm2d(CHANNELS), nn.ReLU()
        )
        blocks = [Block(2 if number in (1, 4) else 1) for number in range(BLOCKS)]
        super().__init__(
            stem, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(CHANNELS, 10)
        )

    def plant(self, decades: float = DECADES) -> list[str]:
        """Make two blocks fragile and return the ops that int8 now ruins.

        Args:
            decades: to either side, of the factors of channels.
        """
        generator = torch.Generator().manual_seed(3)
        for number in FRAGILE:
            block = self[number]
            assert isinstance(block, Block)
            block.make_fragile(generator, decades)
        return [f"{n}.{layer}" for n in FRAGILE for layer in ("depthwise", "project")]
