"""What a model costs."""

import torch
from channel_scenes import found_in, halved, state_of
from channel_zoo import CASES
from torch import nn

from lpot_lightning.pruning.channels.cost import macs_of, parameters_of


def test_parameters_are_counted_once():
    model = nn.Sequential(nn.Linear(4, 4, bias=False), nn.Linear(4, 4))
    assert parameters_of(model) == 36
    model[1].weight = model[0].weight
    assert parameters_of(model) == 20


def test_multiply_accumulates_of_all_calls_are_counted():
    model = nn.ModuleDict({"conv": nn.Conv2d(3, 8, 3), "fc": nn.Linear(5, 2)})
    conv = {"conv": ((torch.ones(2, 3, 6, 6),), {})}
    assert macs_of(model, conv) == 2 * 8 * 16 * 27
    assert macs_of(model, conv | {"fc": ((torch.ones(1, 5),), {})}) == 2 * 8 * 16 * 27 + 10


def test_a_smaller_model_costs_less():
    model, case = CASES["resnet"].make(), CASES["resnet"]
    _, small, _ = halved(model, found_in("resnet"))
    assert macs_of(small, case.calls()) < 0.4 * macs_of(model, case.calls())
    assert parameters_of(small) < 0.4 * parameters_of(model)


def test_counting_leaves_the_model_as_it_was():
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout())
    model[2].eval()
    before, numbers = state_of(model), torch.get_rng_state()
    macs_of(model, {"": ((torch.randn(1, 4, generator=torch.Generator()),), {})})
    assert state_of(model)[1:] == before[1:]
    assert torch.equal(model[1].running_mean, before[0]["1.running_mean"])
    assert torch.equal(torch.get_rng_state(), numbers)
