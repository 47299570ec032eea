"""Layers that are called past the graph that has them."""

import copy

import torch
from torch import nn

from lpot_lightning.module.past_the_graph import Strays


def test_calls_past_a_graph_are_noted_and_the_layers_left_as_they_were():
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    strays = Strays()
    strays.watch(model, ["0", "1"])
    model[1](torch.ones(1, 2))
    assert strays.found == {"1"}
    strays.stop()
    assert not any("forward" in vars(layer) for layer in model)


def test_a_layer_that_a_graph_computes_for_is_not_watched():
    model = nn.Sequential(nn.Linear(2, 2))
    graph = vars(model[0])["forward"] = lambda x: x
    strays = Strays()
    strays.watch(model, ["0"])
    model[0](torch.ones(1, 2))
    strays.stop()
    assert not strays.found
    assert vars(model[0])["forward"] is graph


def test_a_copy_of_a_watched_layer_computes_with_its_own_weights_and_is_not_noted():
    model, strays = nn.Sequential(nn.Linear(2, 2)), Strays()
    strays.watch(model, ["0"])
    second = copy.deepcopy(model)
    nn.init.zeros_(second[0].weight)
    nn.init.zeros_(second[0].bias)
    assert not second(torch.ones(1, 2)).any()
    assert not strays.found
