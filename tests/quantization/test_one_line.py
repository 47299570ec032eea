"""What `print` shows of an int8 model."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from rung_scenes import ladder
from torch import nn

from lpot_lightning import load
from lpot_lightning.quantization.capability import BF16
from lpot_lightning.quantization.kernels.bounds import WHOLE
from lpot_lightning.quantization.rungs import on_rung


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("table", "(lpot_int8): int8(scales=one a group of 32)"),
        ("q", "(lpot_int8): dynamic int8(scales=one a row of the input)"),
        ("wide", "(lpot_int8): weight-only int8(scales=one a channel)"),
        ("narrow", "(lpot_int8): weight-only int8(scales=one a group of 32)"),
    ],
)
def test_each_layer_says_its_precision_in_one_line(name, line):
    shown = repr(ladder().get_submodule(name)).split("\n")
    assert shown[-2].strip() == line
    assert len(shown) == 4


def test_a_static_layer_says_the_grid_of_its_input():
    kernel = ladder().head.lpot_int8.kernel
    line = f"int8(scale={kernel.x.scale:.4g}, zero_point={kernel.x.zero_point})"
    assert f"(lpot_int8): {line}\n" in repr(ladder().head)


def test_what_stays_in_fp32_is_shown_as_ever():
    assert repr(ladder().norm) == repr(nn.LayerNorm(40))


def test_bfloat16_is_named():
    assert repr(on_rung(nn.Linear(8, 4), BF16, bounds=WHOLE)) == "bf16()"


def test_functions_have_a_line_each():
    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.randn(4, 8))

        def forward(self, x):
            return nn.functional.linear(x, self.weight)

    from int8_scenes import Batch, quantized

    shown = repr(quantized(Own().eval(), Batch(torch.randn(4, 8))))
    assert "(linear_0): int8(scale=" in shown
    assert "QuantizedFunction" not in shown


def test_the_users_own_words_are_kept(quantized):
    fp32, int8 = quantized
    for name, layer in fp32.named_modules():
        assert int8.get_submodule(name).extra_repr() == layer.extra_repr()


def test_copies_and_what_was_loaded_look_the_same(quantized, workspace):
    fp32, int8 = quantized
    shown = repr(int8)
    files = workspace / "best_configure.yaml", workspace / "best_model_weights.pt"
    assert "int8(scale=" in shown
    assert repr(copy.deepcopy(int8)) == shown
    assert repr(pickle.loads(pickle.dumps(int8))) == shown  # noqa: S301
    assert repr(load(*files, fp32)) == shown
