"""CPUs that cut off what two products come to, and weights with which they do not."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch

from lpot_lightning.quantization.kernels import saturation
from lpot_lightning.quantization.kernels.arithmetic import Int8Weight
from lpot_lightning.quantization.kernels.bounds import PAIRED, SEVEN_BITS, WHOLE
from lpot_lightning.quantization.kernels.proof import CUT
from lpot_lightning.quantization.kernels.saturation import may_saturate


def integers(*rows):
    return torch.tensor(rows, dtype=torch.int8)


@pytest.mark.parametrize(
    ("weight", "high", "may"),
    [
        (integers([64, -64, 64]), 255, False),
        (integers([1, 2, 3], [64, 0, 65]), 255, True),
        (integers([127, 1, 0]), 255, False),
        (integers([127, 1, -2]), 255, True),
        (integers([-128, 0, 0]), 255, False),
        (integers([-128, 1, 0]), 255, True),
        (integers([127], [127]), 255, False),
        (integers([-128, -128]), 127, False),
        (integers([[127, 0], [0, 127]]), 255, True),
        (torch.empty(0, 4, dtype=torch.int8), 255, False),
        (torch.empty(4, 0, dtype=torch.int8), 255, False),
    ],
)
def test_any_two_weights_of_an_output_count(weight, high, may):
    assert may_saturate(weight, high) is may


@pytest.mark.parametrize("shape", [(500, 2), (500, 9), (200, 16, 3, 3), (4, 1)])
def test_paired_weights_never_do(shape):
    draw = torch.Generator().manual_seed(len(shape))
    for weight in (torch.randn(shape, generator=draw), torch.ones(shape), torch.zeros(shape)):
        held = Int8Weight.of(weight, pair=PAIRED.pair)
        assert not may_saturate(held.values, PAIRED.high)
        assert held.stands_for(weight)


def test_a_weight_that_stands_out_keeps_the_others_fine():
    held = Int8Weight.of(torch.tensor([[1.0, 0.01, -0.01], [1.0, 1.0, 0.5]]), pair=PAIRED.pair)
    assert held.values.tolist() == [[126, 1, -1], [64, 64, 32]]
    assert Int8Weight.of(torch.tensor([[3.0], [-5.0]]), pair=PAIRED.pair).values.tolist() == [
        [127],
        [-127],
    ]


@pytest.mark.parametrize("bounds", [PAIRED, SEVEN_BITS])
def test_two_products_fit_in_sixteen_bits(bounds):
    assert bounds.high * bounds.pair < 2**15 < WHOLE.high * WHOLE.pair


def test_a_kernel_that_fails_cuts_nothing_off(monkeypatch):
    def fails():
        raise RuntimeError("no such kernel on this CPU")

    monkeypatch.setattr(saturation, "_cuts_off", fails)
    assert saturation.saturates.__wrapped__() is False


def test_without_vnni_only_what_may_be_cut_off_is_left_to_arithmetic():
    program = """
import torch
from lpot_lightning.quantization.kernels.arithmetic import Int8Weight
from lpot_lightning.quantization.kernels.bounds import PAIRED, SEVEN_BITS, WHOLE
from lpot_lightning.quantization.kernels.grid import Grid
from lpot_lightning.quantization.kernels.layers import Int8Linear
from lpot_lightning.quantization.kernels.proof import wrong_kernel
from lpot_lightning.quantization.kernels.saturation import saturates
print(saturates())
for bounds in (WHOLE, PAIRED, SEVEN_BITS):
    weight = Int8Weight.of(torch.ones(8, 256), pair=bounds.pair)
    print(wrong_kernel(Int8Linear(weight, Grid(1.0, high=bounds.high)), [(4, 256)]))
"""
    environment = {**os.environ, "ONEDNN_MAX_CPU_ISA": "AVX2", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
    )
    does, whole, *others = done.stdout.splitlines()
    assert does == "True"
    assert whole == CUT
    assert others == ["None", "None"]
