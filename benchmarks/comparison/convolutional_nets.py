"""Small convolutional nets of well-known families, for images of ``[batch, 1, 16, 16]``."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from convolutional import Inverted, MbConv, conv_norm
from resnets import Block
from torch import Tensor, nn

CLASSES = 10


def resnet() -> nn.Module:
    """Return a ResNet (He et al., 2015): a stem and six blocks of two convolutions."""
    shapes = [(24, 24, 1), (24, 24, 1), (24, 48, 2), (48, 48, 1), (48, 96, 2), (96, 96, 1)]
    blocks = [Block(*shape, bottleneck=False) for shape in shapes]
    return nn.Sequential(*conv_norm(1, 24, 3), nn.ReLU(), *blocks, *_head(96))


def _head(channels: int) -> tuple[nn.Module, ...]:
    return nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, CLASSES)


class InvertedResidual(nn.Module):
    """The block of MobileNetV2 (Sandler et al., 2018): expand, filter each channel, project."""

    def __init__(self, taken: int, given: int, stride: int, expansion: int = 6) -> None:
        super().__init__()
        wide = taken * expansion
        self.layers = nn.Sequential(
            *(*conv_norm(taken, wide, 1), nn.ReLU6()),
            *(*conv_norm(wide, wide, 3, stride, wide), nn.ReLU6()),
            *conv_norm(wide, given, 1),
        )
        self.shortcut = stride == 1 and taken == given

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's features."""
        y: Tensor = self.layers(x)
        return x + y if self.shortcut else y


def mobilenet_v2() -> nn.Module:
    """Return a MobileNetV2: a stem, seven blocks and a wide last convolution."""
    shapes = [(16, 24, 2), (24, 24, 1), (24, 32, 1), (32, 32, 1), (32, 48, 2), (48, 48, 1)]
    blocks = [InvertedResidual(*shape) for shape in [*shapes, (48, 64, 1)]]
    last = (*conv_norm(64, 256, 1), nn.ReLU6())
    return nn.Sequential(*conv_norm(1, 16, 3), nn.ReLU6(), *blocks, *last, *_head(256))


# taken, wide, given, kernel, stride, hard-swish, squeeze and excite: from MobileNetV3-small
V3 = [
    (16, 16, 16, 3, 1, False, True),
    (16, 72, 24, 3, 2, False, False),
    (24, 88, 24, 3, 1, False, False),
    (24, 96, 40, 5, 2, True, True),
    (40, 240, 40, 5, 1, True, True),
    (40, 120, 48, 5, 1, True, True),
    (48, 144, 48, 5, 1, True, True),
]


def mobilenet_v3() -> nn.Module:
    """Return a MobileNetV3 (Howard et al., 2019): seven blocks of the small one's widths."""
    blocks = [Inverted(*shape, hard=hard, gated=gated) for *shape, hard, gated in V3]
    return nn.Sequential(
        *(*conv_norm(1, 16, 3), nn.Hardswish(), *blocks, *conv_norm(48, 288, 1), nn.Hardswish()),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten()),
        *(nn.Linear(288, 128), nn.Hardswish(), nn.Linear(128, CLASSES)),
    )


# taken, given, expansion, kernel, stride: from EfficientNet-B0
B0 = [
    (16, 16, 1, 3, 1),
    (16, 24, 6, 3, 2),
    (24, 24, 6, 3, 1),
    (24, 40, 6, 5, 2),
    (40, 40, 6, 5, 1),
    (40, 56, 6, 5, 1),
]


def efficientnet() -> nn.Module:
    """Return an EfficientNet (Tan and Le, 2019): six blocks of B0's kind."""
    blocks = [MbConv(*shape) for shape in B0]
    last = (*conv_norm(56, 224, 1), nn.SiLU())
    return nn.Sequential(*conv_norm(1, 16, 3), nn.SiLU(), *blocks, *last, *_head(224))


