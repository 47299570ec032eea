"""The graphs of the search are those of the model that comes back."""

from __future__ import annotations

import torch
from plain_scenes import corners, net, quantization

from lpot_lightning.quantization.program.program import Program


def test_the_first_call_of_the_result_captures_nothing(workspace, monkeypatch):
    made = []
    make = Program.__init__

    def noted(self, *given, **more):
        made.append(self)
        make(self, *given, **more)

    monkeypatch.setattr(Program, "__init__", noted)
    int8 = quantization(workspace)(net())
    assert made
    before = len(made)
    with torch.no_grad():
        int8(corners(50, seed=1).tensors[0])
    assert len(made) == before
