"""Which channels can be cut, and that nothing else is touched."""

import ast
import sys
from math import prod
from pathlib import Path

import channel_zoo
import pytest
import torch
from channel_scenes import distance, found_in, half, halved, masked, outputs, state_of, trained
from channel_zoo import CASES, Made
from torch import nn

from lpot_lightning.errors import ConfError, PruningError
from lpot_lightning.pruning.channels import finding
from lpot_lightning.pruning.channels.cut import cut
from lpot_lightning.pruning.channels.finding import find_groups
from lpot_lightning.pruning.channels.plan import channel_plan_of

X = torch.randn(4, 6, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", CASES)
def test_it_finds_the_groups(name):
    assert {group.name: group.n for group in found_in(name)} == CASES[name].groups


@pytest.mark.parametrize("name", CASES)
def test_the_cut_model_gives_what_the_masked_one_gives(name):
    case, model = CASES[name], trained(CASES[name].make())
    wide, small, plan = halved(model, found_in(name))
    other = case.calls(seed=7)
    assert distance(outputs(small, other), outputs(wide, other)) < 1e-5
    assert distance(outputs(model, other), outputs(wide, other)) > 1e-4
    assert len(plan.tensors) > len(case.groups)
    state = small.state_dict()
    assert all(state[path].numel() < prod(one.shape) for path, one in plan.tensors.items())


@pytest.mark.parametrize("name", ["resnet", "tied", "torch_transformer", "many_outputs"])
def test_the_model_is_left_as_it_was(name):
    model = CASES[name].make()
    next(model.parameters()).requires_grad_(False)
    before, numbers = state_of(model), torch.get_rng_state()
    find_groups(model, CASES[name].calls())
    after = state_of(model)
    assert before[1:] == after[1:]
    assert all(torch.equal(value, after[0][key]) for key, value in before[0].items())
    assert torch.equal(torch.get_rng_state(), numbers)
    assert torch.get_float32_matmul_precision() == "highest"


def test_the_groups_are_the_same_each_time():
    one, two = found_in("resnet"), find_groups(CASES["resnet"].make(), CASES["resnet"].calls())
    for a, b in zip(one, two, strict=True):
        assert (a.name, a.n, a.sizes) == (b.name, b.n, b.sizes)
        for x, y in zip(a.cut, b.cut, strict=True):
            assert (x.name, x.dim, x.index.tolist()) == (y.name, y.dim, y.index.tolist())


def test_what_is_added_up_goes_together():
    stream = found_in("resnet")["0.0"]
    assert stream.layers == ("0.0", "0.1", "2.two.0", "2.two.1")
    assert [part.name for part in stream.read] == [
        "2.one.0.weight",
        "3.one.0.weight",
        "3.down.0.weight",
    ]


def test_a_flattened_channel_is_read_by_many_columns():
    (read,) = found_in("plain")["3"].read
    assert (read.name, read.dim, read.index[1].tolist()) == ("6.weight", 1, list(range(9, 18)))


def test_many_groups_of_a_convolution_go_as_a_whole():
    group = found_in("many_groups")["2.a.0"]
    at = {part.name: (part.dim, part.index[1].tolist()) for part in group.cut}
    assert at["2.a.0.weight"] == at["2.b.0.weight"] == (0, [2, 3])
    assert at["2.c.0.weight"] == (1, [2, 3])
    sizes = {(path, size): each for path, size, each in group.sizes}
    assert sizes["2.b.0", "groups"] == 1
    assert sizes["2.b.0", "in_channels"] == sizes["2.b.0", "out_channels"] == 2


def test_of_few_groups_the_channels_at_one_place_go():
    group = found_in("few_groups")["2.a.0"]
    at = {part.name: (part.dim, part.index[1].tolist()) for part in group.cut}
    assert at["2.a.0.weight"] == (0, [1, 9])
    assert at["2.b.0.weight"] == (1, [1])
    sizes = {(path, size): each for path, size, each in group.sizes}
    assert sizes == {("2.a.0", "out_channels"): 2, ("2.a.1", "num_features"): 2} | {
        ("2.b.0", "in_channels"): 2
    }


def test_groups_of_one_output_each_keep_their_channels():
    convs = nn.Conv2d(3, 16, 1), nn.ReLU(), nn.Conv2d(16, 8, 3, groups=8), nn.ReLU()
    model = nn.Sequential(*convs, nn.Conv2d(8, 2, 1))
    found = find_groups(model, {"": ((torch.randn(2, 3, 6, 6),), {})})
    assert found.excluded["0"] == "`2` is a convolution of 8 groups with one output each"


def test_the_halves_of_a_gate_go_together():
    first = found_in("gated")["gate"].zeroed[0]
    assert first.index.tolist() == [[one, one + 8] for one in range(8)]


def test_running_statistics_are_cut_and_not_set_to_zero():
    group = found_in("plain")["0"]
    assert [part.name for part in group.carried] == ["1.running_mean", "1.running_var"]
    assert [part.name for part in group.zeroed] == ["0.weight", "1.weight", "1.bias"]


@pytest.mark.parametrize(
    ("name", "layer", "reason"),
    [
        ("plain", "9", "its channels are what the model gives"),
        ("auto_encoder", "enc.2", "its channels are what `enc` gives"),
        ("two_parts", "enc.2", "its channels are what `enc` gives"),
        ("transformer", "words", "`blocks.0.norm` takes statistics over several channels"),
        ("sigmoid", "0", "cutting it changes what the model computes"),
        ("grouped", "4.0", "`6` takes statistics over several channels"),
        ("recurrent", "stem", "`rnn` is a `LSTM`, which is not cut"),
        ("torch_transformer", "0.layers.0.self_attn.out_proj", "it is not called, or where no"),
    ],
)
def test_it_says_why_a_layer_is_not_cut(name, layer, reason):
    assert found_in(name).excluded[layer].startswith(reason)


@pytest.mark.parametrize(
    ("make", "size", "layer", "reason"),
    [
        (channel_zoo.hard_coded, (3, 8, 8), "conv", "the smaller model fails: RuntimeError: shape"),
        (channel_zoo.half_tied, (8,), "one", "`two.weight` and `one.weight` are one tensor"),
    ],
)
def test_what_would_break_is_not_cut(make, size, layer, reason):
    found = find_groups(make(), {"": ((torch.randn(2, *size),), {})})
    assert found.groups == ()
    assert found.excluded[layer].startswith(reason)


def test_zeros_in_a_new_model_hide_nothing():
    found = find_groups(channel_zoo.zero_start(), {"": ((X,), {})})
    assert [group.name for group in found] == ["good"]
    assert found.excluded["gate"] == "cutting it changes what the model computes"


def test_one_bad_group_takes_no_other_with_it():
    between = (nn.ReLU(), nn.ReLU(), nn.Sigmoid(), nn.ReLU())
    layers = [layer for one in between for layer in (nn.Linear(6, 6), one)]
    model = nn.Sequential(*layers, nn.Linear(6, 2))
    found = find_groups(model, {"": ((X,), {})})
    assert [group.name for group in found] == ["0", "2", "6"]
    assert sorted(found.excluded) == ["4", "8"]


def test_the_last_channel_of_a_layer_stays():
    model = nn.Sequential(nn.Linear(6, 1), nn.ReLU(), nn.Linear(1, 2), nn.ReLU(), nn.Linear(2, 1))
    found = find_groups(model, {"": ((X,), {})})
    assert [group.name for group in found] == ["2"]
    assert found.excluded["0"] == "it has one channel only"


def test_python_in_the_forward_is_followed_as_it_runs():
    def forward(m, x):
        for _ in range(int(x.shape[0])):
            x = m.fc(x).relu() if float(x.sum()) < 1e9 else x
        return m.head(x)

    model = Made(forward, fc=nn.Linear(6, 6), stem=nn.Linear(6, 6), head=nn.Linear(6, 2))
    found = find_groups(model, {"": ((X,), {})})
    assert found.groups == ()
    assert found.excluded["stem"] == "it is not called, or where no gradient flows"


def test_what_runs_without_a_gradient_is_left_alone():
    def forward(m, x):
        with torch.no_grad():
            x = m.frozen(x)
        return m.head(m.fc(x).relu())

    layers = {"frozen": nn.Linear(6, 8), "fc": nn.Linear(8, 7), "head": nn.Linear(7, 2)}
    found = find_groups(Made(forward, **layers), {"": ((X,), {})})
    assert [group.name for group in found] == ["fc"]
    assert "frozen" in found.excluded


def test_a_detached_output_is_an_output():
    def forward(m, x):
        y = m.fc(x).relu()
        return m.head(y), y.detach()

    model = Made(forward, fc=nn.Linear(6, 8), head=nn.Linear(8, 2))
    assert find_groups(model, {"": ((X,), {})}).excluded.keys() == {"fc", "head"}


def test_random_numbers_in_the_forward_are_the_same_for_both():
    def forward(m, x):
        return m.head(m.fc(x + torch.randn_like(x)).relu())

    model = Made(forward, fc=nn.Linear(6, 8), head=nn.Linear(8, 2))
    assert [group.name for group in find_groups(model, {"": ((X,), {})})] == ["fc"]


def test_a_model_that_writes_into_its_input_gets_its_own():
    model, x = nn.Sequential(nn.ReLU(inplace=True), nn.Linear(6, 8), nn.Linear(8, 2)), X.clone()
    assert [group.name for group in find_groups(model, {"": ((x,), {})})] == ["1"]
    assert torch.equal(x, X)


def test_a_weight_that_is_computed_from_others_is_left_alone():
    layer = nn.utils.parametrizations.weight_norm(nn.Linear(6, 8))
    found = find_groups(nn.Sequential(layer, nn.Linear(8, 2)), {"": ((X,), {})})
    assert found.excluded["0"] == "the `weight` of `0` is computed from others"


def test_a_layer_may_be_cut_in_a_part_of_its_channels():
    def forward(m, x):
        a = m.a(x)
        return m.head(m.both(x) + torch.cat([a, m.b(x)], 1)), a

    layers = {"both": nn.Linear(6, 10), "a": nn.Linear(6, 4), "b": nn.Linear(6, 6)}
    found = find_groups(Made(forward, **layers, head=nn.Linear(10, 2)), {"": ((X,), {})})
    (group,) = found.groups
    assert group.zeroed[0].index.flatten().tolist() == list(range(4, 10))
    assert found.excluded.keys() == {"a", "head"}


def test_every_layer_is_told_where_torch_pruning_gives_up(monkeypatch):
    def fail(*_):
        raise KeyError("a node")

    monkeypatch.setattr(finding, "graph_of", fail)
    found = find_groups(channel_zoo.plain(), CASES["plain"].calls())
    assert found.groups == ()
    assert set(found.excluded) == {"0", "3", "6", "9"}
    assert "Torch-Pruning cannot follow the model: KeyError: 'a node'" in found.excluded["0"]


def test_a_batch_that_does_not_fit_is_told():
    model = nn.Sequential(nn.Linear(3, 3))
    with pytest.raises(PruningError, match="`0` fails on its example batch: RuntimeError"):
        find_groups(model, {"0": ((X,), {})})


def test_a_module_that_gives_no_tensor_is_told():
    with pytest.raises(PruningError, match="`Made` gives no tensors, .* prune the parts of it"):
        find_groups(Made(lambda m, x: float(x.sum())), {"": ((X,), {})})


def test_numbers_that_are_not_finite_are_told():
    model = Made(lambda m, x: m.fc(x) / 0, fc=nn.Linear(6, 2))
    with pytest.raises(PruningError, match="not finite on the example batch"):
        find_groups(model, {"": ((X,), {})})


def test_a_missing_package_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch_pruning", None)
    with pytest.raises(ConfError, match=r"`pattern: channel` needs .* lpot-lightning\[channels\]`"):
        find_groups(nn.Linear(6, 2), {"": ((X,), {})})


def test_the_package_is_imported_where_it_is_needed_only():
    for path in Path(finding.__file__).parent.glob("*.py"):
        top = ast.parse(path.read_text()).body
        assert not [one for one in top if "import torch_pruning" in ast.unparse(one)[:40]]


def test_a_softmax_hides_nothing():
    def forward(m, x):
        return torch.softmax(1e4 * (m.head(m.good(x).relu()) + m.other(m.gate(x).sigmoid())), 1)

    names = {name: nn.Linear(6, 8) for name in ("good", "gate")}
    # by far the first of both is chosen, whatever the gate gives
    model = Made(forward, **names, head=nn.Linear(8, 2), other=nn.Linear(8, 2))
    with torch.no_grad():
        model.head.bias.copy_(torch.tensor([100.0, 0]))
    found = find_groups(model, {"": ((X,), {})})
    assert [group.name for group in found] == ["good"]


@pytest.mark.parametrize("precision", ["highest", "medium"])
def test_the_proof_is_in_float32_whatever_the_user_allows(precision):
    torch.set_float32_matmul_precision(precision)
    try:
        before = torch.backends.mkldnn.matmul.fp32_precision
        found = find_groups(CASES["plain"].make(), CASES["plain"].calls())
        assert len(found.groups) == 3
        assert torch.get_float32_matmul_precision() == precision
        assert torch.backends.mkldnn.matmul.fp32_precision == before
    finally:
        torch.set_float32_matmul_precision("highest")


def test_some_groups_may_be_cut_and_others_not():
    model, found = trained(CASES["resnet"].make()), found_in("resnet")
    for group in found:
        kept = {group.name: half(group)}
        wide = masked(model, found, kept)
        small = cut(masked(model, found, kept), channel_plan_of(model, found.groups, kept))
        calls = CASES["resnet"].calls(seed=3)
        assert distance(outputs(small, calls), outputs(wide, calls)) < 1e-5
