"""Weights that nothing trains."""

from __future__ import annotations

from pruning_scenes import net
from torch import nn

from lpot_lightning.pruning.untrained import frozen_in, topmost


def test_what_wants_no_gradient_is_frozen():
    model = net()
    model.fc.requires_grad_(False)
    assert frozen_in(model) == ["fc.weight", "fc.bias"]


def test_what_no_optimizer_has_is_frozen():
    model = net()
    trained = {id(one) for name, one in model.named_parameters() if not name.startswith("fc")}
    assert frozen_in(model, trained) == ["fc.weight", "fc.bias"]


def test_optimizers_that_have_no_parameter_of_the_model_tell_nothing():
    copies = [nn.Parameter(one.detach().clone()) for one in net().parameters()]
    assert frozen_in(net(), {id(one) for one in copies}) == []


def test_a_tied_weight_is_trained_by_any_of_its_names():
    model = net()
    model.fc.weight = model.out.weight = nn.Parameter(model.fc.weight.detach())
    trained = {id(one) for one in model.out.parameters()}
    assert "fc.weight" not in frozen_in(model, trained)


def test_modules_are_told_in_place_of_their_weights():
    every = ["a.0.weight", "a.1.weight", "b.0.weight", "b.0.extra", "b.1.weight", "own"]
    assert topmost(["a.0.weight", "a.1.weight", "b.0.weight", "own"], every) == [
        "a",
        "b.0.weight",
        "own",
    ]
    assert topmost(["b.0.weight", "b.0.extra"], every) == ["b.0"]
