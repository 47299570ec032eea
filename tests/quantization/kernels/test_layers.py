from __future__ import annotations

import copy
import io
import itertools
import threading

import pytest
import torch
import torch.nn.functional as F
from grid_scenes import HIGH, grid_over
from torch import nn

from lpot_lightning.quantization.kernels.arithmetic import ConvGeometry, Int8Weight
from lpot_lightning.quantization.kernels.grid import Grid
from lpot_lightning.quantization.kernels.layers import Int8Conv, Int8Layer, Int8Linear
from lpot_lightning.quantization.kernels.post_op import NONE, PostOp
from lpot_lightning.quantization.kernels.proof import wrong_kernel

X, SEVEN_BITS, SIGNED = grid_over(-4, 4), Grid.over(-4, 4, high=127), Grid.symmetric(4.0)
OUTS = (None, Grid.over(-3, 3), Grid.over(-3, 3, high=127), Grid.symmetric(3.0))
POST_OPS = (
    NONE,
    PostOp("relu"),
    PostOp("hardtanh", (0.0, 6.0)),
    PostOp("hardtanh", (-1.0, 1.0)),
    PostOp("hardswish"),
    PostOp("swish"),
    PostOp("leaky_relu", (0.1,)),
    PostOp("tanh"),
    PostOp("gelu", (), "none"),
    PostOp("gelu", (), "tanh"),
)
CONVS = {
    "1d": (nn.Conv1d(6, 8, 3, stride=2, padding=1, groups=2), (6, 11)),
    "2d": (nn.Conv2d(6, 8, 3, padding=1), (6, 7, 5)),
    "depthwise": (nn.Conv2d(6, 6, 3, stride=2, groups=6, bias=False), (6, 9, 9)),
    "dilated": (nn.Conv2d(6, 8, 3, padding=2, dilation=2), (6, 7, 7)),
    "3d": (nn.Conv3d(6, 8, 3, padding=1), (6, 4, 5, 3)),
}


def linear(x: Grid = X, out: Grid | None = None, post_op: PostOp = NONE) -> Int8Linear:
    torch.manual_seed(0)
    own = nn.Linear(24, 10)
    return Int8Linear(Int8Weight.of(own.weight, own.bias), x, out, post_op)


def conv(own: nn.Module, out: Grid | None = None, post_op: PostOp = NONE) -> Int8Conv:
    geometry = ConvGeometry(own.stride, own.padding, own.dilation, own.groups)
    return Int8Conv(Int8Weight.of(own.weight, own.bias), X, geometry, out, post_op)


def integers(*shape: int, grid: Grid = X) -> torch.Tensor:
    torch.manual_seed(1)
    return grid.quantize(2 * torch.randn(*shape))


def test_signed_input_is_exact_where_eight_bits_are():
    assert (wrong_kernel(linear(SIGNED), [(5, 24)]) is None) == (HIGH == 255)


@pytest.mark.parametrize("x", [X, SEVEN_BITS, SIGNED] if HIGH == 255 else [X])
def test_linear_kernels_are_the_arithmetic(x):
    for out, post_op in itertools.product(OUTS, POST_OPS):
        layer = linear(x, out, post_op)
        assert wrong_kernel(layer, [(1, 24), (5, 24), (2, 3, 4, 24)]) is None


@pytest.mark.parametrize("kind", CONVS)
def test_conv_kernels_are_the_arithmetic(kind):
    own, shape = CONVS[kind]
    for out, post_op in itertools.product(OUTS, POST_OPS):
        layer = conv(own, out, post_op)
        assert wrong_kernel(layer, [(1, *shape), (3, *shape), (130, *shape)]) is None


@pytest.mark.parametrize("kind", CONVS)
def test_it_computes_what_the_rounded_layer_does(kind):
    own, shape = CONVS[kind]
    layer, x = conv(own), integers(2, *shape)
    rounded = copy.deepcopy(own)
    rounded.weight.data = Int8Weight.of(own.weight).dequantize()
    with torch.no_grad():
        torch.testing.assert_close(layer(x), rounded(X.dequantize(x)), rtol=1e-5, atol=1e-5)
        assert torch.equal(layer(x[0]), layer(x[:1])[0])  # torch's layers take a single sample


def test_channels_last_stays_and_changes_nothing():
    layer, x = conv(CONVS["2d"][0], OUTS[1]), integers(2, 6, 7, 5)
    last = layer(x.contiguous(memory_format=torch.channels_last))
    assert torch.equal(last, layer(x))
    assert last.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("post_op", [NONE, PostOp("relu"), PostOp("swish")])
