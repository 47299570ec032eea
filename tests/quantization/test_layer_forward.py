"""What a layer computes, whatever goes on around it."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from lpot_lightning.quantization.capability import DYNAMIC, WEIGHT_ONLY
from lpot_lightning.quantization.kernels.bounds import PAIRED
from lpot_lightning.quantization.layer_forward import LayerForward
from lpot_lightning.quantization.quantized_layer import quantized
from lpot_lightning.quantization.rungs import layer_on_rung


@torch.no_grad()
@pytest.mark.parametrize("config", [DYNAMIC, WEIGHT_ONLY[0]], ids=["dynamic", "weight only"])
@pytest.mark.parametrize("layer", [nn.Linear(8, 8), nn.GRU(8, 8)], ids=["linear", "gru"])
def test_it_computes_while_another_thread_compiles(layer, config, monkeypatch):
    forward = LayerForward(layer, layer_on_rung(layer, config, bounds=PAIRED))
    x = torch.ones(3, 8)
    wanted = forward(x)
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)  # it is for all threads
    for found, expected in zip(forward(x), wanted, strict=True):
        assert torch.equal(found, expected)


@torch.no_grad()
@pytest.mark.parametrize("is_int8", [False, True])
def test_a_table_of_a_model_of_half_precision_gives_that(is_int8):
    table, ids = nn.Embedding(6, 8), torch.arange(3)
    forward = LayerForward(table, quantized(table, None) if is_int8 else None)
    for one in (table, forward.int8):
        if one is not None:
            one.half()
    assert forward(ids).dtype == forward.shaped(ids).dtype == torch.float16
    torch.testing.assert_close(forward(ids), table(ids), rtol=0, atol=0.02)
