"""Attention heads that are cut."""

from __future__ import annotations

import copy

import pytest
import torch
from channel_scenes import distance, found_in, outputs, trained
from channel_zoo import CASES, Packed, stream_of
from torch import nn

from lpot_lightning.pruning.channels.cut import cut
from lpot_lightning.pruning.channels.finding import find_groups
from lpot_lightning.pruning.channels.group import mask
from lpot_lightning.pruning.channels.plan import ChannelPlan, channel_plan_of

CALLS = {"": ((torch.randn(2, 5, 6, generator=torch.Generator().manual_seed(0)),), {})}


def test_a_head_is_rows_of_query_key_and_value_and_columns_of_what_reads_it():
    group = found_in("bert")["attn.1.0.value"]
    at = {part.name: (part.dim, part.index[2].tolist()) for part in group.cut}
    rows = {
        f"attn.1.0.{one}.{kind}" for one in ("query", "key", "value") for kind in ("weight", "bias")
    }
    assert at == {name: (0, [8, 9, 10, 11]) for name in rows} | {
        "attn.1.1.weight": (1, [8, 9, 10, 11])
    }
    assert ("attn.1.0", "num_attention_heads", 1) in group.sizes
    assert ("attn.1.0", "all_head_size", 4) in group.sizes


@pytest.mark.parametrize(
    ("name", "rows"),
    [
        ("packed_heads", [4, 5, 6, 7, 20, 21, 22, 23, 36, 37, 38, 39]),
        ("heads_first", list(range(12, 24))),
    ],
)
def test_packed_heads_go_by_where_their_rows_are(name, rows):
    group = found_in(name)["attn.0.qkv"]
    assert group.zeroed[0].index[1].tolist() == rows
    assert ("attn.0.bias", 0, [1]) in [(p.name, p.dim, p.index[1].tolist()) for p in group.carried]


@pytest.mark.parametrize("name", ["packed_heads", "heads_first", "keys_and_values", "transformer"])
def test_any_heads_can_go_and_the_plan_is_plain(name):
    case, model, found = CASES[name], trained(CASES[name].make()), found_in(name)
    groups = [group for group in found if group.name.endswith(("qkv", "v"))]
    kept = {group.name: torch.arange(group.n) == group.n - 1 for group in groups}
    plan = ChannelPlan.from_dict(channel_plan_of(model, groups, kept).to_dict())
    small = cut(copy.deepcopy(model), plan)
    for group in groups:
        mask(dict(model.named_parameters()), group, kept[group.name])
    calls = case.calls(seed=3)
    assert distance(outputs(small, calls), outputs(model, calls)) < 1e-5


def test_heads_that_are_joined_to_a_fixed_width_stay_and_the_reason_is_told():
    found = find_groups(stream_of(Packed(joined="input")), CALLS)
    assert not found.groups
    assert found.excluded["attn.0.qkv"].startswith(
        "without some of its heads: the smaller model fails: RuntimeError: shape '[2, 5, 16]' is"
    )


def test_what_only_has_the_attribute_is_no_attention():
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 4), nn.ReLU(), nn.Linear(4, 2))
    model.num_heads = 2
    found = find_groups(model, CALLS)
    assert {group.name: group.n for group in found} == {"0": 8, "2": 4}


class TwoReaders(Packed):
    """Two layers read the heads, of which one alone is not enough."""

    def __init__(self):
        super().__init__()
        self.more = nn.Linear(16, 16)

    def forward(self, x):
        read = []
        hook = self.proj.register_forward_pre_hook(lambda _, given: read.append(given[0]))
        y = super().forward(x)
        hook.remove()
        return y + self.more(read[0])


def test_heads_that_several_layers_read_stay():
    assert not find_groups(stream_of(TwoReaders()), CALLS).groups


def test_heads_of_the_models_of_transformers_are_cut():
    package = pytest.importorskip("transformers")
    sizes = {"num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 8}
    bert = package.BertModel(package.BertConfig(vocab_size=20, hidden_size=16, **sizes))
    image = {"image_size": 8, "patch_size": 4, "hidden_size": 16}
    vit = package.ViTModel(package.ViTConfig(**image, **sizes))
    asked = {"input_ids": torch.randint(0, 20, (2, 5))}, {"pixel_values": torch.randn(2, 3, 8, 8)}
    for model, inputs in zip((bert, vit), asked, strict=True):
        found = find_groups(model, {"": ((), inputs)})
        assert [g.n for g in found if g.name.endswith(("value", "v_proj"))] == [4, 4]
