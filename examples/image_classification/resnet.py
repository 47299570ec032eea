"""ResNets as He et al. describe them, in plain torch; nothing in them knows of int8.

Layers have the names that torchvision gives them, so its weights can be loaded.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


def shortcut(taken: int, given: int, stride: int) -> nn.Module:
    """Return what leads around a block: nothing, or a convolution where the shape changes."""
    if taken == given and stride == 1:
        return nn.Identity()
    return nn.Sequential(nn.Conv2d(taken, given, 1, stride, bias=False), nn.BatchNorm2d(given))


class Basic(nn.Module):
    """Two 3 x 3 convolutions, and a way around them."""

    widening = 1

    def __init__(self, taken: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(taken, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU()
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = shortcut(taken, width, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Return features."""
        y = self.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(y)) + self.downsample(x))


class Bottleneck(nn.Module):
    """Narrow, 3 x 3, wide again, and a way around them."""

    widening = 4

    def __init__(self, taken: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(taken, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, 4 * width, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * width)
        nn.init.zeros_(self.bn3.weight)  # a new block only passes on: deep nets learn sooner
        self.downsample = shortcut(taken, 4 * width, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Return features."""
        y = F.relu(self.bn1(self.conv1(x)))
        y = F.relu(self.bn2(self.conv2(y)))
        return F.relu(self.bn3(self.conv3(y)) + self.downsample(x))


class ResNet(nn.Module):
    """A stem, four stages of blocks, a head.

    Args:
        block: what makes a block of channels in, width and stride.
        depths: blocks of each stage.
        classes: how many.
        width: of the first stage; each one after it is twice as wide.
    """

    def __init__(
        self,
        block: type[Basic] | type[Bottleneck],
        depths: tuple[int, int, int, int],
        classes: int = 1000,
        width: int = 64,
    ) -> None:
        super().__init__()
        self._taken, wide = width, width * 8 * block.widening
        self.conv1 = nn.Conv2d(3, width, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU()
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        self.layer1 = self._stage(block, depths[0], width, 1)
        self.layer2 = self._stage(block, depths[1], width * 2, 2)
        self.layer3 = self._stage(block, depths[2], width * 4, 2)
        self.layer4 = self._stage(block, depths[3], width * 8, 2)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(wide, classes)

    def _stage(self, block: type[nn.Module], depth: int, width: int, stride: int) -> nn.Sequential:
        blocks = []
        for number in range(depth):
            blocks.append(block(self._taken, width, 1 if number else stride))
            self._taken = width * block.widening
        return nn.Sequential(*blocks)

    def forward(self, images: Tensor) -> Tensor:
        """Return a score for each class."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(images))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(self.avgpool(x).flatten(1))


def resnet18(classes: int = 1000, width: int = 64) -> ResNet:
    """Return a ResNet-18."""
    return ResNet(Basic, (2, 2, 2, 2), classes, width)


def resnet50(classes: int = 1000, width: int = 64) -> ResNet:
    """Return a ResNet-50."""
    return ResNet(Bottleneck, (3, 4, 6, 3), classes, width)
