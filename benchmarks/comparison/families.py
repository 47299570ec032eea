"""The nets that are compared, and how each is trained and quantized."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from convolutional_nets import (
    convnext,
    efficientnet,
    mobilenet_v2,
    mobilenet_v3,
    resnet,
    shufflenet,
    squeezenet,
)
from sequence_nets import RowsGru, SmallBert, SmallVit
from torch import nn


@dataclass(frozen=True)
class Family:
    """A net and how it is trained.

    Args:
        build: makes it, with random weights.
        epochs: of its training.
        learning_rate: at its highest.
        words: whether it reads the pixels of a small image as words.
        transformer: whether NNCF is told that it is one.
    """

    build: Callable[[], nn.Module]
    epochs: int = 4
    learning_rate: float = 5e-3
    words: bool = False
    transformer: bool = False


FAMILIES: dict[str, Family] = {
    "ResNet": Family(resnet),
    "MobileNetV2": Family(mobilenet_v2),
    "MobileNetV3": Family(mobilenet_v3),
    "EfficientNet": Family(efficientnet),
    "ShuffleNet": Family(shufflenet),
    "SqueezeNet": Family(squeezenet, epochs=6, learning_rate=2e-3),
    "ConvNeXt": Family(convnext, epochs=6, learning_rate=3e-3),
    "ViT": Family(SmallVit, epochs=8, learning_rate=2e-3, transformer=True),
    "BERT": Family(SmallBert, epochs=7, learning_rate=3e-3, words=True, transformer=True),
    "GRU": Family(RowsGru, epochs=6, learning_rate=3e-3),
}


def layers(net: nn.Module) -> int:
    """Return how many layers with products of weights a net has, each of a recurrent one."""
    recurrent = sum(one.num_layers for one in net.modules() if isinstance(one, nn.RNNBase))
    return recurrent + sum(isinstance(one, nn.Conv2d | nn.Linear) for one in net.modules())
