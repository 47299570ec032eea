"""The manual way of LPOT's first pages: stubs, fused layers, an addition that can be observed.

Torch's eager quantization could not do without. Here nothing of it is needed, and all of it is
taken as it is: a model that was prepared for LPOT runs unchanged.
"""

from __future__ import annotations

import warnings

from resnet import Basic, ResNet
from torch import Tensor, nn
from torch.ao.nn.quantized import FloatFunctional
from torch.ao.quantization import DeQuantStub, QuantStub, fuse_modules


class StubbedBasic(Basic):
    """Its addition is a module: an observer cannot see a ``+``."""

    def __init__(self, taken: int, width: int, stride: int) -> None:
        super().__init__(taken, width, stride)
        self.add = FloatFunctional()

    def forward(self, x: Tensor) -> Tensor:
        """Return features."""
        y = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        return self.add.add_relu(y, self.downsample(x))


class StubbedResNet(ResNet):
    """Says where int8 begins and ends."""

    def __init__(self, classes: int = 1000, width: int = 64) -> None:
        super().__init__(StubbedBasic, (2, 2, 2, 2), classes, width)
        self.quant, self.dequant = QuantStub(), DeQuantStub()

    def forward(self, images: Tensor) -> Tensor:
        """Return a score for each class."""
        return self.dequant(super().forward(self.quant(images)))


def fused(model: StubbedResNet) -> nn.Module:
    """Make one layer of each convolution, norm and ReLU, in place; in eval mode."""
    groups = [["conv1", "bn1", "relu"]]
    for path, block in model.named_modules():
        if isinstance(block, StubbedBasic):
            groups += [[f"{path}.conv1", f"{path}.bn1", f"{path}.relu"]]
            groups += [[f"{path}.conv2", f"{path}.bn2"]]
            if isinstance(block.downsample, nn.Sequential):
                groups += [[f"{path}.downsample.0", f"{path}.downsample.1"]]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=DeprecationWarning)  # torch.ao, since torch 2.10
        fuse_modules(model.eval(), groups, inplace=True)
    return model


def stubbed(model: ResNet) -> nn.Module:
    """Return a ResNet-18 as LPOT wanted it, with the weights of ``model``."""
    made = StubbedResNet(model.fc.out_features, model.conv1.out_channels)
    made.load_state_dict(model.state_dict())
    return fused(made)
