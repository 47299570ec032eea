"""What a layer costs in floating point, by a clock that a test holds."""

from __future__ import annotations

import itertools

import torch
from torch import nn

from lpot_lightning.module.calls import ModuleCalls
from lpot_lightning.quantization import op_profile


def test_a_layer_is_run_as_its_class_computes_and_timed(monkeypatch) -> None:
    layer = nn.Linear(8, 4)
    layer.forward = None  # what stands in is not what is timed
    monkeypatch.setattr(op_profile, "perf_counter", itertools.count().__next__)
    found = op_profile.profile_of(layer, ModuleCalls(args=(torch.ones(2, 8),), count=1))
    assert found.seconds == 1
    assert found.activation_bytes == 2 * 4 * 4
