"""What an op costs, by a clock that a test holds."""

from __future__ import annotations

import itertools

import torch
from torch import nn

from lpot_lightning.module.calls import ModuleCalls
from lpot_lightning.quantization import op_profile


def test_what_computes_an_op_is_run_and_timed(monkeypatch) -> None:
    monkeypatch.setattr(op_profile, "perf_counter", itertools.count().__next__)
    calls = ModuleCalls(args=(torch.ones(2, 8),), count=1)
    found = op_profile.profile_of(nn.Linear(8, 4).forward, calls)
    assert found.seconds == 1
    assert found.activation_bytes == 2 * 4 * 4
