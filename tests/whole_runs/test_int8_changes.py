"""What may change after the first batches: each change counts from the next call on."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from lpot_lightning.quantization.graph.capture import Captured
from lpot_lightning.quantization.kernels.grid import Grid
from lpot_lightning.quantization.layer_forward import LayerForward
from lpot_lightning.quantization.program.program import Program
from lpot_lightning.quantization.quantized_layer import kind_of, quantized

GRID = Grid(8 / 127, 63, 0, 127)
X = torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(0))


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.5),
            nn.Conv2d(8, 8, 3, padding=1), nn.LeakyReLU(0.1), nn.MaxPool2d(2),
        )  # fmt: skip
        self.norm, self.head = nn.LayerNorm(8), nn.Linear(8, 4)

    def forward(self, x):
        return self.head(self.norm(self.body(x).mean((2, 3))))


def int8() -> Net:
    torch.manual_seed(0)
    model = Net().eval()
    with torch.no_grad():
        model.body[1].running_mean.uniform_(-0.2, 0.2)
        model.body[1].running_var.uniform_(0.5, 2)
    for layer in [one for one in model.modules() if kind_of(one)]:
        vars(layer)["forward"] = LayerForward(layer, quantized(layer, GRID))
    return model


def set_in(path: str, name: str, value: object) -> Callable[[Net], object]:
    return lambda model: setattr(model.get_submodule(path), name, value)


def negative_slope(model: Net) -> None:
    model.body[5].negative_slope = -2.0


def pooled_otherwise(model: Net) -> None:
    model.body[6].kernel_size = model.body[6].stride = 4


def hook(model: Net) -> None:
    model.body[2].register_forward_hook(lambda module, given, found: found * 2)


def pre_hook(model: Net) -> None:
    model.body[4].register_forward_pre_hook(lambda module, given: (given[0] + 1,))


def other_parameter(model: Net) -> None:
    model.body[1].weight = nn.Parameter(torch.full((8,), 2.0))


def other_data(model: Net) -> None:
    model.body[1].bias.data = torch.full((8,), 1.0)


def in_place(model: Net) -> None:
    with torch.no_grad():
        model.body[1].running_mean.add_(0.5)


def other_buffer(model: Net) -> None:
    model.body[1].running_var = torch.full((8,), 3.0)


def norm_of_floats(model: Net) -> None:
    with torch.no_grad():
        model.norm.weight.mul_(3)


def exchanged(model: Net) -> None:
    model.body[2] = nn.Tanh()


def taken_out(model: Net) -> None:
    del model.body[3]


def put_behind(model: Net) -> None:
    model.body.append(nn.Hardtanh(-0.1, 0.1))


def another_forward(model: Net) -> None:
    model.body[2].forward = torch.sin


def a_layer_in_floats(model: Net) -> None:
    model.body[4].forward.int8 = None


def other_integers(model: Net) -> None:
    kernel = model.body[4].forward.int8.kernel
    kernel.weight = kernel.weight.flip(0).contiguous()


def integers_in_place(model: Net) -> None:
    model.body[4].forward.int8.kernel.weight.neg_()


CHANGES: list[Callable[[Net], object]] = [
    *(negative_slope, pooled_otherwise, hook, pre_hook, other_parameter, other_data, in_place),
    *(other_buffer, norm_of_floats, exchanged, taken_out, put_behind, another_forward),
    *(a_layer_in_floats, other_integers, integers_in_place),
    set_in("body.1", "eps", 2.0),
    set_in("norm", "eps", 5.0),
    set_in("body.2", "inplace", True),
    set_in("body.3", "p", 0.9),
]
SILENT = {taken_out, a_layer_in_floats, CHANGES[-1], CHANGES[-2]}
"""Changes that change hardly a value: dropout is off."""


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_counts_from_the_next_call_on(change):
    plain, model = int8(), int8()
    vars(model)["forward"] = Captured(model, Program)
    with torch.no_grad():
        for _ in range(3):
            before = model(X)
        torch.testing.assert_close(before, plain(X), rtol=0.05, atol=0.05)
        change(plain)
        change(model)
        for _ in range(3):
            torch.testing.assert_close(model(X), plain(X), rtol=0.05, atol=0.05)
        assert change in SILENT or float((model(X) - before).abs().max()) > 0.1


def test_a_norm_that_is_set_to_training_learns():
    plain, model = int8(), int8()
    vars(model)["forward"] = Captured(model, Program)
    with torch.no_grad():
        model(X), model(X)
        for one in (plain, model):
            one.body[1].train()
            one(X), one(X)
            one.body[1].eval()
        torch.testing.assert_close(model.body[1].running_mean, plain.body[1].running_mean)
        torch.testing.assert_close(model(X), plain(X), rtol=0.05, atol=0.05)


def test_parameters_that_take_gradients_from_now_on():
    plain, model = int8(), int8()
    vars(model)["forward"] = Captured(model, Program)
    for wanted in (False, True, False):
        for one in (plain, model):
            one.requires_grad_(wanted)
        found = model(X)
        assert found.requires_grad == plain(X).requires_grad
        torch.testing.assert_close(found, plain(X), rtol=0.05, atol=0.05)
