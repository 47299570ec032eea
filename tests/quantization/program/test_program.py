"""What flows from kernel to kernel is what the layers give one by one."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from grid_scenes import grid_over
from program_scenes import assert_same, captured, in_int8, ops
from torch import nn

from lpot_lightning.quantization.graph.capture import FEW
from lpot_lightning.quantization.kernels import proof
from lpot_lightning.quantization.kernels.layers import Int8Conv, Int8Linear
from lpot_lightning.quantization.kernels.moving import Quantize


class Block(nn.Module):
    """Two convolutions with what may stand between them."""

    def __init__(self, between: Any, norm: nn.Module | None = None) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 6, 3), nn.Conv2d(6, 4, 1)
        self.norm = nn.Identity() if norm is None else norm
        self.between = between

    def forward(self, x):
        return self.second(self.between(self.norm(self.first(x))))


def norm(*, affine: bool = True, negative: bool = False) -> nn.BatchNorm2d:
    made = nn.BatchNorm2d(6, affine=affine)
    torch.manual_seed(3)
    made.running_mean.normal_()
    made.running_var.uniform_(0.5, 2)
    if affine:
        nn.init.uniform_(made.weight, 0.5, 2)
        nn.init.normal_(made.bias)
    if negative:
        with torch.no_grad():
            made.weight[::2].neg_()
            made.weight[1] = 0
    return made


def shown(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def new_gelu(x):
    """As ``transformers`` has it."""
    inner = math.sqrt(2 / math.pi) * (x + 0.044715 * torch.pow(x, 3.0))
    return 0.5 * x * (1.0 + torch.tanh(inner))


def fast_gelu(x):
    return 0.5 * x * (1.0 + torch.tanh(x * 0.7978845608 * (1.0 + 0.044715 * x * x)))


class Scaled(nn.Module):
    def __init__(self, factors: torch.Tensor) -> None:
        super().__init__()
        self.factors = nn.Parameter(factors)

    def forward(self, x):
        return x * self.factors


WHOLE = [Quantize, Int8Conv, Int8Conv]
BETWEEN = {
    "nothing": (nn.Identity(), None, WHOLE),
    "relu": (nn.ReLU(), None, WHOLE),
    "relu in place": (nn.ReLU(inplace=True), norm(), WHOLE),
    "relu6": (nn.ReLU6(), norm(), WHOLE),
    "hardtanh": (nn.Hardtanh(-0.5, 0.5), None, WHOLE),
    "silu": (nn.SiLU(), norm(), WHOLE),
    "hardswish": (nn.Hardswish(), norm(), WHOLE),
    "gelu": (nn.GELU(), norm(), WHOLE),
    "gelu by tanh": (nn.GELU("tanh"), None, WHOLE),
    "leaky relu": (nn.LeakyReLU(0.2), norm(), WHOLE),
    "tanh": (nn.Tanh(), None, WHOLE),
    "norm alone": (nn.Identity(), norm(), WHOLE),
    "norm without weights": (nn.ReLU(), norm(affine=False), WHOLE),
    "norm with negative weights": (nn.ReLU(), norm(negative=True), WHOLE),
    "gelu by erf, written out": (lambda x: x * 0.5 * (1 + torch.erf(x / 2**0.5)), norm(), WHOLE),
    "gelu by tanh, written out": (new_gelu, norm(), WHOLE),
    "gelu by tanh, another way": (fast_gelu, None, WHOLE),
    "silu, written out": (lambda x: x * torch.sigmoid(x), norm(), WHOLE),
    "no gelu": (lambda x: x * 0.5 * (1 + torch.erf(x / 2)), None, None),
    "factors": (Scaled(torch.tensor([2.0, -1.0, 0.0, 0.5, 3.0, 1.0]).view(6, 1, 1)), None, WHOLE),
    "factors of places": (Scaled(torch.arange(5.0)), None, None),
    "method": (lambda x: x.relu(), norm(), WHOLE),
    "dropout": (nn.Sequential(nn.ReLU(), nn.Dropout(0.5)), None, None),
    "sigmoid": (nn.Sigmoid(), norm(), [Quantize, Int8Conv, torch.sigmoid, Quantize, Int8Conv]),
}


@pytest.mark.parametrize("name", BETWEEN)
def test_what_stands_between_two_layers_moves_into_the_first(name):
    between, own_norm, wanted = BETWEEN[name]
    layers = in_int8(Block(between, own_norm))
    fused, graphs = captured(layers)
    for batch in (2, 5):
        assert_same(fused, layers, shown(batch, 3, 7, 7))
    if wanted is not None:
        assert ops(graphs[0]) == wanted


def test_a_layer_scale_goes_into_the_layer_and_what_is_added_too():
    class Residual(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer, self.scale = nn.Linear(6, 6), Scaled(torch.randn(6))

        def forward(self, x):
            return x + self.scale(self.layer(x))

    layers = in_int8(Residual())
    fused, graphs = captured(layers)
    for _ in range(2):
        assert_same(fused, layers, shown(2, 5, 6))
        with torch.no_grad():
            for model in (fused, layers):
                model.scale.factors.mul_(-3)
    assert ops(graphs[0]) == [Quantize, Int8Linear]
    assert len(graphs) == 1


def test_an_activation_whose_bounds_change_from_call_to_call():
    layers = in_int8(Block(nn.Hardtanh(-0.5, 0.5), norm()))
    fused, graphs = captured(layers)
    for bound in (0.5, 0.21, 0.8, 0.7, 0.4, 0.6, 0.3):
        for model in (fused, layers):
            model.between.max_val = bound
        assert_same(fused, layers, shown(2, 3, 7, 7))
    assert len(graphs) <= FEW + 2


def test_what_moves_values_moves_integers():
    class Tokens(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed, self.head = nn.Conv2d(3, 6, 2, 2), nn.Linear(6, 4)

        def forward(self, x):
            return self.head(self.embed(x).flatten(2).transpose(1, 2).contiguous())

    layers = in_int8(Tokens())
    fused, graphs = captured(layers)
    assert_same(fused, layers, shown(2, 3, 6, 6))
    assert ops(graphs[0]) == [Quantize, Int8Conv, "flatten", "transpose", "contiguous", Int8Linear]


def test_what_others_read_stays_floats():
    class Residual(Block):
        def forward(self, x):
            y = F.relu(self.norm(self.first(x)))
            return torch.cat([self.second(y), y], 1)

    layers = in_int8(Residual(None, norm()))
    fused, _ = captured(layers)
    assert_same(fused, layers, shown(2, 3, 7, 7))


def test_a_norm_after_tokens_is_not_one_of_their_channels():
    class Tokens(nn.Module):
        def __init__(self):
            super().__init__()
            self.up, self.norm = nn.Linear(8, 6), nn.BatchNorm1d(5)
            self.norm.running_var.uniform_(0.5, 2)

        def forward(self, x):
            return self.norm(self.up(x))

    layers = in_int8(Tokens())
    fused, graphs = captured(layers)
    assert_same(fused, layers, shown(2, 5, 8))
    assert F.batch_norm in ops(graphs[0])


def test_a_norm_in_training_is_not_folded():
    layers = in_int8(Block(nn.ReLU(), norm()))
    layers.norm.train()
    fused, graphs = captured(layers)
    assert_same(fused, copy.deepcopy(layers), shown(4, 3, 7, 7))
    assert F.batch_norm in ops(graphs[0])


def test_what_is_changed_later_is_folded_anew():
    layers = in_int8(Block(nn.ReLU(), norm()))
    fused, graphs = captured(layers)
    x = shown(2, 3, 7, 7)
    assert_same(fused, layers, x)
    with torch.no_grad():
        for model in (fused, layers):
            model.norm.weight.mul_(-2)
            model.second.lpot_int8.kernel.bias.add_(1)
            model.first.lpot_int8.kernel.weight.copy_(model.first.lpot_int8.kernel.weight.flip(0))
    assert_same(fused, layers, x)
    assert len(graphs) == 1


def test_a_copy_folds_its_own():
    layers = in_int8(Block(nn.ReLU(), norm()))
    fused, _ = captured(layers)
    x = shown(2, 3, 7, 7)
    before = fused(x)
    copied = copy.deepcopy(fused)
    assert torch.equal(copied(x), before)
    with torch.no_grad():
        copied.second.lpot_int8.kernel.weight.zero_()
    assert torch.equal(fused(x), before)
    assert not torch.equal(copied(x), before)


def test_it_is_simulated_by_plain_arithmetic():
    fused, graphs = captured(in_int8(Block(nn.ReLU(), norm())))
    x = shown(2, 3, 7, 7)
    with torch.no_grad():
        found = fused(x)
    (program,) = graphs
    given = []
    program._computes, computes = (
        lambda *inputs: given.append(inputs) or computes(*inputs),
        (program._computes),
    )
    with torch.no_grad():
        fused(x)
        torch.testing.assert_close(program.simulated(*given[0])[0], found, rtol=1e-5, atol=1e-6)


def test_it_is_shown_as_python_with_what_made_each_step():
    fused, graphs = captured(in_int8(Block(nn.ReLU(), norm())))
    with torch.no_grad():
        fused(shown(2, 3, 7, 7))
    lines = graphs[0].code.split("\n")
    assert len(lines) == 4
    assert f"Quantize({grid_over(-3, 3)})" in lines[0]
    assert "Int8Conv([6, 3, 3, 3], " in lines[1]
    assert lines[1].endswith("# chains")
    assert ", relu)" in lines[1]
    assert lines[2].endswith("# layer")
    assert lines[3].endswith("# layouts")


def test_a_fused_kernel_that_is_wrong_is_left_to_plain_arithmetic_alone(monkeypatch, caplog):
    layers = in_int8(Block(nn.ReLU(), norm()))
    kernel = Int8Conv._kernel

    def wrong(self, x, scale, post_op, other):
        found = kernel(self, x, scale, post_op, other)
        return found + 1 if post_op.name == "relu" else found

    monkeypatch.setattr(proof, "_PROVED", {})
    monkeypatch.setattr(Int8Conv, "_kernel", wrong)
    fused, graphs = captured(layers)
    assert_same(fused, layers, shown(2, 3, 7, 7))
    steps = [graphs[0]._draft.step(node) for node in graphs[0].graph.nodes]
    assert [one.exact for one in steps if isinstance(one, Int8Conv)] == [True, False]
    assert "takes the place of a step: its int8 kernel is wrong" in caplog.text


def test_a_norm_that_learned_since_is_folded_anew():
    layers = in_int8(Block(nn.ReLU(), norm()))
    fused, _ = captured(layers)
    x = shown(8, 3, 7, 7)
    assert_same(fused, layers, x)
    for model in (fused, layers):
        model.norm.train()
        with torch.no_grad():
            model(3 * x)
        model.norm.eval()
    assert float((fused.norm.running_mean - norm().running_mean).abs().max()) > 0.01
    assert_same(fused, layers, x)
