"""A model becomes small by its plan alone."""

import copy
import sys

import pytest
import torch
import yaml
from channel_scenes import distance, found_in, half, halved, masked, outputs, trained
from channel_zoo import CASES
from lightning import LightningModule
from torch import nn

from lpot_lightning.errors import ArtifactError
from lpot_lightning.pruning.channels.cut import cut
from lpot_lightning.pruning.channels.finding import find_groups
from lpot_lightning.pruning.channels.plan import ChannelPlan, TensorPlan, channel_plan_of


class Lit(LightningModule):
    """Has hyperparameters, and a part that is entered by itself."""

    def __init__(self, width=8):
        super().__init__()
        self.save_hyperparameters()
        self.net = nn.Sequential(nn.Linear(6, width), nn.ReLU(), nn.Linear(width, 2))

    def validation_step(self, batch, _):
        return self.net(batch)


@pytest.mark.parametrize("name", CASES)
def test_a_fresh_model_is_cut_and_filled_from_the_files(name, monkeypatch):
    case = CASES[name]
    _, small, plan = halved(trained(case.make()), found_in(name))
    monkeypatch.setitem(sys.modules, "torch_pruning", None)
    read = ChannelPlan.from_dict(yaml.safe_load(yaml.safe_dump(plan.to_dict())))
    fresh = cut(case.make(), read)
    fresh.load_state_dict(small.state_dict())
    calls = case.calls(seed=3)
    for one, other in zip(outputs(fresh, calls), outputs(small, calls), strict=True):
        assert torch.equal(one, other)


def test_a_lightning_module_stays_one():
    x = torch.randn(4, 6)
    found = find_groups(Lit(), {"net": ((x,), {})})
    wide, small, _ = halved(Lit().eval(), found)
    assert (type(small), small.hparams.width, small.net[0].out_features) == (Lit, 8, 4)
    with torch.no_grad():
        got, wanted = small.validation_step(x, 0), wide.validation_step(x, 0)
    assert distance([got], [wanted]) < 1e-5


def test_parameters_keep_what_they_are_besides_their_shape():
    model = CASES["plain"].make().double()
    model[0].weight.requires_grad_(False)
    _, small, _ = halved(model, found_in("plain"))
    for before, after in zip(model.parameters(), small.parameters(), strict=True):
        assert isinstance(after, nn.Parameter)
        assert (after.dtype, after.requires_grad) == (before.dtype, before.requires_grad)
        assert after.is_leaf
    assert type(small[1].running_mean) is torch.Tensor


def test_a_small_model_can_be_trained_on():
    _, small, _ = halved(CASES["resnet"].make(), found_in("resnet"))
    small.train()(torch.randn(4, 3, 8, 8)).sum().backward()
    assert all(one.grad.shape == one.shape for one in small.parameters())


def test_the_plan_shares_no_memory_with_the_small_model():
    model = CASES["plain"].make()
    wide, small, _ = halved(model, found_in("plain"))
    before = wide[9].bias.clone()
    with torch.no_grad():
        [one.zero_() for one in small.parameters()]
    assert torch.equal(wide[9].bias, before)


@pytest.mark.parametrize("name", ["tied", "tied_in_a_circle"])
def test_tied_weights_stay_tied(name):
    _, small, plan = halved(CASES[name].make(), found_in(name))
    one, two = ("words", "head") if name == "tied" else ("one", "two")
    assert small.get_submodule(one).weight is small.get_submodule(two).weight
    assert plan.tensors[f"{one}.weight"] == plan.tensors[f"{two}.weight"]


def test_a_layer_with_two_names_stays_one():
    _, small, _ = halved(CASES["two_names"].make(), found_in("two_names"))
    assert small.net is small.again[0]
    assert small.net[0].weight.shape == (4, 6)


def test_one_channel_may_be_all_that_stays():
    model, found = trained(CASES["resnet"].make()), found_in("resnet")
    kept = {group.name: torch.arange(group.n) == 2 for group in found}
    wide = masked(model, found, kept)
    small = cut(copy.deepcopy(wide), channel_plan_of(model, found.groups, kept))
    calls = CASES["resnet"].calls(seed=3)
    assert small[2].two[0].weight.shape == (1, 1, 3, 3)
    assert distance(outputs(small, calls), outputs(wide, calls)) < 1e-5


def one_plan(name="0.weight", shape=(8, 6), kept=((0, 1), None), sizes=None):
    return ChannelPlan({name: TensorPlan(shape, kept)}, sizes or {})


@pytest.mark.parametrize(
    ("plan", "told"),
    [
        (one_plan("0.wait"), "`0.wait` is cut by the plan, and the model has no such tensor"),
        (one_plan("__class__"), "`__class__` is cut by the plan, and the model has no such"),
        (one_plan(shape=(9, 6)), r"`0.weight` has the shape \[8, 6\], and \[9, 6\] in the plan"),
        (one_plan(sizes={"5": {"out_features": 2}}), "`5` has `out_features: None`, which"),
        (one_plan(sizes={"0": {"out_channels": 2}}), "`0` has `out_channels: None`, which"),
        (one_plan(sizes={"0": {"out_features": 9}}), "`0` has `out_features: 8`, .* lowers to 9"),
    ],
)
def test_a_plan_of_another_model_is_refused_before_anything_changes(plan, told):
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 2))
    with pytest.raises(ArtifactError, match=told):
        cut(model, plan)
    assert model[0].weight.shape == (8, 6)


def test_a_plan_may_not_part_what_is_tied():
    model = nn.Sequential(nn.Linear(6, 6), nn.Linear(6, 6))
    model[1].weight = model[0].weight
    with pytest.raises(ArtifactError, match="`1.weight` and `0.weight` are one tensor, and cut"):
        cut(model, one_plan(shape=(6, 6)))


def test_half_of_a_group_can_be_chosen_by_any_mask():
    model, found = trained(CASES["gated"].make()), found_in("gated")
    small = cut(model, channel_plan_of(model, found.groups, {"gate": half(found["gate"])}))
    assert (small.gate.out_features, small.fc.in_features) == (8, 4)
