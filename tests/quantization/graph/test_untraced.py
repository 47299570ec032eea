"""Which calls are looked at again."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lpot_lightning.module.calls import ModuleCalls
from lpot_lightning.quantization.graph.capture import Captured
from lpot_lightning.quantization.graph.untraced import untraced


class Wrong(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x @ torch.ones(3)


def test_a_module_that_was_never_called_is_not_looked_at() -> None:
    captured = {"": Captured(nn.Linear(2, 2).eval(), lambda graph, _: graph.forward)}
    assert untraced(captured, {"": ModuleCalls()}) == {}


def test_a_call_that_is_wrong_is_no_break() -> None:
    captured = Captured(Wrong().eval(), lambda graph, _: graph.forward)
    captured.counts.calls = 1
    assert untraced({"": captured}, {"": ModuleCalls(args=(torch.ones(2),), count=1)}) == {}
