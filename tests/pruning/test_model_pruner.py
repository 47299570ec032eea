"""All pruners of one model: what is reached, kept and gone on with."""

from __future__ import annotations

import copy
import itertools

import pytest
import torch
from pairs import paired
from pruning_scenes import net, pruners, step, trained, zeros
from torch import nn

from lpot_lightning.errors import ArtifactError, ConfError, PruningError
from lpot_lightning.pruning.model_pruner import ModelPruner, schedule_of
from lpot_lightning.pruning.patterns import pattern_of
from lpot_lightning.pruning.pruners import sparsity_of
from lpot_lightning.pruning.weights import PLACE

TYPES = ["basic_magnitude", "gradient_sensitivity"]
WAYS = [
    {"method": "per_tensor"},
    {"method": "per_channel"},
    {"prune_domain": "global"},
]
PATTERNS = ["tile_pattern_1x1", "tile_pattern_2x2", "tile_pattern_1x16", "4x1", "2x8"]


def on(model, *given, **shared):
    modules = shared.pop("modules", ())
    return ModelPruner(model, pruners(*given, **shared), modules)


@pytest.mark.parametrize(
    ("kind", "way", "pattern", "target", "schedule"),
    paired(TYPES, WAYS, PATTERNS, [0.0, 0.33, 1.0], ["linear", "cubic"]),
    ids=lambda one: next(iter(one.values())) if isinstance(one, dict) else str(one),
)
def test_the_target_is_reached_to_within_one_group(kind, way, pattern, target, schedule):
    model = net()
    names = ["conv.weight", "up.weight"]
    asked = {"prune_type": kind, "pattern": pattern, "schedule": schedule, "names": names, **way}
    pruner = on(model, asked, target_sparsity=target, end_epoch=2)
    trained(model, pruner, 4)
    assert pruner.reached
    group = pattern_of(pattern).reduce(torch.ones(8, 16, 4, 16), False).max().item()
    weights = [(one.sparsity * one.elements, one.elements) for one in pruner.layers()]
    if way.get("prune_domain") == "global":
        weights = [tuple(map(sum, zip(*weights, strict=True)))]
    for gone, elements in weights:
        assert abs(gone - target * elements) <= group + 1e-3


@pytest.mark.parametrize("kind", TYPES)
def test_each_channel_has_the_same_sparsity(kind):
    model = net()
    asked = {"prune_type": kind, "method": "per_channel", "names": ["conv.weight"]}
    trained(model, on(model, asked, target_sparsity=0.75, end_epoch=1), 2)
    assert set((model.conv.weight == 0).flatten(1).sum(1).tolist()) == {384}


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("pattern", ["2:4", "1:4", "4:8"])
def test_n_of_m_holds_in_every_run_and_on_the_way(kind, pattern):
    model = net()
    kept, of = map(int, pattern.split(":"))
    pruner = on(model, {"prune_type": kind, "pattern": pattern}, end_epoch=3, target_sparsity=0.1)
    seen = []
    for epoch in range(5):
        trained(model, pruner, epoch + 1, epoch)
        seen.append(sparsity_of(model.conv.weight))
    goal = 1 - kept / of
    assert seen == pytest.approx([0, goal / 3, goal * 2 / 3, goal, goal], abs=1 / 16384)
    runs = model.conv.weight.permute(0, 2, 3, 1).reshape(-1, of)
    assert ((runs != 0).sum(1) == kept).all()
    runs = model.up.weight.permute(1, 2, 3, 0).reshape(-1, of)
    assert ((runs != 0).sum(1) == kept).all()


def test_the_smallest_go():
    model = net()
    before = model.fc.weight.detach().abs()
    on(model, {"names": ["fc.weight"]}, target_sparsity=0.5, end_epoch=0).begin_epoch(0)
    gone = model.fc.weight == 0
    assert before[gone].max() < before[~gone].min()


