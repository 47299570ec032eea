"""`torch.export` of an int8 model is refused, whatever is around the model."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from lpot_lightning.errors import QuantizationError
from lpot_lightning.quantization.graph.capture import Captured
from lpot_lightning.quantization.kernels.grid import Grid
from lpot_lightning.quantization.layer_forward import LayerForward
from lpot_lightning.quantization.program.program import Program
from lpot_lightning.quantization.quantized_layer import quantized

X = torch.ones(2, 8)


def layer() -> nn.Module:
    made = nn.Linear(8, 3)
    vars(made)["forward"] = LayerForward(made, quantized(made, Grid.over(-2, 2)))
    return made


def net() -> nn.Module:
    made = nn.Sequential(layer(), nn.ReLU())
    vars(made)["forward"] = Captured(made, Program)
    return made


@pytest.mark.parametrize("make", [layer, net])
def test_an_int8_model_is_refused(make):
    model = make()
    for one in (model, nn.Sequential(model)):
        with pytest.raises((AttributeError, QuantizationError), match="^`torch.export` cannot"):
            torch.export.export(one, (X,))
    assert not hasattr(model.forward, "__code__")
    assert model(X).shape == (2, 3)
