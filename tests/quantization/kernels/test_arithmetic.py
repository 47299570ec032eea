"""Weights that are rounded."""

from __future__ import annotations

import pytest
import torch

from lpot_lightning.quantization.kernels.arithmetic import Int8Weight
from lpot_lightning.quantization.kernels.embedding import Int8Embedding


@pytest.mark.parametrize("size", [None, 4])
def test_what_decay_left_behind_has_steps_that_files_may_hold(size):
    weight = torch.stack([torch.full((8,), 1e-44), torch.full((8,), 1e-37), torch.ones(8)])
    weight[0, 3] = 0
    for made in (Int8Weight.of(weight, group_size=size), Int8Embedding.of(weight, size)):
        assert bool((made.scales >= torch.finfo(torch.float32).tiny).all())
    found = Int8Weight.of(weight, group_size=size).dequantize()
    torch.testing.assert_close(found, weight, rtol=0, atol=1e-6)
