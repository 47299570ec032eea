"""Weights and rows of tables: what int8 holds of them, with all of their gradient."""

import pytest
import torch

from lpot_lightning.quantization.kernels.arithmetic import Int8Weight
from lpot_lightning.quantization.kernels.bounds import PAIRED
from lpot_lightning.quantization.kernels.embedding import Int8Embedding
from lpot_lightning.quantization.training.rounding import rounded_rows, rounded_weight

WEIGHT = torch.randn(16, 8, 3, 3, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("weight", [WEIGHT, WEIGHT[:, :, 0, 0], torch.zeros(2, 3)])
def test_a_weight_is_that_of_the_kernels_to_the_last_bit(weight):
    assert torch.equal(rounded_weight(weight), Int8Weight.of(weight).dequantize())


@pytest.mark.parametrize("weight", [WEIGHT, WEIGHT[:, :, 0, 0], WEIGHT[:, :1, :1, :1]])
def test_a_weight_is_held_to_pairs_as_that_of_the_kernels(weight):
    made = Int8Weight.of(weight, pair=PAIRED.pair)
    assert torch.equal(rounded_weight(weight, PAIRED.pair), made.dequantize())


def test_a_transposed_weight_is_rounded_by_its_outputs():
    weight = WEIGHT[:, :, 0, 0]
    assert torch.equal(rounded_weight(weight.t()), Int8Weight.of(weight.t()).dequantize())


def test_rows_are_those_of_the_table():
    table = torch.randn(10, 6, generator=torch.Generator().manual_seed(0))
    ids = torch.tensor([[1, 3], [3, 9]])
    assert torch.equal(rounded_rows(table[ids]), Int8Embedding.of(table)(ids))
    assert rounded_rows(table[:0]).shape == (0, 6)


@pytest.mark.parametrize("rounded", [rounded_weight, rounded_rows])
def test_what_decay_left_behind_is_a_number(rounded):
    rows = torch.tensor([[1e-44, 0.0, 1e-44], [0.0, 1.0, 0.5]])
    torch.testing.assert_close(rounded(rows), rows, rtol=0, atol=0.01)


@pytest.mark.parametrize("rounded", [rounded_weight, rounded_rows])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_all_of_the_gradient_goes_through(rounded, dtype):
    weight = torch.tensor([[1.0, -0.5], [0.25, 2.0]], dtype=dtype, requires_grad=True)
    found = rounded(weight)
    assert found.dtype is dtype
    found.sum().backward()
    assert torch.equal(weight.grad, torch.ones(2, 2, dtype=dtype))
