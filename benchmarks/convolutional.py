"""Convolutional nets of today in plain torch, with the widths and depths of their papers."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def conv_norm(
    taken: int, given: int, size: int, stride: int = 1, groups: int = 1
) -> tuple[nn.Module, nn.Module]:
    """Return a convolution and its norm."""
    conv = nn.Conv2d(taken, given, size, stride, size // 2, groups=groups, bias=False)
    return conv, nn.BatchNorm2d(given)


class SqueezeExcite(nn.Module):
    """Weigh the channels by what all places say (Hu et al., 2018).

    Args:
        channels: that are weighed.
        inner: width between the two layers.
        inside: the activation between them.
        gate: what makes weights of the answer.
    """

    def __init__(
        self, channels: int, inner: int, inside: nn.Module, gate: Callable[[Tensor], Tensor]
    ) -> None:
        super().__init__()
        self.squeeze, self.inside = nn.Conv2d(channels, inner, 1), inside
        self.excite, self.gate = nn.Conv2d(inner, channels, 1), gate

    def forward(self, x: Tensor) -> Tensor:
        """Return the weighed channels."""
        mean = F.adaptive_avg_pool2d(x, 1)
        return x * self.gate(self.excite(self.inside(self.squeeze(mean))))


class MbConv(nn.Module):
    """Expand, filter each channel, weigh, project (Tan and Le, 2019)."""

    def __init__(self, taken: int, given: int, expansion: int, size: int, stride: int) -> None:
        super().__init__()
        wide = taken * expansion
        layers: list[nn.Module] = []
        if expansion > 1:
            layers += [*conv_norm(taken, wide, 1), nn.SiLU()]
        layers += [*conv_norm(wide, wide, size, stride, wide), nn.SiLU()]
        layers += [SqueezeExcite(wide, taken // 4, nn.SiLU(), torch.sigmoid)]
        self.layers = nn.Sequential(*layers, *conv_norm(wide, given, 1))
        self.shortcut = stride == 1 and taken == given

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's features."""
        y: Tensor = self.layers(x)
        return x + y if self.shortcut else y


# expansion, channels, blocks, stride, kernel
B0 = [
    (1, 16, 1, 1, 3),
    (6, 24, 2, 2, 3),
    (6, 40, 2, 2, 5),
    (6, 80, 3, 2, 3),
    (6, 112, 3, 1, 5),
    (6, 192, 4, 2, 5),
    (6, 320, 1, 1, 3),
]


def efficientnet_b0() -> nn.Module:
    """Return a net like EfficientNet-B0: 5.3 million parameters."""
    blocks, taken = [], 32
    for expansion, given, count, stride, size in B0:
        for number in range(count):
            blocks.append(MbConv(taken, given, expansion, size, 1 if number else stride))
            taken = given
    return nn.Sequential(
        *conv_norm(3, 32, 3, 2), nn.SiLU(), *blocks, *conv_norm(taken, 1280, 1), nn.SiLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1280, 1000),
    )  # fmt: skip


