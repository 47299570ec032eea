"""ResNets in plain torch, as He et al. describe them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn


def _conv(taken: int, given: int, size: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(taken, given, size, stride, size // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(given))


class Block(nn.Module):
    """Convolutions and a way around them: two of 3x3, or with a bottleneck of a quarter.

    With groups the bottleneck is a half.
    """

    def __init__(
        self, taken: int, given: int, stride: int, bottleneck: bool, groups: int = 1
    ) -> None:
        super().__init__()
        inner = given // (4 if groups == 1 else 2)
        self.way = (
            nn.Sequential(
                _conv(taken, inner, 1), nn.ReLU(),
                _conv(inner, inner, 3, stride, groups), nn.ReLU(),
                _conv(inner, given, 1),
            )
            if bottleneck
            else nn.Sequential(_conv(taken, given, 3, stride), nn.ReLU(), _conv(given, given, 3))
        )  # fmt: skip
        same = taken == given and stride == 1
        self.around = nn.Identity() if same else _conv(taken, given, 1, stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.relu(self.way(x) + self.around(x))


def resnet(
    depths: tuple[int, ...], bottleneck: bool, classes: int = 1000, groups: int = 1
) -> nn.Sequential:
    """Return a ResNet for pictures of three channels."""
    layers: list[nn.Module] = [_conv(3, 64, 7, 2), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
    taken = 64
    for stage, depth in enumerate(depths):
        given = 64 * 2**stage * (4 if bottleneck else 1)
        for number in range(depth):
            stride = 2 if stage and not number else 1
            layers.append(Block(taken, given, stride, bottleneck, groups))
            taken = given
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(taken, classes))


def resnet18() -> nn.Sequential:
    """Return a ResNet-18: 11.7 million parameters."""
    return resnet((2, 2, 2, 2), bottleneck=False)


def resnet50() -> nn.Sequential:
    """Return a ResNet-50: 25.6 million parameters."""
    return resnet((3, 4, 6, 3), bottleneck=True)


def resnext50() -> nn.Sequential:
    """Return a ResNeXt-50 of 32 groups, 4 wide in the first stage: 25.0 million parameters."""
    return resnet((3, 4, 6, 3), bottleneck=True, groups=32)
