"""ResNeSt: a ResNet whose 3 x 3 convolutions are split, and weighed by attention.

After Zhang et al., "ResNeSt: Split-Attention Networks" (2020). Layers have the names that they have
in the authors' package.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class SplitAttention(nn.Module):
    """A grouped convolution in ``radix`` splits, added up with weights that depend on the image."""

    def __init__(self, width: int, radix: int = 2) -> None:
        super().__init__()
        inner = max(width * radix // 4, 32)
        self.radix, self.width = radix, width
        self.conv = nn.Conv2d(width, width * radix, 3, 1, 1, groups=radix, bias=False)
        self.bn0 = nn.BatchNorm2d(width * radix)
        self.fc1 = nn.Conv2d(width, inner, 1)
        self.bn1 = nn.BatchNorm2d(inner)
        self.fc2 = nn.Conv2d(inner, width * radix, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return features of the shape of ``x``."""
        splits = F.relu(self.bn0(self.conv(x))).chunk(self.radix, 1)
        whole = splits[0]
        for number in range(1, self.radix):
            whole = whole + splits[number]
        asked = F.relu(self.bn1(self.fc1(F.adaptive_avg_pool2d(whole, 1))))
        shares = self.fc2(asked).reshape(-1, self.radix, self.width, 1, 1).softmax(1)
        found = shares[:, 0] * splits[0]
        for number in range(1, self.radix):
            found = found + shares[:, number] * splits[number]
        return found


class Block(nn.Module):
    """Narrow, split attention, wide again, and a way around them; smaller by averaging."""

    def __init__(self, taken: int, width: int, stride: int) -> None:
        super().__init__()
        given = 4 * width
        self.conv1 = nn.Conv2d(taken, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = SplitAttention(width)
        self.avd_layer = nn.AvgPool2d(3, stride, 1) if stride > 1 else nn.Identity()
        self.conv3 = nn.Conv2d(width, given, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(given)
        nn.init.zeros_(self.bn3.weight)  # a new block only passes on: deep nets learn sooner
        self.downsample = (
            nn.Identity()
            if taken == given and stride == 1
            else nn.Sequential(
                nn.AvgPool2d(stride, stride, ceil_mode=True, count_include_pad=False),
                nn.Conv2d(taken, given, 1, bias=False),
                nn.BatchNorm2d(given),
            )
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return features."""
        y = self.avd_layer(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(self.bn3(self.conv3(y)) + self.downsample(x))


def _deep_stem(width: int) -> nn.Sequential:
    narrow = width // 2
    return nn.Sequential(
        nn.Conv2d(3, narrow, 3, 2, 1, bias=False), nn.BatchNorm2d(narrow), nn.ReLU(),
        nn.Conv2d(narrow, narrow, 3, 1, 1, bias=False), nn.BatchNorm2d(narrow), nn.ReLU(),
        nn.Conv2d(narrow, width, 3, 1, 1, bias=False),
    )  # fmt: skip


class ResNeSt(nn.Module):
    """A deep stem, four stages of blocks, a head.

    Args:
        depths: blocks of each stage.
        classes: how many.
        width: of the first stage; each one after it is twice as wide.
    """

    def __init__(
        self, depths: tuple[int, int, int, int], classes: int = 1000, width: int = 64
    ) -> None:
        super().__init__()
        self._taken = width
        self.conv1 = _deep_stem(width)
        self.bn1 = nn.BatchNorm2d(width)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        self.layer1 = self._stage(depths[0], width, 1)
        self.layer2 = self._stage(depths[1], width * 2, 2)
        self.layer3 = self._stage(depths[2], width * 4, 2)
        self.layer4 = self._stage(depths[3], width * 8, 2)
        self.fc = nn.Linear(width * 32, classes)

    def _stage(self, depth: int, width: int, stride: int) -> nn.Sequential:
        blocks = []
        for number in range(depth):
            blocks.append(Block(self._taken, width, 1 if number else stride))
            self._taken = 4 * width
        return nn.Sequential(*blocks)

    def forward(self, images: Tensor) -> Tensor:
        """Return a score for each class."""
        x = self.maxpool(F.relu(self.bn1(self.conv1(images))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(F.adaptive_avg_pool2d(x, 1).flatten(1))


def resnest50(classes: int = 1000, width: int = 64) -> ResNeSt:
    """Return a ResNeSt-50 of two splits and one group."""
    return ResNeSt((3, 4, 6, 3), classes, width)
