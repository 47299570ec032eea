"""What a convolution gives can be looked at as in fp32, by the model and by its caller."""

from __future__ import annotations

import pytest
import torch
from program_scenes import assert_same, captured, in_int8
from torch import Tensor, nn


def shown(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


class Looks(nn.Module):
    """A convolution whose result is looked at in another shape."""

    def __init__(self, look, dims: int = 2) -> None:
        super().__init__()
        convolution = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[dims - 1]
        self.conv, self.pool, self.look = convolution(3, 4, 3), nn.MaxPool2d(2), look

    def forward(self, x):
        return self.look(self.conv(x).relu())


def linear(x: Tensor) -> Tensor:
    return nn.functional.linear(x, torch.ones(2, x.shape[1]))


def written(x: Tensor) -> Tensor:
    seen = x.view(x.shape[0], -1)
    seen.mul_(2)
    return x + 1


LOOKS = {
    "in rows": lambda x: linear(x.view(x.size(0), -1)),
    "by name": lambda x: linear(x.view(size=(x.size(0), -1))),
    "all in one": lambda x: x.view(-1).sum(),
    "after a pool": lambda x: linear(nn.functional.max_pool2d(x, 2).view(x.size(0), -1)),
    "as another": lambda x: x.view_as(torch.empty(x.size(0), x[0].numel())),
    "bits": lambda x: x.view(torch.int32).view(x.size(0), -1).view(torch.float32),
    "as complex numbers": lambda x: torch.view_as_complex(x.view(x.size(0), -1, 2)).abs(),
    "written to": written,
    "by the caller": lambda x: x,
}
SHAPES = {1: (3, 3, 8), 2: (3, 3, 8, 8), 3: (2, 3, 4, 4, 4)}


@pytest.mark.parametrize("name", LOOKS)
def test_a_look_in_another_shape_is_that_of_fp32(name):
    net = Looks(LOOKS[name])
    layers = in_int8(net)
    graphs = captured(layers)[0]
    for size in (2, 3, 3):
        x = shown(size, 3, 8, 8)
        with torch.no_grad():
            assert graphs(x).stride() == layers(x).stride() == net(x).stride()
        assert_same(graphs, layers, x)


@pytest.mark.parametrize("dims", SHAPES)
def test_the_caller_gets_the_layout_of_fp32(dims):
    net, x = Looks(lambda x: x, dims), shown(*SHAPES[dims])
    layers = in_int8(net)
    with torch.no_grad():
        for form in (layers, captured(layers)[0]):
            assert form(x).view(x.shape[0], -1).stride() == net(x).view(x.shape[0], -1).stride()


def test_layers_keep_the_layout_of_their_input():
    net, x = Looks(lambda x: x), shown(3, 3, 8, 8).contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        assert in_int8(net)(x).stride() == net(x).stride()