def shuffled(x: Tensor) -> Tensor:
    """Return the channels of two halves by turns."""
    return x.unflatten(1, (2, x.shape[1] // 2)).transpose(1, 2).flatten(1, 2)


class ShuffleUnit(nn.Module):
    """The block of ShuffleNetV2 (Ma et al., 2018): half of the channels go around it."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        half = channels // 2
        self.way = nn.Sequential(
            *(*conv_norm(half, half, 1), nn.ReLU()),
            *conv_norm(half, half, 3, groups=half),
            *(*conv_norm(half, half, 1), nn.ReLU()),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return as many channels, in another order."""
        around, taken = x.chunk(2, 1)
        return shuffled(torch.cat([around, self.way(taken)], 1))


class ShuffleDown(nn.Module):
    """The block of ShuffleNetV2 that halves the image: two ways, no channel goes around."""

    def __init__(self, taken: int, given: int) -> None:
        super().__init__()
        half = given // 2
        self.left = nn.Sequential(
            *conv_norm(taken, taken, 3, 2, taken), *(*conv_norm(taken, half, 1), nn.ReLU())
        )
        self.right = nn.Sequential(
            *(*conv_norm(taken, half, 1), nn.ReLU()),
            *conv_norm(half, half, 3, 2, half),
            *(*conv_norm(half, half, 1), nn.ReLU()),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return ``given`` channels of half the size."""
        return shuffled(torch.cat([self.left(x), self.right(x)], 1))


def shufflenet() -> nn.Module:
    """Return a ShuffleNetV2: two stages of four units each."""
    blocks: list[nn.Module] = []
    for taken, given in ((24, 64), (64, 128)):
        blocks += [ShuffleDown(taken, given), *(ShuffleUnit(given) for _ in range(3))]
    last = (*conv_norm(128, 256, 1), nn.ReLU())
    return nn.Sequential(*conv_norm(1, 24, 3), nn.ReLU(), *blocks, *last, *_head(256))


class Fire(nn.Module):
    """The block of SqueezeNet (Iandola et al., 2016): few channels, then two kinds of kernels."""

    def __init__(self, taken: int, squeezed: int, each: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(taken, squeezed, 1)
        self.small = nn.Conv2d(squeezed, each, 1)
        self.large = nn.Conv2d(squeezed, each, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Return twice ``each`` channels."""
        x = F.relu(self.squeeze(x))
        return torch.cat([F.relu(self.small(x)), F.relu(self.large(x))], 1)


def squeezenet() -> nn.Module:
    """Return a SqueezeNet: six fire modules, no norms, a convolution as its head."""
    net = nn.Sequential(
        *(nn.Conv2d(1, 48, 3, padding=1), nn.ReLU(), nn.MaxPool2d(3, 2, 1)),
        *(Fire(48, 16, 32), Fire(64, 16, 32), nn.MaxPool2d(3, 2, 1)),
        *(Fire(64, 24, 48), Fire(96, 24, 48), Fire(96, 32, 64), Fire(128, 32, 64)),
        *(nn.Conv2d(128, CLASSES, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()),
    )
    for layer in net.modules():
        if isinstance(layer, nn.Conv2d):  # else it does not learn, without norms
            nn.init.kaiming_uniform_(layer.weight, nonlinearity="relu")
            nn.init.zeros_(layer.bias)
    return net


class NextBlock(nn.Module):
    """The block of ConvNeXt (Liu et al., 2022): large kernels, then two linear layers a place."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(width, width, 7, padding=3, groups=width)
        self.norm, self.scale = nn.LayerNorm(width, 1e-6), nn.Parameter(0.1 * torch.ones(width))
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Return as many channels."""
        y = self.norm(self.depthwise(x).permute(0, 2, 3, 1))
        y = self.scale * self.down(F.gelu(self.up(y)))
        return x + y.permute(0, 3, 1, 2)


class ChannelNorm(nn.LayerNorm):
    """A norm over the channels of each place."""

    def forward(self, x: Tensor) -> Tensor:
        """Return as many channels."""
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def convnext() -> nn.Module:
    """Return a ConvNeXt: patches of two by two, two stages of two and three blocks."""
    return nn.Sequential(
        *(nn.Conv2d(1, 40, 2, 2), ChannelNorm(40, 1e-6), NextBlock(40), NextBlock(40)),
        *(ChannelNorm(40, 1e-6), nn.Conv2d(40, 80, 2, 2), *(NextBlock(80) for _ in range(3))),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.LayerNorm(80, 1e-6), nn.Linear(80, CLASSES)),
    )
