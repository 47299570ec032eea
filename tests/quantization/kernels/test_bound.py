"""A bound kernel gives what its layer gives, for shapes that it knows and others."""

from __future__ import annotations

import pytest
import torch

from lpot_lightning.quantization.kernels.arithmetic import ConvGeometry, Int8Weight
from lpot_lightning.quantization.kernels.bound import MOST, bound
from lpot_lightning.quantization.kernels.grid import Grid
from lpot_lightning.quantization.kernels.layers import Int8Conv, Int8Layer, Int8Linear
from lpot_lightning.quantization.kernels.post_op import PostOp

X, OUT, RELU = Grid(0.02, 60, 0, 127), Grid(0.05, 3), PostOp("relu")


def integers(*shape: int, seed: int = 0) -> torch.Tensor:
    draw = torch.Generator().manual_seed(seed)
    return torch.randint(0, 128, shape, generator=draw, dtype=torch.uint8)


def linear(out: Grid | None = None, post_op: PostOp = RELU) -> Int8Layer:
    torch.manual_seed(0)
    return Int8Linear(Int8Weight.of(torch.randn(6, 8), torch.randn(6)), X, out, post_op)


def conv(dims: int, out: Grid | None = None, post_op: PostOp = RELU) -> Int8Layer:
    torch.manual_seed(0)
    weight = Int8Weight.of(torch.randn(6, 4, *[3] * dims), torch.randn(6))
    one = (1,) * dims
    return Int8Conv(weight, X, ConvGeometry(one, one, one), out, post_op)


def summed() -> Int8Layer:
    layer = conv(2, OUT)
    layer.added = Grid(0.03, 7)
    return layer


def flat(*sizes: int) -> list[tuple[torch.Tensor, ...]]:
    return [(integers(size, 8, seed=size),) for size in sizes]


def images(*sizes: int, dims: int = 2) -> list[tuple[torch.Tensor, ...]]:
    return [(integers(size, 4, *[5] * dims, seed=size),) for size in sizes]


FLOATS = [(integers(2, 8), torch.randn(2, 6, generator=torch.Generator().manual_seed(1)))]
SUM = [(integers(2, 4, 5, 5), integers(2, 6, 5, 5, seed=1))]
CASES = {
    "linear": (linear(), flat(1, 3)),
    "linear to integers": (linear(OUT), flat(2)),
    "linear on a narrow grid": (linear(Grid(0.05, 3, 0, 127)), flat(2)),
    "linear of one sample": (linear(), [(integers(8),)]),
    "linear of tokens": (linear(), [(integers(2, 3, 8),)]),
    "linear and floats": (linear(), FLOATS),
    "linear and floats behind gelu": (linear(None, PostOp("gelu", (), "none")), FLOATS),
    "nothing": (linear(), [(integers(0, 8),)]),
    "conv1d": (conv(1), images(1, 3, dims=1)),
    "conv2d": (conv(2, OUT), images(1, 3)),
    "conv2d on a narrow grid": (conv(2, Grid(0.05, 3, 0, 127)), images(2)),
    "conv2d of a single sample": (conv(2), [(integers(4, 5, 5),)]),
    "conv2d and integers": (summed(), SUM),
    "conv3d": (conv(3, post_op=PostOp()), images(2, dims=3)),
    "conv3d with a post op": (conv(3), images(2, dims=3)),
}


@pytest.mark.parametrize("name", CASES)
def test_it_gives_what_forward_gives(name):
    layer, calls = CASES[name]
    kernel = bound(layer)
    for given in [*calls, *calls, *calls]:
        wanted = layer.forward(*(one.clone() for one in given))
        assert torch.equal(kernel(*(one.clone() for one in given)), wanted)


def test_a_shape_that_is_known_needs_no_forward(monkeypatch):
    layer = linear()
    kernel = bound(layer)
    wanted = kernel(integers(2, 8))
    monkeypatch.setattr(layer, "forward", None)
    assert torch.equal(kernel(integers(2, 8)), wanted)
    with pytest.raises(TypeError):
        kernel(integers(3, 8))


def test_plain_arithmetic_stays_plain_arithmetic(monkeypatch):
    layer = linear()
    layer.exact = True
    kernel = bound(layer)
    wanted = layer.forward(integers(2, 8))
    monkeypatch.setattr(layer, "_kernel", None)
    for _ in range(2):
        assert torch.equal(kernel(integers(2, 8)), wanted)


def test_what_does_not_fit_is_told_each_time():
    kernel = bound(linear())
    for _ in range(2):
        with pytest.raises(RuntimeError, match="a linear layer of 8 inputs got"):
            kernel(integers(2, 7))


def test_any_number_of_shapes_comes_by():
    layer = linear()
    kernel = bound(layer)
    for size in [*range(1, MOST + 5), 1, 2]:
        assert torch.equal(kernel(integers(size, 8)), layer.forward(integers(size, 8)))
