"""Keeping what was pruned at zero."""

from __future__ import annotations

import copy
import io

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from lpot_lightning.errors import ArtifactError, PruningError
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


class Whole(nn.Module):
    def __init__(self):
        super().__init__()
        self.net, self.twin = net(), nn.Linear(4, 2)


def masked_whole():
    model = Whole()
    masks = Masks(model)
    for name in ("net.0.weight", "twin.weight"):
        masks.prune(name, model.get_parameter(name) < 0)
    return model, masks


def is_masked(tensor, masks, name):
    return torch.equal(tensor == 0, masks.pruned(name))


def test_copies_of_a_module_in_it_are_masked_too():
    model, masks = masked_whole()
    part = copy.deepcopy(model.net)
    masks.apply_to(part)
    assert is_masked(part[0].weight, masks, "net.0.weight")
    part = copy.deepcopy(model.net)
    masks.apply_to(part, path="net")
    assert is_masked(part[0].weight, masks, "net.0.weight")


@pytest.mark.parametrize("path", ["", "net"])
def test_torchs_own_averages_are_masked(path):
    model, masks = masked_whole()
    average = AveragedModel(model.get_submodule(path))
    masks.apply_to(average)
    name = "net.0.weight".removeprefix(f"{path}." if path else "")
    assert is_masked(average.module.get_parameter(name), masks, "net.0.weight")


@pytest.mark.parametrize("path", ["", "net"])
def test_a_state_dict_is_masked_in_place(path):
    model, masks = masked_whole()
    state = {name: one.half() for name, one in model.get_submodule(path).state_dict().items()}
    masks.apply_to(state)
    name = "net.0.weight".removeprefix(f"{path}." if path else "")
    assert is_masked(state[name], masks, "net.0.weight")
    assert not (model.net[0].weight == 0).any()


def test_a_copy_of_one_of_several_modules_needs_its_path():
    model = nn.ModuleDict({"one": net(), "two": net()})
    masks = Masks(model)
    masks.prune("one.0.weight", model["one"][0].weight < 0)
    masks.prune("two.0.weight", model["two"][0].weight > 0)
    with pytest.raises(PruningError) as caught:
        masks.apply_to(net())
    assert str(caught.value) == "this can be a copy of `one`, `two`: say of which by `path`"
    part = net()
    masks.apply_to(part, path="two")
    assert is_masked(part[0].weight, masks, "two.0.weight")


@pytest.mark.parametrize(
    ("other", "path", "said"),
    [
        (
            nn.Linear(3, 3),
            None,
            "to has no `net.0.weight`, and [3, 2, 3, 3] is pruned: give",
        ),
        (
            {"net.0.weight": torch.ones(2)},
            None,
            "to has [2] as `net.0.weight`, and [3, 2, 3, 3]",
        ),
        (nn.Linear(3, 3), "net", "to be applied to has no `0.weight`, and [3, 2, 3, 3] is pruned"),
        ([torch.ones(2)], None, "the masks are to be applied to is a `list`: give a copy of the"),
        (nn.Linear(3, 3), "head", "`path` is `head`, and nothing in it is pruned"),
    ],
)
def test_what_is_no_copy_is_refused_and_left(other, path, said):
    _, masks = masked_whole()
    with pytest.raises(PruningError) as caught:
        masks.apply_to(other, path)
    assert said in str(caught.value)


def test_a_copy_of_which_a_part_does_not_fit_is_left_as_it_is():
    model, masks = masked_whole()
    other = copy.deepcopy(model)
    other.twin = nn.Linear(2, 2)
    with pytest.raises(PruningError, match=r"has \[2, 2\] as `twin.weight`"):
        masks.apply_to(other)
    assert torch.equal(other.net[0].weight, model.net[0].weight)


def test_tied_weights_of_a_state_dict_are_masked_by_all_names():
    model = Whole()
    model.tied = model.twin
    masks = Masks(model)
    masks.prune("twin.weight", model.twin.weight < 0)
    state = {name: one.clone() for name, one in model.state_dict().items()}
    masks.apply_to(state)
    assert torch.equal(state["tied.weight"], state["twin.weight"])
    del state["tied.weight"]
    masks.apply_to(state)


def test_they_know_their_state():
    model, masks = masked_whole()
    state = masks.state()
    assert masks.are(state)
    masks.prune("twin.weight", model.twin.weight > 0)
    assert not masks.are(state)
    assert not masks.are(None)


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
