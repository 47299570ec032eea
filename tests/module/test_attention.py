"""Attention of torch gives the same when its functions are seen."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from lpot_lightning.module.attention import OPENED


class Opening(TorchFunctionMode):
    def __init__(self) -> None:
        self.seen: list[str] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is nn.functional.multi_head_attention_forward:
            with self:
                return OPENED(*args, **(kwargs or {}))
        self.seen.append(func.__name__)
        return func(*args, **(kwargs or {}))


def tokens(seed: int, length: int = 5) -> Tensor:
    return torch.randn(3, length, 8, generator=torch.Generator().manual_seed(seed))


A, B, C = tokens(0), tokens(1, 7), tokens(2, 7)
CALLS = {
    "itself": ({}, (A, A, A), {}),
    "no weights": ({}, (A, A, A), {"need_weights": False}),
    "across": ({}, (A, B, B), {}),
    "three": ({}, (A, B, C), {"need_weights": False}),
    "no bias": ({"bias": False}, (A, B, B), {}),
    "no bias, itself": ({"bias": False}, (A, A, A), {}),
    "another width": ({"kdim": 8, "vdim": 8, "add_bias_kv": True}, (A, B, C), {}),
    "masked": ({}, (A, A, A), {"attn_mask": torch.ones(5, 5, dtype=torch.bool).triu(1)}),
    "padded": ({}, (A, B, B), {"key_padding_mask": torch.arange(7).expand(3, 7) > 4}),
}


@pytest.mark.parametrize("name", CALLS)
def test_it_gives_the_same(name):
    asked, given, more = CALLS[name]
    torch.manual_seed(0)
    attention = nn.MultiheadAttention(8, 2, batch_first=True, **asked).eval()
    with torch.no_grad():
        wanted = attention(*given, **more)
        with Opening() as opening:
            found = attention(*given, **more)
    assert "linear" in opening.seen
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other)