@pytest.mark.parametrize("out", OUTS)
def test_floats_are_added_before_the_post_op(out, post_op):
    x, other = integers(5, 24), torch.randn(5, 10)
    before = other.clone()
    layer, plain = linear(X, out, post_op), linear()
    wanted = post_op(plain(x) + other)
    found = layer(x, other)
    got = found if out is None else out.dequantize(found)
    bound = 1e-5 if out is None else out.scale * 0.51
    clipped = wanted if out is None else out.dequantize(out.quantize(wanted))
    assert (got - clipped).abs().max() <= bound
    assert torch.equal(other, before)


def test_signed_input_has_no_conv_kernel_and_is_computed_all_the_same():
    own, shape = CONVS["2d"]
    layer = Int8Conv(Int8Weight.of(own.weight, own.bias), SIGNED, conv(own).geometry)
    x = integers(2, *shape, grid=SIGNED)
    with torch.no_grad():
        wanted = F.conv2d(SIGNED.dequantize(x), layer.rounded.dequantize(), own.bias, padding=1)
    torch.testing.assert_close(layer(x), wanted, rtol=1e-5, atol=1e-5)


def test_a_transposed_weight_is_packed_as_it_is():
    torch.manual_seed(0)
    layer = Int8Linear(Int8Weight.of(torch.randn(24, 10).t()), X)
    assert wrong_kernel(layer, [(5, 24)]) is None


@pytest.mark.parametrize("exact", [True, False])
def test_another_one_for_the_same_input_computes_the_same_way(exact):
    for layer in (linear(), conv(CONVS["2d"][0])):
        layer.exact = exact
        made = layer.like(layer.rounded, OUTS[1], PostOp("relu"))
        assert (type(made), made.exact, made.x) == (type(layer), exact, X)


def test_nothing_in_nothing_out():
    assert linear(out=X)(integers(0, 24)).shape == (0, 10)


def test_a_changed_weight_is_taken():
    layer, x = linear(), integers(4, 24)
    before = layer(x)
    with torch.no_grad():
        layer.weight.zero_()
    assert torch.equal(layer(x), layer.bias.expand(4, 10))
    layer.weight.data = linear().weight.clone()
    assert torch.equal(layer(x), before)


def test_so_is_one_that_was_made_in_inference_mode():
    with torch.inference_mode():
        layer, x = linear(), integers(4, 24)
        before = layer(x)
        layer.weight.neg_()
        torch.testing.assert_close(layer(x) - layer.bias, layer.bias - before)


def test_a_state_dict_carries_it_to_another_one():
    layer, x = linear(), integers(4, 24)
    held = io.BytesIO()
    torch.save(layer.state_dict(), held)
    held.seek(0)
    other = Int8Linear(Int8Weight.of(torch.randn(10, 24), torch.randn(10)), X)
    other(x)
    other.load_state_dict(torch.load(held, weights_only=True))
    assert torch.equal(other(x), layer(x))
    assert set(layer.state_dict()) == {"weight", "scales", "bias"}


def test_a_copy_is_one_of_its_own():
    layer, x = conv(CONVS["2d"][0]), integers(2, 6, 7, 5)
    before = layer(x)
    copied = copy.deepcopy(layer)
    with torch.no_grad():
        copied.weight.zero_()
        copied.bias.zero_()
    assert torch.equal(layer(x), before)
    assert not copied(x).any()


def test_threads_get_the_same():
    layer, x = conv(CONVS["2d"][0]), integers(2, 6, 7, 5)
    wanted, found = copy.deepcopy(layer)(x), []
    start = threading.Barrier(4)

    def call() -> None:
        start.wait()
        found.append(layer(x))

    threads = [threading.Thread(target=call) for _ in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert len(found) == 4
    assert all(torch.equal(one, wanted) for one in found)


def test_inference_mode_and_autocast_change_nothing():
    layer, x = linear(), integers(4, 24)
    wanted = layer(x)
    with torch.inference_mode():
        assert torch.equal(layer(x), wanted)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(layer(x), wanted)


def test_it_is_a_layer_like_any_other():
    layer = linear()
    assert isinstance(layer, Int8Layer)
    assert not list(layer.parameters())
    assert layer.train()(integers(4, 24)).requires_grad is False


def test_one_sample_is_computed_as_a_batch_of_one_by_any_way():
    conv = nn.Conv2d(8, 4, 3)
    geometry = ConvGeometry(conv.stride, conv.padding, conv.dilation)
    layer, x = Int8Conv(Int8Weight.of(conv.weight, conv.bias), X, geometry), integers(8, 6, 6)
    for exact in (False, True):
        layer.exact = exact
        torch.testing.assert_close(layer(x), layer(x[None])[0])