def test_the_smallest_of_all_tensors_go():
    model = net()
    with torch.no_grad():
        model.fc.weight *= 1e6
    asked = {"names": ["fc.weight", "out.weight"], "prune_domain": "global"}
    on(model, asked, target_sparsity=0.2, end_epoch=0).begin_epoch(0)
    assert zeros(model) == {"out.weight": 32}


def test_the_least_sensitive_go():
    model = net()
    pruner = on(
        model, {"prune_type": "gradient_sensitivity", "names": ["fc.weight"]},
        start_epoch=1, end_epoch=1, target_sparsity=0.5,
    )  # fmt: skip
    pruner.begin_epoch(0)
    sums = torch.zeros_like(model.fc.weight)
    sgd = torch.optim.SGD(model.parameters(), 0.0)
    for number in range(3):
        step(model, pruner, number, sgd)
        sums += (model.fc.weight * model.fc.weight.grad).abs()
    pruner.begin_epoch(1)
    gone = model.fc.weight == 0
    assert sums[gone].max() <= sums[~gone].min()


def test_sensitivity_is_counted_from_one_step_to_the_next():  # LPOT never forgot
    model = net()
    pruner = on(model, {"prune_type": "gradient_sensitivity"}, end_epoch=2)
    trained(model, pruner, 1)
    assert "conv.weight" in pruner.state()["pruners"][0]
    pruner.begin_epoch(1)
    assert pruner.state()["pruners"][0] == {}


def test_an_overflow_of_mixed_precision_does_not_count():
    model = net()
    pruner = on(model, {"prune_type": "gradient_sensitivity", "names": ["fc.weight"]}, end_epoch=1)
    pruner.begin_epoch(0)
    model.fc.weight.grad = torch.full_like(model.fc.weight, torch.inf)
    pruner.observe()
    assert pruner.state()["pruners"][0]["fc.weight"].sum() == 0


def test_a_pruned_weight_stays_zero_and_its_neighbours_are_trained():  # D3
    model = net()
    pruner = on(model, {"names": ["fc.weight"]}, end_epoch=2, target_sparsity=0.6)
    adam = torch.optim.Adam(model.parameters(), 0.01)
    parameters = list(model.parameters())
    trained(model, pruner, 2)
    gone, before = model.fc.weight == 0, model.fc.weight.detach().clone()
    assert 0 < gone.sum() < gone.numel()
    for number in range(4):
        step(model, pruner, number, adam)
    assert (model.fc.weight[gone] == 0).all()
    assert (model.fc.weight[~gone] != before[~gone]).float().mean() > 0.5
    assert all(a is b for a, b in zip(parameters, model.parameters(), strict=True))


@pytest.mark.parametrize("kind", TYPES)
def test_what_is_pruned_never_comes_back(kind):
    model = net()
    pruner = on(model, {"prune_type": kind}, end_epoch=4, target_sparsity=0.9)
    masks = []
    for epoch in range(6):
        trained(model, pruner, epoch + 1, epoch)
        masks.append(model.conv.weight == 0)
    assert all(bool((one <= other).all()) for one, other in itertools.pairwise(masks))
    assert masks[0].sum() == 0 < masks[1].sum() < masks[4].sum() == masks[5].sum()


def test_explicit_zeros_are_obeyed():  # LPOT took the shared value (D16)
    model = net()
    own = {"start_epoch": 0, "initial_sparsity": 0, "names": ["fc.weight"], "end_epoch": 0}
    pruner = on(model, {**own, "target_sparsity": 0}, start_epoch=1, initial_sparsity=0.5)
    trained(model, pruner, 3)
    assert zeros(model) == {}


