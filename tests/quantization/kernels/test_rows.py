"""Rows on grids of their own, and what computes with them."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from lpot_lightning.quantization.kernels.arithmetic import Int8Weight
from lpot_lightning.quantization.kernels.bound import bound
from lpot_lightning.quantization.kernels.proof import wrong_kernel
from lpot_lightning.quantization.kernels.rows import Int8Rows, QuantizeRows, Rescale, Rows
from lpot_lightning.quantization.kernels.saturation import saturates

SAFE = 127
"""Seven bits, which no CPU saturates."""


def shown(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def layer(*, high: int = SAFE, bias: bool = True) -> Int8Rows:
    torch.manual_seed(1)
    linear = nn.Linear(24, 10, bias=bias)
    return Int8Rows(Int8Weight.of(linear.weight, linear.bias), high)


@pytest.mark.parametrize("high", [127, 255])
def test_a_row_goes_from_its_least_to_its_greatest_value(high):
    x = torch.tensor([[-1.0, 0.5, 3.0], [100.0, 101.0, 102.0]])
    rows = Rows.of(x, high)
    assert rows.values.dtype == torch.uint8
    assert rows.values[:, 0].tolist() == [0, 0]
    assert rows.values[:, 2].tolist() == [high, high]
    torch.testing.assert_close(rows.dequantize(), x, rtol=0, atol=4 / high / 2 + 1e-6)


def test_a_row_of_one_value_is_exact():
    x = torch.tensor([[0.0, 0.0], [-2.5, -2.5]])
    assert torch.equal(Rows.of(x, SAFE).dequantize(), x)


def test_what_is_not_finite_stays_in_its_row():
    x = shown(3, 24)
    x[1, 3] = float("inf")
    found = layer().product(Rows.of(x, SAFE))
    assert found.isfinite().all(1).tolist() == [True, False, True]


def test_integers_are_no_input():
    with pytest.raises(RuntimeError, match="got int64; it quantizes floats by itself"):
        Rows.of(torch.ones(2, 3, dtype=torch.int64), SAFE)


def test_the_kernel_of_a_copy_is_proved_like_that_of_another():
    assert wrong_kernel(copy.deepcopy(layer()), [(7, 24)]) is None


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(24,), (1, 24), (5, 24), (2, 3, 24)])
def test_the_product_is_that_of_what_the_rows_stand_for(shape, bias):
    made = layer(bias=bias)
    rows = Rows.of(shown(*shape), SAFE)
    expected = F.linear(rows.dequantize(), made.rounded.dequantize(), made.offset)
    torch.testing.assert_close(made.product(rows), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("high", [127, 255])
def test_plain_arithmetic_gives_the_same(high):
    made, rows = layer(high=high), Rows.of(shown(4, 24), high)
    made.exact = True
    expected = F.linear(rows.dequantize(), made.rounded.dequantize(), made.offset)
    torch.testing.assert_close(made.product(rows), expected, rtol=1e-5, atol=1e-5)


def test_the_kernel_is_proved_as_others_are():
    assert wrong_kernel(layer(), [(1, 24), (7, 24)]) is None


def test_a_convolution_computes_of_seven_bits_and_without_vnni():
    assert layer().by_convolution
    assert layer(high=255).by_convolution is saturates()


def test_a_row_is_the_same_alone_and_beside_others():
    made, x = layer(), shown(6, 24)
    whole = made.product(Rows.of(x, SAFE))
    assert all(torch.equal(made.product(Rows.of(x[[one]], SAFE)), whole[[one]]) for one in range(6))


def test_the_sums_follow_the_weight():
    made, x = layer(), shown(2, 24)
    made.product(Rows.of(x, SAFE))
    made.weight.fill_(3)
    rows = Rows.of(x, SAFE)
    expected = F.linear(rows.dequantize(), made.rounded.dequantize(), made.offset)
    torch.testing.assert_close(made.product(rows), expected, rtol=1e-5, atol=1e-5)


def test_a_bound_kernel_gives_the_same():
    made, rows = layer(), Rows.of(shown(5, 24), SAFE)
    kernel = bound(made)
    assert torch.equal(kernel(rows.values), made(rows.values))
    assert torch.equal(kernel(rows.values), made(rows.values))  # from the second on by the kernel


def test_the_steps_of_a_program_are_the_product():
    made, x = layer(), shown(5, 24)
    values, scales, least = QuantizeRows(SAFE)(x)
    assert torch.equal(Rescale(made)(made(values), scales, least), made.product(Rows.of(x, SAFE)))


def test_a_copy_is_proved_as_what_it_is():
    copied = copy.deepcopy(layer())
    assert type(copied.like(copied.rounded, copied.out)) is Int8Rows
    assert repr(copied) == repr(layer())
