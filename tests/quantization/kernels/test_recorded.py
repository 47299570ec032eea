"""Kernels in a trace: what is recorded gives the same bits, loaded as well."""

from __future__ import annotations

import io
import warnings

import pytest
import torch
from torch import nn

from lpot_lightning.quantization.kernels.arithmetic import ConvGeometry, Int8Weight
from lpot_lightning.quantization.kernels.grid import Grid
from lpot_lightning.quantization.kernels.layers import Int8Conv, Int8Layer, Int8Linear
from lpot_lightning.quantization.kernels.post_op import NONE, PostOp

X, OUT = Grid.over(-2, 3), Grid.over(-6, 9)
POST_OPS = [
    NONE,
    PostOp("relu"),
    PostOp("hardtanh", (-1e-5, 6.0)),
    PostOp("leaky_relu", (0.1,)),
    PostOp("gelu", (), "tanh"),
]


def loaded(model: nn.Module, *batch: torch.Tensor) -> torch.jit.ScriptModule:
    """Return what a trace of ``model`` is in another process."""
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*torch.jit")
        torch.jit.save(torch.jit.trace(model, batch), file)
        file.seek(0)
        return torch.jit.load(file)


def compare(layer: Int8Layer, x: torch.Tensor, other: torch.Tensor | None = None) -> None:
    given = (x,) if other is None else (x, other)
    found = loaded(layer, *(one[:2].clone() for one in given))
    assert "torch.onednn" in str(found.inlined_graph) or "onednn::" in str(found.inlined_graph)
    wanted = layer(*(one.clone() for one in given))
    assert torch.equal(found(*(one.clone() for one in given)), wanted)


def integers(*shape: int, seed: int = 0) -> torch.Tensor:
    return X.quantize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)))


def rounded(*shape: int, bias: bool = True) -> Int8Weight:
    return Int8Weight.of(torch.randn(*shape), torch.randn(shape[0]) if bias else None)


@pytest.mark.parametrize("post_op", POST_OPS, ids=lambda one: one.name)
@pytest.mark.parametrize("out", [None, OUT, Grid.over(-6, 9, high=127)], ids=["f32", "u8", "7bit"])
def test_a_linear_layer(post_op, out):
    compare(Int8Linear(rounded(5, 8), X, out, post_op), integers(4, 8))
    compare(Int8Linear(rounded(5, 8, bias=False), X, out, post_op), integers(4, 3, 8))


def test_a_linear_layer_that_adds():
    compare(Int8Linear(rounded(5, 8), X, None, PostOp("relu")), integers(4, 8), torch.randn(4, 5))
    compare(Int8Linear(rounded(5, 8), X, OUT, PostOp("tanh")), integers(4, 8), torch.randn(4, 5))


@pytest.mark.parametrize("post_op", POST_OPS, ids=lambda one: one.name)
@pytest.mark.parametrize("dims", [1, 2, 3])
def test_a_convolution(post_op, dims):
    geometry = ConvGeometry((2,) * dims, (1,) * dims, (1,) * dims, 2)
    layer = Int8Conv(rounded(6, 2, *(3,) * dims), X, geometry, OUT, post_op)
    compare(layer, integers(5, 4, *(7,) * dims))


def test_a_convolution_that_adds():
    layer = Int8Conv(rounded(6, 4, 3, 3), X, ConvGeometry((1,) * 2, (1,) * 2, (1,) * 2), OUT)
    layer.added = X
    compare(layer, integers(5, 4, 7, 7), integers(5, 6, 7, 7, seed=1))


def test_plain_arithmetic():
    layer = Int8Linear(rounded(5, 8), X, OUT)
    layer.exact = True
    x, wanted = integers(4, 8), layer(integers(4, 8))
    assert torch.equal(loaded(layer, x)(x), wanted)