def test_a_lock_keeps_the_zeros_that_are_there():
    model = net()
    with torch.no_grad():
        model.fc.weight[:, ::2] = 0
    pruner = on(model, {"prune_type": "pattern_lock", "names": ["fc.weight"]})
    trained(model, pruner, 2)
    assert (model.fc.weight[:, ::2] == 0).all()
    assert (model.fc.weight[:, 1::2] != 0).all()
    (layer,) = pruner.layers()
    assert (layer.sparsity, layer.target, pruner.reached) == (0.5, 0.5, True)


def test_a_lock_without_zeros_is_refused():
    with pytest.raises(ConfError) as caught:
        on(net(), {"prune_type": "pattern_lock", "names": ["fc.weight"]}).begin_epoch(0)
    assert str(caught.value) == (
        f"`{PLACE}[0]` is a `pattern_lock`, and none of its weights is zero when the training"
        " begins: give it a model that was pruned"
    )


def test_two_pruners_have_two_schedules():
    model = net()
    pruner = on(
        model,
        {"names": ["fc.weight"], "target_sparsity": 0.5, "start_epoch": 1, "end_epoch": 1},
        {"names": ["out.weight"]},
        target_sparsity=0.75,
        end_epoch=2,
    )
    pruner.begin_epoch(0)
    assert zeros(model) == {}
    pruner.begin_epoch(1)
    assert zeros(model) == {"fc.weight": 64, "out.weight": 12}
    assert not pruner.reached
    pruner.begin_epoch(2)
    assert zeros(model) == {"fc.weight": 64, "out.weight": 24}
    assert pruner.reached


def test_an_epoch_that_begins_twice_prunes_once():
    model = net()
    pruner = on(model, {}, end_epoch=2, target_sparsity=0.5)
    assert pruner.begin_epoch(1)
    trained(model, pruner, 1)
    before = copy.deepcopy(model.state_dict())
    assert not pruner.begin_epoch(1)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


@pytest.mark.parametrize(
    ("asked", "frequency"),
    [
        ({"end_epoch": 30}, 1),
        ({"end_step": 0}, 1),
        ({"end_step": 100}, 1),
        ({"start_step": 50, "end_step": 151}, 2),
        ({"end_step": 100_000}, 1000),
        ({"end_step": 100_000, "update_frequency": 3}, 3),
    ],
    ids=str,
)
def test_a_schedule_in_steps_has_a_hundred_stairs_at_most(asked, frequency):
    (pruner,) = pruners(asked)
    assert schedule_of(pruner).update_frequency == frequency


def test_epochs_and_steps_are_counted_apart():
    model = net()
    pruner = on(
        model,
        {"names": ["fc.weight"], "end_step": 2},
        {"names": ["out.weight"], "end_epoch": 1},
        target_sparsity=0.5,
    )
    assert not pruner.begin_epoch(0)
    assert not pruner.begin_step(0)
    assert pruner.begin_step(1)
    assert zeros(model) == {"fc.weight": 32}
    assert not pruner.begin_step(1)
    assert [one.unit for one in pruner.unreached] == ["step", "epoch"]
    assert pruner.begin_epoch(1)
    assert zeros(model) == {"fc.weight": 32, "out.weight": 16}
    assert pruner.begin_step(7)
    assert pruner.reached
    assert not pruner.unreached


def test_epochs_alone_are_not_asked_at_each_step():
    model = net()
    pruner = on(model, {}, end_epoch=0)
    assert not pruner.begin_step(9)
    assert zeros(model) == {}


def test_a_pattern_that_does_not_divide_is_refused():
    with pytest.raises(ConfError) as caught:
        on(net(), {"pattern": "tile_pattern_2x2"}, {"names": ["o*"], "pattern": "8x1"})
    assert str(caught.value) == (
        f"`{PLACE}[1].pattern` is `8x1`, which does not divide `out.weight` (it has 4 outputs x 8"
        " inputs): take another pattern, or leave them out by `excluded_names`"
    )


