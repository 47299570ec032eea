"""Weights that files hold in 8 bits alone: where they are put, and who has to look at them."""

from functools import partial

import pytest
import torch
from int8_scenes import Batch, calibrated, load, same, save
from torch import nn

from lpot_lightning.quantization.kernels.layers import Int8Layer


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.attn = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, x):
        return x + self.attn(x, x, x, need_weights=False)[0]


class Doubles(Attention):
    """Has a part in loading its weights."""

    def _load_from_state_dict(self, state_dict, prefix, *others):
        state_dict[f"{prefix}attn.in_proj_weight"].mul_(2)
        super()._load_from_state_dict(state_dict, prefix, *others)


def double(state, *_):
    state["attn.in_proj_weight"].mul_(2)


def hooked(hook):
    model = Attention()
    model.register_load_state_dict_pre_hook(lambda _, *others: hook(*others))
    return model


def hooked_by_partial():
    model = Attention()
    model._register_load_state_dict_pre_hook(partial(double))
    return model


X = torch.randn(16, 5, 8, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def looks(monkeypatch):
    """Return a list that each look at the numbers of a weight goes into."""
    found, stands_for = [], Int8Layer.stands_for
    monkeypatch.setattr(
        Int8Layer, "stands_for", lambda self, one: found.append(1) or stands_for(self, one)
    )
    return found


def written(folder, model):
    torch.manual_seed(0)
    return save(folder, model, calibrated(model.eval(), Batch(X)))


def test_a_weight_that_was_restored_is_known_until_it_changes(tmp_path, looks):
    int8 = written(tmp_path, Attention())
    again = load(tmp_path, Attention())
    answer, first = int8(X), len(looks)
    assert same(again(X), answer)
    assert len(looks) == first == 2
    with torch.no_grad():
        again.attn.in_proj_weight.mul_(3)
    assert not same(again(X), answer)
    assert len(looks) > first


@pytest.mark.parametrize("make", [Doubles, partial(hooked, double), hooked_by_partial])
def test_a_weight_that_somebody_has_changed_is_looked_at(tmp_path, looks, make):
    int8 = written(tmp_path, Attention())
    again = load(tmp_path, make())
    looks.clear()
    assert not same(again(X), int8(X))
    assert looks


def test_restored_weights_are_those_of_the_integers(tmp_path):
    int8 = written(tmp_path, Attention())
    again = load(tmp_path, Attention().bfloat16())
    kernel = dict(int8.named_modules())["attn.lpot_int8.linear_0.layer.kernel"]
    assert torch.equal(again.attn.in_proj_weight, kernel.rounded.dequantize())
    assert again.attn.in_proj_weight.dtype == torch.float32
