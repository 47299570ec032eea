"""An LSTM of weights that are laid out once gives what torch gives, or nothing."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lpot_lightning.quantization.kernels.lstm import MOST, LaidOut

SETTINGS: list[dict[str, Any]] = [{}, {"num_layers": 2}, {"num_layers": 2, "bidirectional": True}]


def shown(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def made(**settings: Any) -> tuple[nn.LSTM, LaidOut]:
    torch.manual_seed(0)
    lstm = nn.LSTM(12, 8, **settings).requires_grad_(False)
    directions = 2 if lstm.bidirectional else 1
    return lstm, LaidOut(list(lstm.parameters()), lstm.num_layers, directions)


def begun(lstm: nn.LSTM, batch: int) -> tuple[Tensor, Tensor]:
    count = lstm.num_layers * (2 if lstm.bidirectional else 1)
    return shown(count, batch, 8), shown(count, batch, 8).flip(0)


def layouts(laid: LaidOut) -> list[bool]:
    return [one is not None for one in laid._laid.values()]


@torch.no_grad()
@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("batch", [1, 3])
def test_it_gives_what_torch_gives(settings, batch):
    lstm, laid = made(**settings)
    x, state = shown(batch, 5, 12).transpose(0, 1), begun(lstm, batch)
    wanted = lstm(x, state)
    for _ in range(2):
        found = laid.computed(x, state)
        assert found is not None
        for one, other in zip((found[0], *found[1]), (wanted[0], *wanted[1]), strict=True):
            assert torch.equal(one, other)
            assert one.stride() == other.stride()
    assert layouts(laid) == [True]


@torch.no_grad()
def test_what_gives_something_else_is_used_no_more(monkeypatch):
    lstm, laid = made()
    x, state = shown(5, 1, 12), begun(lstm, 1)
    gone_over = laid._gone_over
    monkeypatch.setattr(
        laid, "_gone_over", lambda *given: (gone_over(*given)[0] + 1, gone_over(*given)[1])
    )
    first = laid.computed(x, state)
    assert first is not None
    assert torch.equal(first[0], lstm(x, state)[0])
    assert laid.computed(x, state) is None
    assert layouts(laid) == [False]


@torch.no_grad()
def test_what_nothing_is_laid_out_for_is_left_to_torch(monkeypatch):
    lstm, laid = made()
    for steps in range(1, MOST + 3):
        found = laid.computed(shown(steps, 1, 12), begun(lstm, 1))
        assert (found is None) == (steps > MOST)
    h, c = begun(lstm, 1)
    assert laid.computed(shown(1, 1, 12).double(), (h.double(), c.double())) is None
    assert laid.computed(shown(2000, 1, 12), (h, c)) is None
    with torch.autocast("cpu"):
        assert laid.computed(shown(1, 1, 12), (h, c)) is None
    monkeypatch.setattr(torch._C, "_get_mkldnn_enabled", lambda: False)
    assert laid.computed(shown(1, 1, 12), (h, c)) is None