def test_sensitivity_needs_an_epoch_before_it():
    with pytest.raises(ConfError) as caught:
        on(net(), {"prune_type": "gradient_sensitivity"}, end_epoch=0).begin_epoch(0)
    assert str(caught.value) == (
        f"`{PLACE}[0]` is to be at sparsity 0.97 in epoch 0, the first of this training, and"
        " `gradient_sensitivity` needs the gradients of an epoch before: let `start_epoch` be"
        " later, or `initial_sparsity` 0"
    )


def test_sensitivity_needs_a_step_before_it():
    with pytest.raises(ConfError) as caught:
        on(net(), {"prune_type": "gradient_sensitivity"}, end_step=0).begin_step(0)
    assert str(caught.value) == (
        f"`{PLACE}[0]` is to be at sparsity 0.97 in step 0, the first of this training, and"
        " `gradient_sensitivity` needs the gradients of a step before: let `start_step` be later,"
        " or `initial_sparsity` 0"
    )


SENSITIVE = {"prune_type": "gradient_sensitivity", "names": ["fc.weight", "out.weight"]}


def turns(model, pruner, steps, first=0):
    """Train two layers in turns, three steps each; yield how sparse they are in each."""
    for number in range(first, steps):
        layer = (model.fc, model.out)[number // 3 % 2]
        pruner.begin_step(number)
        model.zero_grad()
        model.out(model.fc(torch.ones(4, 16))).square().sum().backward()
        pruner.observe({id(value) for value in layer.parameters()})
        pruner.apply()
        yield zeros(model).get("fc.weight", 0)


def test_a_stair_waits_for_the_gradients_of_all():
    """Where optimizers take turns, or a step gives no loss."""
    model = net()
    pruner = on(model, SENSITIVE, end_step=8, target_sparsity=0.5)
    found = list(turns(model, pruner, 20))
    assert found[:4] == [0] * 4
    assert found[4] == 32  # both were seen, and four of eight stairs are due
    assert found[5:7] == [32] * 2  # `fc` was not seen since
    assert found[7:] == [56] * 3 + [64] * 10
    assert pruner.reached


def test_a_stair_that_waits_goes_on_bit_equal():
    whole = net()
    list(turns(whole, on(whole, SENSITIVE, end_step=8, target_sparsity=0.5), 12))
    for killed in (2, 6, 9):
        first, second = net(), net(1)
        pruner = on(first, SENSITIVE, end_step=8, target_sparsity=0.5)
        list(turns(first, pruner, killed))
        second.load_state_dict(first.state_dict())
        again = on(second, SENSITIVE, end_step=8, target_sparsity=0.5)
        again.load(pruner.state())
        list(turns(second, again, 12, killed))
        assert all(
            torch.equal(a, b) for a, b in zip(whole.parameters(), second.parameters(), strict=True)
        )


def test_a_frozen_weight_is_not_waited_for_for_ever():
    model = net()
    model.out.requires_grad_(False)
    pruner = on(model, SENSITIVE, end_step=8)
    with pytest.raises(PruningError, match="`out.weight` is to be pruned by `gradient_sensitiv"):
        list(turns(model, pruner, 200))


@pytest.mark.parametrize(
    "damaged", [{"fresh": [3]}, {"fresh": None}, {"fresh": []}, {"due": ["x"]}], ids=str
)
def test_a_state_of_what_waits_that_is_damaged(damaged):
    pruner = on(net(), SENSITIVE, end_step=8)
    with pytest.raises(ArtifactError, match="in the checkpoint is damaged"):
        pruner.load({**pruner.state(), **damaged})


def test_a_frozen_weight_has_no_sensitivity():
    model = net()
    model.fc.requires_grad_(False)
    asked = {"prune_type": "gradient_sensitivity", "names": ["fc.weight"]}
    pruner = on(model, asked, end_epoch=1)
    trained(model, pruner, 1)
    with pytest.raises(PruningError) as caught:
        pruner.begin_epoch(1)
    assert str(caught.value).startswith("`fc.weight` is to be pruned by `gradient_sensitivity`")


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("killed", [1, 2, 3])
def test_a_training_that_is_gone_on_with_is_bit_equal(kind, killed):
    asked = {"prune_type": kind, "pattern": "4x1"}
    whole = net()
    trained(whole, on(whole, asked, end_epoch=3, target_sparsity=0.5), 5)
    first = net()
    pruner = on(first, asked, end_epoch=3, target_sparsity=0.5)
    trained(first, pruner, killed)
    second = net(1)
    second.load_state_dict(first.state_dict())
    again = on(second, asked, end_epoch=3, target_sparsity=0.5)
    again.load(pruner.state())
    trained(second, again, 5, killed)
    for name, value in whole.state_dict().items():
        assert torch.equal(second.state_dict()[name], value), name


def test_the_state_of_other_pruners_is_refused():
    pruner = on(net(), {})
    with pytest.raises(ArtifactError) as caught:
        on(net(), {}, {"names": ["fc.weight"]}).load(pruner.state())
    assert str(caught.value).startswith("the checkpoint was pruned by other pruners than the YAML")


def test_processes_agree_on_the_masks():
    model = net()
    pruner = ModelPruner(
        model,
        pruners({"names": ["fc.weight"]}, target_sparsity=0.5, end_epoch=0),
        agree=lambda masks: [mask.fill_(0) for mask in masks],
    )
    pruner.begin_epoch(0)
    assert zeros(model) == {"fc.weight": 128}


def test_all_kinds_of_weights_in_one_model_of_another_type():
    model = nn.Sequential(nn.Conv1d(4, 8, 3), nn.Conv3d(4, 8, 3)).double()
    pruner = on(model, {"pattern": "2:4"}, end_epoch=0)
    pruner.begin_epoch(0)
    assert [one.sparsity for one in pruner.layers()] == [0.5, 0.5]


def test_a_lock_tells_of_the_model_that_it_is_asked_about():
    model = net()
    with torch.no_grad():
        model.out.weight[0] = 0
    pruner = on(model, {"prune_type": "pattern_lock", "names": "out.weight"})
    pruner.begin_epoch(0)
    other = copy.deepcopy(model)
    with torch.no_grad():
        other.out.weight.zero_()
    assert [one.sparsity for one in (*pruner.layers(), *pruner.layers(other))] == [0.25, 1.0]


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("way", WAYS, ids=lambda way: next(iter(way.values())))
def test_a_head_that_is_exchanged_is_pruned_in_its_place(kind, way):
    model = net()
    pruner = on(model, {"prune_type": kind, **way}, target_sparsity=0.5, start_epoch=1, end_epoch=2)
    trained(model, pruner, 3)
    gone = pruner.masks.pruned("out.weight")
    model.out = nn.Linear(8, 4, bias=False)
    assert pruner.apply() == ["out.weight"]
    assert torch.equal(model.out.weight == 0, gone)
    assert pruner.reached_in(model)


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("before", [1, 3])
def test_a_head_of_another_shape_is_pruned_anew(kind, before):
    model = net()
    pruner = on(model, {"prune_type": kind}, target_sparsity=0.5, start_epoch=1, end_epoch=2)
    trained(model, pruner, before)
    model.out = nn.Linear(8, 6, bias=False)
    trained(model, pruner, 3 if before == 1 else 4, before)
    assert zeros(model)["out.weight"] == 24
    assert pruner.reached_in(model)


def test_weights_that_are_assigned_are_masked():
    model = net()
    pruner = on(model, target_sparsity=0.5, end_epoch=0)
    pruner.begin_epoch(0)
    dense = {name: torch.ones_like(one) for name, one in model.state_dict().items()}
    model.load_state_dict(dense, assign=True)
    pruner.apply()
    assert pruner.reached_in(model)
    assert zeros(model)["fc.weight"] == 64


@pytest.mark.parametrize(
    ("asked", "what"),
    [
        ({"pattern": "2:4"}, r"pruners\[0\].pattern` is `2:4`, which does not divide `fc.weight`"),
        ({"prune_type": "pattern_lock"}, "`fc.weight` was exchanged for a parameter of shape"),
    ],
)
def test_a_shape_that_cannot_be_pruned_so_is_named(asked, what):
    model = net()
    with torch.no_grad():
        model.fc.weight[0] = 0
    pruner = on(model, {"names": ["fc.weight"], **asked}, end_epoch=0)
    pruner.begin_epoch(0)
    model.fc = nn.Linear(15, 8)
    with pytest.raises((ConfError, PruningError), match=what):
        pruner.apply()


@pytest.mark.parametrize(
    ("pattern", "way"), [*itertools.product(PATTERNS, WAYS), ("2:4", {}), ("4:8", {})]
)
def test_reached_is_what_is_counted(pattern, way):
    model = net()
    names = ["conv.weight", "up.weight"]
    pruner = on(model, {"names": names, "pattern": pattern, **way}, end_epoch=0)
    assert not pruner.reached_in(model)
    pruner.finish()
    assert pruner.reached_in(model)
    other = copy.deepcopy(model)
    with torch.no_grad():
        other.conv.weight[other.conv.weight == 0] = 1
    assert not pruner.reached_in(other)


def test_zeros_at_other_places_are_not_two_of_four():
    model = nn.Sequential(nn.Linear(8, 1, bias=False))
    pruner = on(model, {"pattern": "2:4"}, end_epoch=0)
    pruner.finish()
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[0.0, 0, 0, 0, 1, 1, 1, 1]]))
    assert pruner.layers()[0].sparsity == 0.5
    assert not pruner.reached_in(model)


