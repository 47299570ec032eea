"""What a program was made of is looked at in each call: every kind of change is seen."""

from __future__ import annotations

import os

import pytest
import torch
from torch import nn

from lpot_lightning.quantization.graph.learned import Learned
from lpot_lightning.quantization.kernels.grid import Grid
from lpot_lightning.quantization.layer_forward import LayerForward
from lpot_lightning.quantization.program.watched import Watched
from lpot_lightning.quantization.quantized_layer import quantized

GRID = Grid(0.02, 60, 0, 127)


def made() -> LayerForward:
    torch.manual_seed(0)
    layer = nn.Linear(4, 3).eval()
    return LayerForward(layer, quantized(layer, GRID))


def another_form(forward, inputs):
    forward.int8 = quantized(forward.layer, GRID)


def no_form(forward, inputs):
    forward.int8 = None


def in_place(forward, inputs):
    forward.int8.kernel.scales.mul_(2)


def another_buffer(forward, inputs):
    forward.int8.kernel.weight = forward.int8.kernel.weight.clone()


def other_data(forward, inputs):
    forward.int8.kernel.weight.data = forward.int8.kernel.weight.clone()


def folded_in_place(forward, inputs):
    inputs[0].add_(1)


def folded_data(forward, inputs):
    inputs[0].data = inputs[0].clone()


def another_folded(forward, inputs):
    inputs[0] = inputs[0].clone()


def number(forward, inputs):
    inputs[1] = torch.tensor(2.0)


def learned(forward, inputs):
    Learned.note()


CHANGES = [
    *(another_form, no_form, in_place, another_buffer, other_data),
    *(folded_in_place, folded_data, another_folded, number, learned),
]


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_is_seen(change):
    forward, inputs = made(), [torch.ones(3), torch.tensor(1.0), torch.ones(2)]
    watched = Watched([forward], [0], [1], inputs)
    before = watched.state(inputs)
    assert before is not None
    assert watched.state([inputs[0], torch.tensor(1.0), torch.zeros(2)]) == before
    change(forward, inputs)
    assert watched.state(inputs) != before


def test_a_tensor_of_inference_mode_is_known_by_its_sum():
    with torch.inference_mode():
        folded = torch.ones(3)
        watched = Watched([], [0], [], [folded])
        before = watched.state([folded])
        assert watched.state([folded]) == before
        folded.add_(1)
        assert watched.state([folded]) != before


def test_another_process_makes_its_own(monkeypatch):
    watched = Watched([made()], [], [], [])
    before = watched.state([])
    monkeypatch.setattr(os, "getpid", lambda: -1)
    assert watched.state([]) != before


KINDS = {
    "the same": (torch.ones(3), True),
    "other values": (torch.zeros(3), True),
    "another type": (torch.ones(3).double(), False),
    "another size": (torch.ones(4), False),
    "a parameter": (torch.nn.Parameter(torch.ones(3)), False),
    "nothing": (None, False),
}


@pytest.mark.parametrize("name", KINDS)
def test_what_is_folded_has_to_be_of_the_same_kind(name):
    value, fits = KINDS[name]
    watched = Watched([], [0], [], [torch.ones(3)])
    assert watched.fits([value]) is fits
    assert (watched.state([value]) is None) is (value is None)
