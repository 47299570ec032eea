"""Parts out, parts in, and back."""

import threading

import pytest
import torch
from int8_scenes import state_of
from torch import nn
from zoo import TwoNames, seeded

from lpot_lightning.errors import QuantizationError
from lpot_lightning.quantization.replace import other_types, put, replaced, second_model


def test_a_part_is_in_place_inside_the_with_and_out_after_it():
    model, other = nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.ReLU())), nn.Tanh()
    before, relu = state_of(model), model[1][0]
    with replaced(model, {"1.0": other}) as changed:
        assert changed is model
        assert model[1][0] is other
    assert model[1][0] is relu
    assert state_of(model) == before


def test_it_is_put_back_after_an_error():
    model = nn.Sequential(nn.ReLU())
    relu = model[0]
    with pytest.raises(ZeroDivisionError), replaced(model, {"0": nn.Tanh()}):
        raise ZeroDivisionError
    assert model[0] is relu


def test_the_whole_model_may_be_the_part():
    model, other = nn.Linear(2, 2), nn.Tanh()
    with replaced(model, {"": other}) as changed:
        assert changed is other


def test_a_module_with_two_names_is_replaced_under_both():
    model, other = seeded(TwoNames), nn.Identity()
    with replaced(model, {"first": other}):
        assert model.first is model.second is other
    assert isinstance(model.first, nn.Linear)
    assert model.first is model.second


def test_a_part_inside_of_a_part_does_not_confuse_it():
    model = nn.Sequential(nn.Sequential(nn.ReLU()))
    outer, inner = model[0], model[0][0]
    with replaced(model, {"0": nn.Tanh(), "0.0": nn.Tanh()}):
        assert isinstance(model[0], nn.Tanh)
    assert model[0] is outer
    assert outer[0] is inner


def test_put_tells_what_was_there():
    model = nn.Sequential(nn.ReLU())
    relu = model[0]
    assert put(model, {"0": nn.Tanh()}) == [(model, "0", relu)]


def test_a_second_model_shares_nothing_and_is_in_eval_mode():
    model = seeded(TwoNames).train()
    second = second_model(model)
    kept = model.first.weight.clone()
    second.first.weight.data.zero_()
    assert model.training
    assert not second.training
    assert second.first is second.second
    assert torch.equal(model.first.weight, kept)


def test_torchmetrics_are_looked_up_anew_in_the_second_model():
    model = nn.Linear(2, 2)
    model._metric_attributes = {1: "stale"}
    assert second_model(model)._metric_attributes is None
    assert model._metric_attributes == {1: "stale"}


def test_what_cannot_be_copied_is_told():
    model = nn.Linear(2, 2)
    model.lock = threading.Lock()
    with pytest.raises(QuantizationError, match="`Linear` cannot be copied, .*second object"):
        second_model(model)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_the_second_model_is_float32_and_the_first_is_as_it_was(dtype):
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)).to(dtype)
    assert other_types(model) == (dtype,)
    second = second_model(model)
    assert other_types(second) == ()
    assert second[1].running_mean.dtype is second[0].weight.dtype is torch.float32
    assert second[1].num_batches_tracked.dtype is torch.int64
    assert torch.equal(second[0].weight.to(dtype), model[0].weight)
    assert model[0].weight.dtype is dtype


def test_weights_that_are_tied_stay_tied_in_float32():
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)).half()
    model[1].weight = model[0].weight
    second = second_model(model)
    assert second[0].weight is second[1].weight


def test_only_the_types_of_weights_are_changed():
    model = nn.Linear(2, 2)
    model.register_buffer("table", torch.zeros(2, dtype=torch.float64))
    assert second_model(model).table.dtype is torch.float64
    assert second_model(model.bfloat16()).table.dtype is torch.float32
