"""What a model is known by, as it was in the dry run."""

import torch
from torch import nn
from zoo import Made

from lpot_lightning.artifacts.probe import PREFIX
from lpot_lightning.artifacts.traits import Traits
from lpot_lightning.module.calls import recorded

X = torch.ones(2, 3)


def scaled(by):
    model = Made(lambda m, x: m.net(x) * m.by, net=nn.Identity())
    model.by = by
    return model


def traits_of(model):
    with recorded(model) as calls:
        model(X)
    return Traits.of(model, calls)


def test_the_answer_is_that_of_the_attributes_of_the_dry_run():
    fields, tensors = traits_of(scaled(2.0)).described(scaled(5.0))
    assert torch.equal(tensors[f"{PREFIX}.answer.0"], 2 * X[:1])
    assert fields["modules"][""] == {"class": "Made", "constants": {"by": 2.0}}


def test_signatures_are_those_of_the_modules_that_are_called_from_outside():
    traits = traits_of(scaled(1.0))
    tensor = {"tensor": {"dtype": "float32", "rank": 2}}
    assert traits.signatures == {"": [{"args": [tensor], "kwargs": {}}]}


def test_a_model_that_somebody_else_called_is_known_by_the_same():
    model = scaled(2.0)
    assert (
        Traits.of_calls(model, {"": ((X,), {})}).described(model)[0]
        == (traits_of(model).described(model)[0])
    )


def test_without_a_call_there_is_a_reason():
    fields, tensors = Traits.of_calls(scaled(2.0), {}).described(scaled(2.0))
    assert (fields["probe"], tensors) == ({"": "no call of it was seen"}, {})
