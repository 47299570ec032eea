"""What has no weight of its own and takes time is told, with a true reason."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from lpot_lightning.module.calls import recorded
from lpot_lightning.quantization import floats
from lpot_lightning.quantization.onednn import OnednnBackend


def told(model: nn.Module, *inputs: torch.Tensor) -> dict[str, str]:
    with torch.no_grad(), recorded(model.eval()) as calls:
        model(*inputs)
    return OnednnBackend().prepare(model, calls).excluded


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.qkv, self.out = nn.Linear(8, 24), nn.Linear(8, 8)

    def forward(self, x):
        q, k, v = self.qkv(x).chunk(3, -1)
        weights = (q @ k.transpose(1, 2)).softmax(-1)
        y = torch.bmm(weights, v) + F.scaled_dot_product_attention(q, k, v)
        return self.out(F.layer_norm(y, (8,)))


def test_products_of_activations_attention_and_norms_are_told():
    operands = "both operands are activations; stays in floats"
    assert told(nn.Sequential(Attention()), torch.randn(2, 5, 8)) == {
        "0#matmul_0": operands,
        "0#softmax_0": "softmax stays floats: int8 costs it accuracy and wins no time",
        "0#bmm_0": operands,
        "0#scaled_dot_product_attention_0": operands,
        "0#layer_norm_0": floats.NORMS,
    }


def test_a_norm_is_told_where_no_layer_stands_before_it():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.folded, self.loose = nn.Conv2d(3, 4, 3), *map(nn.BatchNorm2d, (4, 4))

        def forward(self, x):
            return self.loose(self.folded(self.conv(x)).relu())

    assert told(Net(), torch.randn(2, 3, 8, 8)) == {
        "loose": "follows no layer that it could be folded into; stays in floats"
    }


def test_weights_of_data_and_of_others_are_told():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(8, 8), nn.Linear(8, 8)

        def forward(self, x):
            y = F.linear(self.a(x), self.b(x))
            return y @ self.a.weight[:, :3].repeat(2, 1)[:3]

    class Borrowing(nn.Module):
        def __init__(self, other):
            super().__init__()
            self.others = [other]

        def forward(self, x):
            return F.linear(x, self.others[0].weight)

    layer = nn.Linear(8, 8)
    assert told(nn.Sequential(Net()), torch.randn(3, 8)) == {
        "0#linear_0": "its weight is computed from the data",
        "0#matmul_0": "multiplies by a weight, and is neither `F.linear` nor a convolution",
    }
    assert told(nn.Sequential(layer, Borrowing(layer)), torch.randn(3, 8)) == {
        "1#linear_0": "its weight is that of another module"
    }


def test_numbers_begin_anew_in_each_call_and_each_module():
    class Product(nn.Module):
        def forward(self, x):
            return x @ x

    once = Product()
    model = nn.Sequential(nn.Linear(8, 8), once, once, Product())
    assert list(told(model, torch.randn(8, 8))) == ["1#matmul_0", "3#matmul_0"]


def test_other_functions_are_told_by_their_time_alone(monkeypatch):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(8, 8)

        def forward(self, x):
            return self.fc(x).relu().sin().flatten(1)

    assert told(Net(), torch.randn(3, 8)) == {}
    monkeypatch.setattr(floats, "LEAST_SHARE", 0.0)
    monkeypatch.setattr(floats, "LEAST_SECONDS", 0.0)
    assert told(Net(), torch.randn(3, 8)) == {"#sin_0": "oneDNN has no int8 kernel for it"}


@pytest.mark.parametrize(
    ("mode", "why"),
    [
        ("nearest", floats.REPEATS),
        ("nearest-exact", floats.REPEATS),
        ("bilinear", "oneDNN has no int8 kernel for it"),
    ],
)
def test_what_only_repeats_values_is_not_said_to_have_no_kernel(mode, why):
    up = nn.Upsample(scale_factor=2, mode=mode)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), up, nn.Conv2d(4, 4, 3))
    assert told(model, torch.randn(1, 3, 8, 8)) == {"1#interpolate_0": why}


def test_what_is_computed_of_weights_alone_is_not_told():
    class Standardized(nn.Conv2d):
        def forward(self, x):
            flat = self.weight.reshape(1, self.out_channels, -1)
            weight = F.batch_norm(flat, None, None, training=True)
            return self._conv_forward(x, weight.reshape_as(self.weight), self.bias)

    assert told(nn.Sequential(Standardized(3, 4, 3)), torch.randn(2, 3, 8, 8)) == {}