def test_a_lock_is_reached_where_its_zeros_are():
    model = net()
    with torch.no_grad():
        model.out.weight[0] = 0
    pruner = on(model, {"prune_type": "pattern_lock", "names": "out.weight"})
    pruner.begin_epoch(0)
    assert pruner.reached_in(model)
    with torch.no_grad():
        model.out.weight[0] = 1
    assert not pruner.reached_in(model)


@pytest.mark.parametrize(
    ("other", "field"),
    [
        ({"pattern": "2:4"}, "pattern"),
        ({"prune_type": "gradient_sensitivity"}, "prune_type"),
        ({"names": ["conv.weight", "up.weight"]}, "names"),
    ],
)
def test_masks_that_were_made_for_something_else_are_refused(other, field):
    names = {"names": ["conv.weight"]}
    pruner = on(net(), names, end_epoch=0)
    pruner.finish()
    with pytest.raises(ArtifactError, match=rf"was pruned with `.*pruners\[0\].{field}`, the YAML"):
        on(net(), {**names, **other}, end_epoch=0).load(pruner.state())


def test_another_target_goes_on_with_the_masks():
    pruner = on(net(), end_epoch=0, target_sparsity=0.5)
    pruner.finish()
    again = on(net(), end_epoch=5, target_sparsity=0.9)
    again.load(pruner.state())
    assert again.masks.pruned("fc.weight").sum() == 64


def test_rows_that_are_not_even_are_not_per_channel():
    model = nn.Sequential(nn.Linear(8, 2, bias=False))
    pruner = on(model, {"method": "per_channel"}, target_sparsity=0.5, end_epoch=0)
    pruner.finish()
    assert pruner.reached_in(model)
    other = copy.deepcopy(model)
    with torch.no_grad():
        other[0].weight.copy_(torch.tensor([[0.0] * 8, [1.0] * 8]))
    assert not pruner.reached_in(other)


def test_the_order_of_names_does_not_matter():
    names = ["conv.weight", "up.weight"]
    pruner = on(net(), {"names": names}, end_epoch=0)
    pruner.finish()
    on(net(), {"names": names[::-1]}, end_epoch=0).load(pruner.state())
