"""Channels that go from all layers that share them."""

from __future__ import annotations

import copy

import pytest
import torch
from pruning_scenes import pruners
from torch import nn

from lpot_lightning.errors import ArtifactError, ConfError, PruningError
from lpot_lightning.pruning.channels.cut import cut
from lpot_lightning.pruning.channels.finding import find_groups
from lpot_lightning.pruning.model_pruner import ModelPruner
from lpot_lightning.pruning.weights import PLACE

KINDS = ["basic_magnitude", "gradient_sensitivity"]


class Residual(nn.Module):
    """A stem, a block that is added to it, and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.one, self.two = nn.Conv2d(8, 12, 3, padding=1), nn.Conv2d(12, 8, 3, padding=1)
        self.head = nn.Linear(8, 4)

    def forward(self, x):
        x = self.norm(self.stem(x)).relu()
        x = x + self.two(self.one(x).relu())
        return self.head(x.mean((2, 3)))


def made():
    model = Residual()
    return model, find_groups(model, {"": ((torch.randn(2, 3, 6, 6),), {})})


def on(model, found, *asked, **shared):
    asked = tuple({"pattern": "channel", **one} for one in asked or ({},))
    return ModelPruner(model, pruners(*asked, **{"end_epoch": 2, **shared}), channels=found)


def trained(model, pruner, epochs=3, first=0):
    sgd = torch.optim.SGD(model.parameters(), 0.05, momentum=0.9)
    for epoch in range(first, epochs):
        pruner.begin_epoch(epoch)
        draw = torch.Generator().manual_seed(epoch)
        sgd.zero_grad()
        model(torch.randn(4, 3, 6, 6, generator=draw)).square().sum().backward()
        pruner.observe()
        sgd.step()
        pruner.apply()


def gone(weight):
    return int((weight.flatten(1) == 0).all(1).sum())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("target", "counts"), [(0.0, (0, 0)), (0.5, (4, 6)), (0.3, (2, 4)), (1.0, (7, 11))]
)
def test_each_group_loses_its_share_and_keeps_one(kind, target, counts):
    model, found = made()
    pruner = on(model, found, {"prune_type": kind}, target_sparsity=target)
    trained(model, pruner)
    assert (gone(model.stem.weight), gone(model.one.weight)) == counts
    assert pruner.reached


def test_layers_that_are_added_lose_the_same_channels():
    model, found = made()
    trained(model, on(model, found, target_sparsity=0.5))
    zero = (model.stem.weight == 0).flatten(1).all(1)
    for value in (model.two.weight.flatten(1).sum(1), model.stem.bias, model.two.bias):
        assert torch.equal(value == 0, zero)
    assert torch.equal(model.norm.weight == 0, zero)
    assert torch.equal(model.norm.bias == 0, zero)


@pytest.mark.parametrize("kind", KINDS)
def test_the_smaller_model_computes_the_same(kind):
    model, found = made()
    pruner = on(model, found, {"prune_type": kind}, target_sparsity=0.5)
    trained(model, pruner)
    small = cut(copy.deepcopy(model), pruner.plan(model)).eval()
    assert small.stem.weight.shape == (4, 3, 3, 3)
    assert small.one.weight.shape == (6, 4, 3, 3)
    x = torch.randn(3, 3, 6, 6)
    assert torch.allclose(small(x), model.eval()(x), atol=1e-6)


def test_the_largest_channels_stay():
    model, found = made()
    with torch.no_grad():
        for value in (model.one.weight, model.one.bias):
            value[::2] *= 100
    pruner = on(model, found, {"names": ["one.weight"]}, target_sparsity=0.5, end_epoch=0)
    pruner.begin_epoch(0)
    assert (model.one.weight[1::2] == 0).all()
    assert gone(model.stem.weight) == 0


def test_ranked_together_a_group_may_lose_more_than_another():
    model, found = made()
    with torch.no_grad():  # of `one` a few channels are all that matters
        for value in (model.one.weight, model.one.bias):
            value[2:] *= 1e-3
    asked = {"prune_domain": "global"}
    trained(model, on(model, found, asked, target_sparsity=0.5, end_epoch=0), epochs=1)
    assert gone(model.one.weight) + gone(model.stem.weight) == 10
    assert gone(model.one.weight) > 6


def test_even_all_of_all_together_leaves_one_channel_each():
    model, found = made()
    trained(model, on(model, found, {"prune_domain": "global"}, target_sparsity=1.0))
    assert (gone(model.stem.weight), gone(model.one.weight)) == (7, 11)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("killed", [1, 2])
def test_a_training_that_is_gone_on_with_has_the_same_channels(kind, killed):
    whole, found = made()
    start = copy.deepcopy(whole)
    trained(whole, on(whole, found, {"prune_type": kind}, target_sparsity=0.5), epochs=1)
    trained(whole, on(whole, found, {"prune_type": kind}, target_sparsity=0.5), epochs=1)
    first = on(start, found, {"prune_type": kind}, target_sparsity=0.5)
    trained(start, first, epochs=killed)
    again = copy.deepcopy(start)
    second = on(again, found, {"prune_type": kind}, target_sparsity=0.5)
    second.load(first.state())
    trained(start, first, 4, killed)
    trained(again, second, 4, killed)
    plans = first.plan(start), second.plan(again)
    assert plans[0] == plans[1]
    assert gone(again.one.weight) == 6


def test_a_named_layer_that_cannot_be_cut_is_told():
    model, found = made()
    with pytest.raises(ConfError) as caught:
        on(model, found, {"names": ["head.weight"]})
    assert str(caught.value) == (
        f"`{PLACE}[0].names` has `head.weight`, of which no channel can be cut: its channels are"
        " what the model gives"
    )


def test_a_model_without_channels_to_cut_is_told():
    model = nn.Linear(4, 4)
    found = find_groups(model, {"": ((torch.randn(2, 4),), {})})
    with pytest.raises(ConfError) as caught:
        on(model, found)
    assert str(caught.value).startswith(f"`{PLACE}[0]` finds no channel that can be cut: `")


def test_two_pruners_of_one_group_are_told():
    model, found = made()
    with pytest.raises(ConfError) as caught:
        on(model, found, {"names": ["stem.weight"]}, {"names": ["two.weight"]})
    assert str(caught.value) == (
        f"`{PLACE}[0]` and `[1]` prune the channels of `stem`, which only go together: name them"
        " in one"
    )


def test_the_state_of_other_groups_is_refused():
    model, found = made()
    state = on(model, found, {"names": ["one.weight"]}).state()
    del state["asked"]  # the same YAML, and a model whose channels are followed differently
    with pytest.raises(ArtifactError, match="was pruned in other groups of channels than"):
        on(model, found).load(state)


@pytest.mark.parametrize("domain", ["local", "global"])
def test_reached_is_what_is_counted(domain):
    model, found = made()
    pruner = on(model, found, {"prune_domain": domain}, target_sparsity=0.5, end_epoch=0)
    pruner.finish()
    assert pruner.reached_in(model)
    with torch.no_grad():
        model.one.weight.fill_(1)
    assert not pruner.reached_in(model)


def test_a_layer_of_another_shape_is_refused():
    model, found = made()
    pruner = on(model, found, end_epoch=0)
    pruner.finish()
    model.one = nn.Conv2d(1, 1, 1)
    with pytest.raises(
        PruningError, match="`one.weight` was exchanged .* and channels were chosen"
    ):
        pruner.apply()


def test_channels_that_a_frozen_layer_gives_stay():
    model, found = made()
    model.stem.requires_grad_(False)  # it shares its channels with `two`
    told = []
    asked = pruners({"pattern": "channel"}, end_epoch=0, target_sparsity=0.5)
    pruner = ModelPruner(model, asked, channels=found, say=told.append)
    pruner.begin_epoch(0)
    assert [gone(one.weight) for one in (model.stem, model.one, model.two)] == [0, 6, 0]
    assert told[1] == (
        "not pruned, because layers that nothing trains give them, too: the channels of `stem`"
    )


def test_channels_of_a_frozen_layer_go_where_it_is_named():
    model, found = made()
    model.stem.requires_grad_(False)
    pruner = on(model, found, {"names": ["stem.weight"]}, end_epoch=0, target_sparsity=0.5)
    pruner.begin_epoch(0)
    assert gone(model.stem.weight) == 4


def test_a_frozen_norm_keeps_nobody_from_being_pruned():
    model, found = made()
    model.norm.requires_grad_(False)
    on(model, found, end_epoch=0, target_sparsity=0.5).begin_epoch(0)
    assert gone(model.stem.weight) == 4
