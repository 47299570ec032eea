"""Weights that are kept as integers."""

from __future__ import annotations

import copy

import torch

from lpot_lightning.quantization.kernels.arithmetic import Int8Weight
from lpot_lightning.quantization.kernels.kept import KeptWeight


def kept(group_size=None):
    weight = torch.randn(4, 10, generator=torch.Generator().manual_seed(0))
    return KeptWeight(Int8Weight.of(weight, None, group_size)), weight


def test_the_floats_are_made_once():
    made, weight = kept()
    assert made.floats is made.floats
    torch.testing.assert_close(made.floats, weight, rtol=0, atol=float(weight.abs().max()) / 127)


def test_they_follow_the_integers():
    made, _ = kept()
    before = made.floats.clone()
    made.weight.zero_()
    assert not made.floats.any()
    assert before.any()


def test_a_copy_makes_its_own():
    made, _ = kept()
    made.floats  # noqa: B018
    copied = copy.deepcopy(made)
    copied.weight.zero_()
    assert made.floats.any()
    assert not copied.floats.any()


def test_groups_have_scales_of_their_own_and_the_last_one_may_be_short():
    made, weight = kept(group_size=4)
    assert made.scales.shape == (4, 3)
    steps = made.rounded.steps
    assert steps.shape == weight.shape
    assert ((made.floats - weight).abs() <= steps / 2 + 1e-7).all()
