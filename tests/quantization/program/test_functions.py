"""A graph computes a weight once, and again when what it is made of has changed."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from grid_scenes import grid_over
from torch import nn

from lpot_lightning.quantization.functions.forward import (
    FunctionOp,
    OwnerForward,
    QuantizedFunction,
)
from lpot_lightning.quantization.graph.capture import Captured
from lpot_lightning.quantization.program.program import Program
from lpot_lightning.quantization.quantized_layer import QuantizedLayer, quantized


class Scaled(nn.Linear):
    scale = 2.0

    def weight_of_now(self):
        return self.weight.tanh() * self.scale

    def forward(self, x):
        return F.linear(x, self.weight_of_now(), self.bias).relu()


class OfRows(Scaled):
    def weight_of_now(self):
        return self.weight * self.rows.mean()

    rows = torch.ones(3)


def captured(model: nn.Module, weight: torch.Tensor) -> tuple[Captured, list[Program]]:
    forward, programs = OwnerForward(model), []
    layer = nn.Linear(8, 8)
    with torch.no_grad():
        layer.weight.copy_(weight)
        layer.bias.copy_(model.bias)
    form = quantized(layer, grid_over(-4, 4))
    assert isinstance(form, QuantizedLayer)
    forward.ops["linear_0"] = FunctionOp(("linear", (), ""))
    forward.ops["linear_0"].int8 = QuantizedFunction.of(form, layer.weight, layer.bias)

    def lower(graph: Any, inputs: Any) -> Program:
        programs.append(Program(graph, inputs))
        return programs[-1]

    return Captured(model, lower, forward), programs


def shown(rows: int = 3) -> torch.Tensor:
    return torch.randn(rows, 8, generator=torch.Generator().manual_seed(0))


def test_a_computed_weight_is_folded():
    model = Scaled(8, 8).eval()
    compute, programs = captured(model, model.weight_of_now())
    with torch.no_grad():
        found, wanted = compute(shown()), model(shown())
        compute(shown(7))
    assert len(programs) == 2  # of one size, and of any
    assert all("tanh" not in one.code and "Int8Linear" in one.code for one in programs)
    assert 0 < float((found - wanted).norm() / wanted.norm()) < 0.05


def test_a_number_that_changes_is_seen():
    model = Scaled(8, 8).eval()
    compute, _ = captured(model, model.weight_of_now())
    with torch.no_grad():
        first = compute(shown())
        model.scale = 3.0
        assert torch.equal(compute(shown()), model(shown()))
        model.scale = 2.0
        assert torch.equal(compute(shown()), first)


def test_a_tensor_that_changes_is_seen():
    model = Scaled(8, 8).eval()
    compute, _ = captured(model, model.weight_of_now())
    with torch.no_grad():
        first = compute(shown())
        assert not torch.equal(first, model(shown()))
        model.weight.mul_(0.1)
        torch.testing.assert_close(compute(shown()), model(shown()))


def test_a_weight_that_the_graph_does_not_know_goes_by_its_values():
    model = OfRows(8, 8).eval()
    compute, programs = captured(model, model.weight_of_now())
    with torch.no_grad():
        found, wanted = compute(shown()), model(shown())
        assert 0 < float((found - wanted).norm() / wanted.norm()) < 0.05
        model.rows = torch.full((3,), 2.0)
        torch.testing.assert_close(compute(shown()), model(shown()))
    assert programs
