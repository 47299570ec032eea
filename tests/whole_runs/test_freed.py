"""A run leaves nothing behind in the process but its result."""

from __future__ import annotations

import gc
import weakref

import torch
from plain_scenes import corners, net, quantization
from torch import nn


def test_a_result_that_nobody_holds_is_freed(workspace):
    fp32 = net()
    before = _alive()
    made = quantization(workspace)
    int8 = made(fp32)
    with torch.no_grad():
        int8(corners(8, seed=1).tensors[0])
    seen = weakref.ref(int8)
    del int8, made
    gc.collect()
    assert seen() is None
    assert _alive() <= before  # others may have been freed meanwhile


def _alive() -> int:
    gc.collect()
    return sum(type(one) is nn.Conv2d for one in gc.get_objects())
