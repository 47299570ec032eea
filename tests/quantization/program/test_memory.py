"""Values that are written to in place, by whatever means, are those that are read."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from grid_scenes import STEP, grid_over
from program_scenes import assert_same, captured
from torch import nn

from lpot_lightning.module.stand_in import StandIn, put
from lpot_lightning.quantization.layer_forward import LayerForward
from lpot_lightning.quantization.quantized_layer import kind_of, quantized

WRITES = {
    "hardswish": lambda h: F.hardswish(h, True),
    "elu": nn.ELU(inplace=True),
    "selu": nn.SELU(inplace=True),
    "leaky": nn.LeakyReLU(0.5, inplace=True),
    "threshold": nn.Threshold(0.1, 0.0, inplace=True),
    "power": lambda h: h.__ipow__(2),
    "method": lambda h: h.mul_(3),
    "out": lambda h: torch.mul(h, 3, out=h),
    "list": lambda h: torch._foreach_add_([h], 1.0),
    "item": lambda h: h.__setitem__((slice(None), 0), 1.0),
    "diagonal": lambda h: h.diagonal().fill_(1.0),
    "transposed": lambda h: h.mT.mul_(2),
    "alias": lambda h: h.float().mul_(2),
    "strided": lambda h: h.as_strided((4,), (1,)).zero_(),
}


class Linears(nn.Module):
    """Two layers, and what is done with them."""

    def __init__(self, steps) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Linear(8, 8), nn.Linear(8, 8)
        self.register_buffer("kept", torch.zeros(8, 8))
        self.steps = steps

    def forward(self, x):
        return self.steps(self, x)


class Convs(nn.Module):
    def __init__(self, steps) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b, self.c = (nn.Conv2d(4, 4, 3, padding=1) for _ in range(3))
        self.norm = nn.BatchNorm2d(4)
        self.steps = steps

    def forward(self, x):
        return self.steps(self, x)


def int8(model: nn.Module) -> nn.Module:
    layers = {name: one for name, one in model.eval().named_modules() if kind_of(one)}
    forms = {name: quantized(one, grid_over(-4, 4)) for name, one in layers.items()}
    put(
        model,
        {
            name: StandIn(form, forward=LayerForward(layers[name], form))
            for name, form in forms.items()
        },
    )
    return model


def shown(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", WRITES)
def test_a_view_sees_what_is_written_to_its_source(name):
    def steps(m, x):
        h = m.first(x)
        view = h.flatten(1)
        WRITES[name](h)
        return m.second(view)

    layers = int8(Linears(steps))
    assert_same(captured(layers)[0], layers, shown(8, 8))


@pytest.mark.parametrize("name", WRITES)
def test_what_reads_before_and_what_reads_after_a_write_see_what_was_there(name):
    def steps(m, x):
        h = x * 1.5
        first = m.first(h)
        WRITES[name](h)
        return first + m.second(h)

    layers = int8(Linears(steps))
    assert_same(captured(layers)[0], layers, shown(8, 8))


def kept_sum(m, x):
    m.kept.add_(m.first(x))
    return m.second(x)


def shown_sum(m, x):
    x += m.first(x)
    return m.second(x)


def view_sum(m, x):
    h = m.second(x)
    view = h[:, :8]
    view += m.first(x)
    return h


def late_sum(m, x):
    q = m.second(x)
    total = m.first(x) + q
    q.mul_(3)
    return total.relu()


@pytest.mark.parametrize("steps", [kept_sum, shown_sum, view_sum, late_sum])
def test_sums_in_place_are_seen_by_those_who_have_the_memory(steps):
    layers = int8(Linears(steps))
    fused, _ = captured(layers)
    given = shown(8, 8), shown(8, 8)
    with torch.no_grad():
        found, wanted = fused(given[0]), layers(given[1])
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(*given, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(fused.kept, layers.kept, rtol=1e-5, atol=1e-5)


def own_input(m, x):
    y = m.a(x).relu()
    y = y + m.b(y)
    return m.c(y.relu())


def own_input_and_norm(m, x):
    y = m.a(x).relu()
    return m.c((y + m.norm(m.b(y))).relu())


def kernel_that_comes_later(m, x):
    x = m.a(x).relu()
    a = m.a(x)
    total = m.c((m.b(x) + x).relu())
    return m.c(a.relu()) + total


def read_by_a_view(m, x):
    y = m.a(x).relu()
    flat = y.flatten(1)
    total = m.c((y + m.b(y)).relu())
    return total.flatten(1) + flat


@pytest.mark.parametrize(
    "steps", [own_input, own_input_and_norm, kernel_that_comes_later, read_by_a_view]
)
def test_a_sum_is_written_where_nobody_reads_any_more(steps):
    layers = int8(Convs(steps))
    with torch.no_grad():
        wanted = layers(shown(2, 4, 6, 6))
        found = captured(layers)[0](shown(2, 4, 6, 6))
    # a graph adds integers, which are rounded once more
    assert float((found - wanted).norm() / wanted.norm()) < 0.04 * STEP


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.int32, torch.bool])
def test_another_type_is_added_as_torch_does(dtype):
    layers = int8(Linears(lambda m, x: m.first(x) + (x > 0).to(dtype)))
    assert_same(captured(layers)[0], layers, shown(8, 8))


def test_a_sample_without_a_batch_is_normed_as_torch_does():
    class One(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.conv, self.norm = nn.Conv1d(6, 6, 3, padding=1), nn.BatchNorm1d(6)
            self.norm.running_mean.normal_()
            self.norm.weight.data.uniform_(0.5, 2)

        def forward(self, x):
            return self.norm(self.conv(x))

    layers = int8(One())
    assert_same(captured(layers)[0], layers, shown(6, 6))


def test_what_vmap_goes_over_has_no_memory_that_is_known():
    def steps(m, x):
        mask = torch.vmap(lambda row: (row > 0).float())(x)
        return m.second(torch.relu(m.first(x)) * mask)

    layers = int8(Linears(steps))
    fused, programs = captured(layers)
    assert_same(fused, layers, shown(8, 8))
    assert len(programs) == 1


def test_nothing_is_proved_of_an_empty_batch():
    layers = int8(Linears(lambda m, x: m.second(m.first(x).transpose(0, 1))))
    fused, _ = captured(layers)
    with torch.no_grad():
        assert fused(torch.ones(0, 8, 8)).shape == (8, 0, 8)
    assert_same(fused, layers, shown(8, 8, 8))
