"""Parameters that are looked up, since they may be exchanged."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from lpot_lightning.errors import PruningError
from lpot_lightning.pruning.parameters import Parameters


def test_an_exchanged_layer_is_found():
    model = nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.Linear(2, 2)))
    parameters = Parameters(model)
    model[1][0] = nn.Linear(2, 3)
    assert parameters["1.0.weight"] is model[1][0].weight
    assert dict(parameters) == dict(model.named_parameters())


def test_parameters_that_were_assigned_are_found():
    model = nn.Linear(2, 2)
    parameters = Parameters(model)
    before = parameters["weight"]
    model.load_state_dict(
        {name: one.clone() for name, one in model.state_dict().items()}, assign=True
    )
    assert parameters["weight"] is model.weight is not before


@pytest.mark.parametrize("head", [nn.Identity(), nn.Sequential(nn.Linear(2, 2)), None])
def test_what_is_there_no_more_is_named(head):
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    parameters = Parameters(model)
    model[1] = head
    with pytest.raises(
        PruningError, match=r"`1.weight` was there when pruning began, and the model"
    ):
        parameters["1.weight"]


def test_tied_parameters_have_both_names():
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    model[1].weight = model[0].weight
    assert len(Parameters(model)) == 4
    with torch.no_grad():
        Parameters(model)["1.weight"].zero_()
    assert not model[0].weight.any()
