"""The plan of a smaller model: right, plain, and suspicious of files."""

import copy

import pytest
import torch
import yaml
from channel_scenes import found_in, half, halved
from channel_zoo import CASES
from torch import nn

from lpot_lightning.errors import ArtifactError, PruningError
from lpot_lightning.pruning.channels.plan import ChannelPlan, TensorPlan, channel_plan_of

EVERY_SECOND = tuple(range(0, 8, 2))


def plan_in(name):
    return halved(CASES[name].make(), found_in(name))[2]


def small_plan():
    """The dict of a plan, to be damaged."""
    return {
        "kept": [[0, 2], [1, 2, 3]],
        "tensors": {
            "fc.weight": {"shape": [4, 5], "kept": [0, None]},
            "fc.bias": {"shape": [4], "kept": [0]},
            "head.weight": {"shape": [3, 4], "kept": [None, 1]},
        },
        "sizes": {"fc": {"out_features": 2}},
    }


def test_it_tells_what_stays_of_each_tensor():
    plan = plan_in("plain")
    assert plan.tensors["0.weight"] == TensorPlan((8, 3, 3, 3), (EVERY_SECOND, None, None, None))
    assert plan.tensors["3.weight"].kept == ((0, 2, 4), EVERY_SECOND, None, None)
    assert plan.tensors["1.running_var"] == TensorPlan((8,), (EVERY_SECOND,))
    assert plan.tensors["6.weight"].kept[1][:10] == (*range(9), 18)
    assert "9.bias" not in plan.tensors


def test_it_tells_the_sizes_of_layers():
    assert plan_in("plain").sizes == {
        "0": {"out_channels": 4},
        "1": {"num_features": 4},
        "3": {"in_channels": 4, "out_channels": 3},
        "6": {"in_features": 27, "out_features": 5},
        "7": {"num_features": 5},
        "9": {"in_features": 5},
    }
    depthwise = plan_in("mobile").sizes["2.0"]
    assert depthwise == {"in_channels": 4, "out_channels": 4, "groups": 4}


def test_a_group_that_is_not_named_stays():
    plan = channel_plan_of(CASES["plain"].make(), found_in("plain").groups, {})
    assert plan == ChannelPlan()
    kept = {"6": half(found_in("plain")["6"])}
    assert channel_plan_of(CASES["plain"].make(), found_in("plain").groups, kept).sizes.keys() == {
        *("6", "7", "9")
    }


def test_all_names_of_a_tensor_are_told():
    plan = plan_in("two_names")
    assert plan.tensors["net.0.weight"] == plan.tensors["again.0.0.weight"]


@pytest.mark.parametrize(
    ("kept", "told"),
    [
        ({"stam": torch.ones(3)}, "no group `stam`"),
        ({"7": torch.ones(6, dtype=torch.bool)}, "no group `7`"),
        ({"3": torch.ones(5, dtype=torch.bool)}, r"`3` has 6 channels.*bool of shape \[5\]"),
        ({"3": torch.ones(6)}, r"so many bools, not by torch.float32"),
        ({"3": torch.zeros(6, dtype=torch.bool)}, "at least one channel of `3` has to stay"),
    ],
)
def test_a_wrong_mask_is_told(kept, told):
    with pytest.raises(PruningError, match=told):
        channel_plan_of(CASES["plain"].make(), found_in("plain").groups, kept)


def test_tied_weights_are_not_cut_in_two_ways():
    model, groups = CASES["plain"].make(), found_in("plain").groups
    model.again = nn.Conv2d(3, 8, 3)
    model.again.weight = model[0].weight
    with pytest.raises(PruningError, match="`again.weight` and `0.weight` are one tensor"):
        channel_plan_of(model, groups, {"0": half(groups[0])})


@pytest.mark.parametrize("name", CASES)
def test_it_comes_back_from_yaml_as_it_was(name):
    plan = plan_in(name)
    text = yaml.safe_dump(plan.to_dict())
    assert ChannelPlan.from_dict(yaml.safe_load(text)) == plan
    assert "!!" not in text


def test_equal_lists_are_written_once():
    plain = plan_in("resnet").to_dict()
    assert len(plain["kept"]) == len({tuple(one) for one in plain["kept"]}) == 2
    assert "&" not in yaml.safe_dump(plain)


def test_a_plan_may_change_nothing():
    assert ChannelPlan.from_dict(ChannelPlan().to_dict()) == ChannelPlan()


@pytest.mark.parametrize(
    ("at", "value", "told"),
    [
        (("kept", 0), [2, 0], r"`kept\[0\]` has 0 after 2: indices have to increase"),
        (("kept", 0), [2, 2], r"`kept\[0\]` has 2 after 2"),
        (("kept", 0), [0, -1], r"`kept\[0\]` has `-1`, and no whole number from 0"),
        (("kept", 0), [False, True], r"`kept\[0\]` has `False`"),
        (("kept", 0), [0.0], r"`kept\[0\]` has `0.0`"),
        (("kept", 0), [], r"`kept\[0\]` is empty"),
        (("kept", 0), "01", r"`kept\[0\]` is no list"),
        (("kept", 0), [0, 4], "`tensors.fc.weight` keeps index 4 of a dimension of 4"),
        (("kept",), {}, "`kept` is no list"),
        (("tensors", "fc.bias", "kept"), [2], "`tensors.fc.bias` names list 2 of `kept`, which"),
        (("tensors", "fc.bias", "kept"), [-1], "`tensors.fc.bias` has `-1`"),
        (("tensors", "fc.bias", "kept"), [[0]], r"`tensors.fc.bias` has `\[0\]`"),
        (("tensors", "fc.bias", "kept"), [0, 0], "tells of 2 dimensions and has 1"),
        (("tensors", "fc.bias", "shape"), ["4"], "`tensors.fc.bias`, its shape has `'4'`"),
        (("tensors", "fc.bias"), {"kept": [0]}, "has the keys .* should have"),
        (("tensors",), [1], "`tensors` is no mapping"),
        (("tensors",), {3: {}}, "`tensors` is no mapping of names"),
        (("sizes", "fc"), {"training": 1}, "`sizes.fc` has `training`, which is no size"),
        (("sizes", "fc"), {"out_features": 0}, "it has to be 1 or more"),
        (("sizes", "fc"), {"out_features": "2"}, "`sizes.fc`, its `out_features` has `'2'`"),
        (("more",), 1, "the plan has the keys"),
    ],
)
def test_a_bad_plan_is_refused(at, value, told):
    plain = copy.deepcopy(small_plan())
    assert ChannelPlan.from_dict(plain).sizes == {"fc": {"out_features": 2}}
    *path, last = at
    where = plain
    for one in path:
        where = where[one]
    where[last] = value
    with pytest.raises(ArtifactError, match=told):
        ChannelPlan.from_dict(plain)


@pytest.mark.parametrize("plain", [None, [], "kept", {"kept": []}, {1: 2}])
def test_something_else_is_no_plan(plain):
    with pytest.raises(ArtifactError, match="the plan"):
        ChannelPlan.from_dict(plain)
