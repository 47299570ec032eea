"""Keeping what was pruned at zero."""

from __future__ import annotations

import io

import pytest
import torch
from torch import nn

from lpot_lightning.errors import ArtifactError
from lpot_lightning.pruning.masks import Masks


def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(2, 3, 3), nn.Linear(4, 2))


def pruned_net():
    model = net()
    masks = Masks(model)
    masks.prune("0.weight", model[0].weight.abs() < 0.1)
    masks.apply()
    return model, masks


def test_pruned_weights_are_zero_and_the_parameter_is_the_same_object():
    model = net()
    before, small = model[0].weight, model[0].weight.abs() < 0.1
    masks = Masks(model)
    masks.prune("0.weight", small)
    masks.apply()
    assert model[0].weight is before
    assert torch.equal(before == 0, small)
    assert before.is_leaf


def test_momentum_does_not_bring_them_back():
    model, masks = pruned_net()
    gone = masks.pruned("0.weight")
    sgd = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    before = model[0].weight.detach().clone()
    for _ in range(3):
        sgd.zero_grad()
        model[0](torch.ones(1, 2, 4, 4)).sum().backward()
        sgd.step()
        masks.apply()
    assert (model[0].weight[gone] == 0).all()
    assert (model[0].weight[~gone] != before[~gone]).all()  # LPOT trained none of them (D3)


def test_what_is_pruned_stays_pruned():
    model, masks = pruned_net()
    first = masks.pruned("0.weight").clone()
    masks.prune("0.weight", torch.zeros_like(first))
    assert torch.equal(masks.pruned("0.weight"), first)


def test_another_model_of_the_same_names_is_masked_too():
    _, masks = pruned_net()
    other = net()
    masks.apply_to(other)
    assert torch.equal(other[0].weight == 0, masks.pruned("0.weight"))
    assert masks.hold_in(other.state_dict())
    assert not masks.hold_in(net().state_dict())


def test_they_survive_a_checkpoint_as_plain_bits():
    model, masks = pruned_net()
    file = io.BytesIO()
    torch.save(masks.state(), file)
    state = torch.load(io.BytesIO(file.getvalue()), weights_only=True)
    again = Masks(net())
    again.load(state)
    assert torch.equal(again.pruned("0.weight"), masks.pruned("0.weight"))
    assert state["0.weight"]["kept"].numel() == -(-model[0].weight.numel() // 8)


def test_they_lie_in_memory_as_the_weight_does():
    model = net().to(memory_format=torch.channels_last)
    masks = Masks(model)
    masks.prune("0.weight", model[0].weight < 0)
    assert masks.tensors()[0].stride() == model[0].weight.stride()


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda state: state.update(gone=state.pop("0.weight")), "a mask of `gone`, the model has"),
        (lambda state: state["0.weight"].update(shape=[1]), "is not of shape [3, 2, 3, 3]"),
        (lambda state: state["0.weight"].update(kept=torch.zeros(1)), "`0.weight` in the checkpoi"),
        (lambda state: state.update({"0.weight": 7}), "is not of shape"),
    ],
)
def test_a_damaged_state_is_refused(damage, said):
    _, masks = pruned_net()
    state = masks.state()
    damage(state)
    with pytest.raises(ArtifactError) as caught:
        Masks(net()).load(state)
    assert said in str(caught.value)


def test_a_parameter_of_the_same_name_is_masked_in_the_place_of_another():
    model, masks = pruned_net()
    gone = masks.pruned("0.weight")
    model[0] = nn.Conv2d(2, 3, 3)
    assert masks.exchanged() == ["0.weight"]
    assert masks.exchanged() == []
    masks.apply()
    assert torch.equal(model[0].weight == 0, gone)


def test_zeros_are_looked_for_in_what_has_the_shape():
    _, masks = pruned_net()
    assert not masks.hold_in({"0.weight": torch.zeros(1)})


def test_what_was_tied_and_is_not_any_more_has_the_same_zeros():
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    model[1].weight = model[0].weight
    masks = Masks(model)
    masks.prune("0.weight", torch.eye(4) > 0)
    model.load_state_dict({k: v + 1 for k, v in model.state_dict().items()}, assign=True)
    assert model[0].weight is not model[1].weight
    assert not masks.hold_in(model.state_dict())
    masks.apply()
    assert (model[1].weight.diag() == 0).all()
    assert masks.hold_in(model.state_dict())