class Inverted(nn.Module):
    """The block of MobileNetV3 (Howard et al., 2019)."""

    def __init__(
        self, taken: int, wide: int, given: int, size: int, stride: int, *, hard: bool, gated: bool
    ) -> None:
        super().__init__()
        act = nn.Hardswish if hard else nn.ReLU
        layers: list[nn.Module] = []
        if wide != taken:
            layers += [*conv_norm(taken, wide, 1), act()]
        layers += [*conv_norm(wide, wide, size, stride, wide), act()]
        if gated:
            inner = max(8, (wide // 4 + 4) // 8 * 8)
            layers.append(SqueezeExcite(wide, inner, nn.ReLU(), F.hardsigmoid))
        self.layers = nn.Sequential(*layers, *conv_norm(wide, given, 1))
        self.shortcut = stride == 1 and taken == given

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's features."""
        y: Tensor = self.layers(x)
        return x + y if self.shortcut else y


# taken, wide, given, kernel, stride, hard-swish, squeeze and excite
SMALL = [
    (16, 16, 16, 3, 2, False, True),
    (16, 72, 24, 3, 2, False, False),
    (24, 88, 24, 3, 1, False, False),
    (24, 96, 40, 5, 2, True, True),
    (40, 240, 40, 5, 1, True, True),
    (40, 240, 40, 5, 1, True, True),
    (40, 120, 48, 5, 1, True, True),
    (48, 144, 48, 5, 1, True, True),
    (48, 288, 96, 5, 2, True, True),
    (96, 576, 96, 5, 1, True, True),
    (96, 576, 96, 5, 1, True, True),
]


def mobilenet_v3_small() -> nn.Module:
    """Return a net like MobileNetV3-small: 2.5 million parameters."""
    blocks = [Inverted(*shape, hard=hard, gated=gated) for *shape, hard, gated in SMALL]
    return nn.Sequential(
        *conv_norm(3, 16, 3, 2), nn.Hardswish(), *blocks, *conv_norm(96, 576, 1), nn.Hardswish(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(576, 1024), nn.Hardswish(), nn.Linear(1024, 1000),
    )  # fmt: skip


class Conv(nn.Module):
    """Convolution, norm, and the one activation object that all of a net have."""

    act = nn.SiLU()

    def __init__(self, taken: int, given: int, size: int = 1, stride: int = 1) -> None:
        super().__init__()
        self.conv, self.bn = conv_norm(taken, given, size, stride)
        self.act = Conv.act

    def forward(self, x: Tensor) -> Tensor:
        """Return the activated channels."""
        y: Tensor = self.act(self.bn(self.conv(x)))
        return y


class Bottleneck(nn.Module):
    """Two convolutions, and a way around them in the backbone."""

    def __init__(self, channels: int, around: bool) -> None:
        super().__init__()
        self.first, self.second = Conv(channels, channels, 3), Conv(channels, channels, 3)
        self.around = around

    def forward(self, x: Tensor) -> Tensor:
        """Return as many channels."""
        y: Tensor = self.second(self.first(x))
        return x + y if self.around else y


class C2f(nn.Module):
    """Each bottleneck reads what the one before gives; all of it is put side by side."""

    def __init__(self, taken: int, given: int, depth: int, around: bool) -> None:
        super().__init__()
        half = given // 2
        self.first, self.last = Conv(taken, given), Conv((2 + depth) * half, given)
        self.inner = nn.ModuleList(Bottleneck(half, around) for _ in range(depth))

    def forward(self, x: Tensor) -> Tensor:
        """Return ``given`` channels."""
        parts = list(self.first(x).chunk(2, 1))
        parts.extend(block(parts[-1]) for block in self.inner)
        y: Tensor = self.last(torch.cat(parts, 1))
        return y


class Sppf(nn.Module):
    """Maxima of growing neighbourhoods, side by side."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first, self.last = Conv(channels, channels // 2), Conv(2 * channels, channels)
        self.pool = nn.MaxPool2d(5, 1, 2)

    def forward(self, x: Tensor) -> Tensor:
        """Return as many channels."""
        parts = [self.first(x)]
        for _ in range(3):
            parts.append(self.pool(parts[-1]))
        y: Tensor = self.last(torch.cat(parts, 1))
        return y


def _branch(taken: int, inner: int, given: int) -> nn.Module:
    return nn.Sequential(Conv(taken, inner, 3), Conv(inner, inner, 3), nn.Conv2d(inner, given, 1))


class Yolo(nn.Module):
    """Backbone, neck and heads like those of YOLOv8n: 3.2 million parameters.

    The answer is the heads' own, of three scales: 64 numbers of a box and 80 classes a place.
    """

    def __init__(self, boxes: int = 64, classes: int = 80) -> None:
        super().__init__()
        self.stem = nn.Sequential(Conv(3, 16, 3, 2), Conv(16, 32, 3, 2), C2f(32, 32, 1, True))
        self.stage3 = nn.Sequential(Conv(32, 64, 3, 2), C2f(64, 64, 2, True))
        self.stage4 = nn.Sequential(Conv(64, 128, 3, 2), C2f(128, 128, 2, True))
        self.stage5 = nn.Sequential(Conv(128, 256, 3, 2), C2f(256, 256, 1, True), Sppf(256))
        self.up = nn.Upsample(scale_factor=2, mode="nearest")
        self.top4, self.top3 = C2f(384, 128, 1, False), C2f(192, 64, 1, False)
        self.down3, self.bottom4 = Conv(64, 64, 3, 2), C2f(192, 128, 1, False)
        self.down4, self.bottom5 = Conv(128, 128, 3, 2), C2f(384, 256, 1, False)
        self.boxes = nn.ModuleList(_branch(one, 64, boxes) for one in (64, 128, 256))
        self.classes = nn.ModuleList(_branch(one, 80, classes) for one in (64, 128, 256))

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return the answers of three scales."""
        third = self.stage3(self.stem(x))
        fourth = self.stage4(third)
        fifth = self.stage5(fourth)
        mixed = self.top4(torch.cat([self.up(fifth), fourth], 1))
        p3 = self.top3(torch.cat([self.up(mixed), third], 1))
        p4 = self.bottom4(torch.cat([self.down3(p3), mixed], 1))
        p5 = self.bottom5(torch.cat([self.down4(p4), fifth], 1))
        heads = zip((p3, p4, p5), self.boxes, self.classes, strict=True)
        return [torch.cat([boxes(one), classes(one)], 1) for one, boxes, classes in heads]
