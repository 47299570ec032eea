"""Packs follow their weights."""

from __future__ import annotations

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from lpot_lightning.quantization.kernels.pack import Pack


def test_one_of_a_call_in_inference_mode_is_good_for_autograd():
    weight, pack = torch.ones(3), Pack()
    with torch.inference_mode():
        pack.of(lambda _: weight * 2, (), weight)
    factor = torch.ones(3, requires_grad=True)
    (factor * pack.of(lambda _: weight * 2, (), weight)).sum().backward()
    assert factor.grad is not None
    assert torch.equal(factor.grad, weight * 2)


def test_a_weight_where_another_one_lay_is_another_one():
    memory, pack = torch.tensor([1.0, 2.0]), Pack()

    def made(weight: Tensor, *shape: int) -> Tensor:
        return pack.of(lambda _: weight.clone(), shape, weight)

    for shape in (1, 2):
        made(memory.detach(), shape)
    memory.data.copy_(torch.tensor([3.0, 4.0]))  # counts no version
    other = memory.detach()
    assert [made(other, shape).tolist() for shape in (1, 2)] == [[3.0, 4.0]] * 2


def test_what_was_made_in_a_mode_is_not_kept():
    weight, pack = torch.ones(3), Pack()
    with FakeTensorMode(allow_non_fake_inputs=True):
        pack.of(lambda _: weight * 2, (), weight)
    assert type(pack.of(lambda _: weight * 2, (), weight)) is Tensor
