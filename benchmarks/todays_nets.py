"""The nets whose speed is measured, with weights, data and goals of their own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from attentive import Bert, Vit
from convolutional import Yolo, efficientnet_b0, mobilenet_v3_small
from planted_net import PlantedNet
from resnets import resnet50
from torch import Tensor, nn

Maker = Callable[[int, torch.Generator], Tensor]
PASSES, LEARNED = 4, 8


def images(size: int, channels: int = 3) -> Maker:
    """Return what makes images: large patches with finer noise on them."""

    def make(count: int, generator: torch.Generator) -> Tensor:
        coarse = torch.randn(count, channels, 8, 8, generator=generator)
        fine = torch.randn(count, channels, size, size, generator=generator)
        return F.interpolate(coarse, size=(size, size), mode="bilinear") + 0.3 * fine

    return make


def texts(tokens: int) -> Maker:
    """Return what makes the numbers of words."""
    return lambda count, generator: torch.randint(0, 30522, (count, tokens), generator=generator)


@dataclass(frozen=True)
class Net:
    """A net and what is asked of it.

    Args:
        build: makes it, with random weights.
        inputs: makes a batch of as many samples as asked for.
        goals: the least speed-up over fp32, on one thread, by batch.
        batches: that are measured.
        transformer: whether NNCF is told that it is one.
    """

    build: Callable[[], nn.Module]
    inputs: Maker
    goals: Mapping[int, float] = field(default_factory=dict)
    batches: tuple[int, ...] = (1, 8)
    transformer: bool = False

    def made(self) -> nn.Module:
        """Return the net, always the same, with norms that have seen data."""
        torch.manual_seed(0)
        net = self.build()
        _let_live(net, self)
        return net.eval().requires_grad_(False)

    def data(self, count: int, seed: int) -> Tensor:
        """Return so many samples, always the same."""
        return self.inputs(count, torch.Generator().manual_seed(seed))


@torch.no_grad()
def _let_live(net: nn.Module, kind: Net) -> None:
    norms = [one for one in net.modules() if isinstance(one, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = None  # the mean of all batches
        norm.weight.uniform_(0.5, 1.5)
        norm.bias.normal_(0, 0.2)
    for number in range(PASSES if norms else 0):
        net.train()(kind.data(LEARNED, 100 + number))


NETS: dict[str, Net] = {
    "ResNet-50": Net(resnet50, images(224), {1: 4.5, 8: 4.5}),
    "EfficientNet-B0-like": Net(efficientnet_b0, images(224), {1: 1.7, 8: 2.8}),
    "MobileNetV3-small-like": Net(mobilenet_v3_small, images(224), {1: 1.5, 8: 2.6}),
    "YOLOv8n-like": Net(Yolo, images(320), {1: 1.8, 8: 2.4}),
    "ViT-S/16": Net(Vit, images(224), {1: 2.65, 8: 2.65}, transformer=True),
    "BERT, 4 layers of 128 tokens": Net(
        Bert, texts(128), {1: 2.4, 16: 2.6}, (1, 16), transformer=True
    ),
    "planted net": Net(PlantedNet, images(16, 1), batches=(1, 100)),
}
