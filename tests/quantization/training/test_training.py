"""A model that rounds while it trains, and becomes what it was trained for."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrizations, prune
from torch.utils.checkpoint import checkpoint
from training_scenes import (
    BACKEND,
    IMAGES,
    Attention,
    Residual,
    Standardized,
    Tokens,
    distance,
    int8,
    seeded,
    shown,
    train,
    trained,
    training_for,
)

from lpot_lightning.errors import ArtifactError
from lpot_lightning.module.copying import second_model
from lpot_lightning.module.stand_in import put
from lpot_lightning.quantization import onednn
from lpot_lightning.quantization.kernels.bounds import PAIRED, SEVEN_BITS, WHOLE
from lpot_lightning.quantization.kernels.layers import Int8Layer
from lpot_lightning.quantization.kernels.saturation import may_saturate


def ranges_of(training):
    return training.state()["ranges"]


def is_same(one, other):
    return all(torch.equal(value, other[name]) for name, value in one.items())


class Unsure(nn.Module):
    """Goes by the values of its data, by an argument and by its mode."""

    def __init__(self):
        super().__init__()
        self.body, self.head = nn.Linear(8, 8), nn.Linear(8, 4)

    def forward(self, x, scale=1.0):
        x = self.body(x) * scale
        x = x if x.sum() > 0 or self.training else -x
        return self.head(x)


def encoder():
    return nn.TransformerEncoder(nn.TransformerEncoderLayer(16, 2, 32, batch_first=True), 2)


def grouped():
    return nn.Sequential(
        nn.Conv1d(3, 8, 5, padding=2, padding_mode="reflect"), nn.BatchNorm1d(8), nn.SiLU(),
        nn.Conv1d(8, 8, 3, groups=4, stride=2), nn.Flatten(), nn.Linear(56, 4),
    )  # fmt: skip


NETS = {
    "tokens": (Tokens, torch.arange(48).reshape(8, 6)),
    "attention": (Attention, shown(8, 5, 16)),
    "transformer": (encoder, shown(8, 5, 16)),
    "computed weights": (Standardized, IMAGES),
    "grouped and padded": (grouped, shown(16, 3, 16)),
    "control flow": (Unsure, shown(16, 8)),
}


@pytest.mark.parametrize("name", NETS)
def test_int8_with_its_graphs_is_what_was_trained(name):
    make, batch = NETS[name]
    model = seeded(make)
    rounded, state = trained(model, training_for(model, batch), batch)
    with torch.no_grad():
        assert distance(model(batch), rounded) > 0.003  # fp32 is not
        found = int8(model, state)(batch)
    # a value half way between two integers may be the other one, where sums are added up otherwise
    beside = [one for one in map(distance, found, rounded) if one > 1e-5]
    assert len(beside) <= 1
    assert distance(found, rounded) < 0.003


def test_sums_of_a_residual_net_are_what_was_trained_in_its_graph():
    """There they add the integers that convolutions read; layers alone add floats."""
    model = seeded(Residual)
    rounded, state = trained(model, training_for(model))
    layers = second_model(model).eval()
    put(layers, BACKEND.int8_of(layers, state))
    with torch.no_grad():
        off = distance(model(IMAGES), rounded)
        assert distance(int8(model, state)(IMAGES), rounded) < 0.1 * off
        assert 0.1 * off < distance(layers(IMAGES), rounded) < off


def test_the_model_is_as_before_but_for_its_weights():
    model = seeded(Residual)
    before, keys = copy.deepcopy(model), list(model.state_dict())
    parameters, attributes = list(model.parameters()), [set(vars(one)) for one in model.modules()]
    training = training_for(model)
    with training.attached(model):
        train(model, training)
        assert list(model.state_dict()) == keys
        assert all(one is two for one, two in zip(parameters, model.parameters(), strict=True))
        assert [n for n, _ in model.named_modules()] == [n for n, _ in before.named_modules()]
    before.load_state_dict(model.state_dict())
    assert [set(vars(one)) for one in model.modules()] == attributes
    assert torch.equal(model(IMAGES), before(IMAGES))


@pytest.mark.parametrize("name", ["tokens", "attention", "computed weights"])
def test_every_parameter_learns(name):
    make, batch = NETS[name]
    model = seeded(make)
    with training_for(model, batch).attached(model):
        model.train()(batch).square().mean().backward()
    assert all(one.grad is not None and one.grad.abs().sum() > 0 for one in model.parameters())


def test_a_frozen_part_in_eval_mode_learns_its_ranges():
    model = seeded(Residual)
    training = training_for(model)
    model.train()
    model.stem.eval().requires_grad_(False)
    with training.attached(model):
        model(IMAGES)
        training.end_batch()
    assert ranges_of(training)["high"].isfinite().all()


def test_ranges_are_learned_while_it_observes_only():
    model = seeded(Residual)
    training = training_for(model)
    with training.attached(model):
        train(model, training)
        before = ranges_of(training)
        model.train()(100 * IMAGES)
        training.end_batch()
    assert is_same(before, ranges_of(training))


def test_norms_go_on_learning_and_can_be_frozen():
    model = seeded(Residual)
    training = training_for(model)
    before = model.norm.running_mean.clone()
    with training.attached(model):
        train(model, training, steps=1)
        learned = model.norm.running_mean.clone()
        model.train()
        model.norm.training = False
        model(IMAGES)
    assert not torch.equal(before, learned)
    assert torch.equal(model.norm.running_mean, learned)


def test_a_copy_of_the_model_rounds_with_its_own_weights_and_ranges():
    model = seeded(Residual)
    training = training_for(model)
    with training.attached(model):
        train(model, training)
        training.observing = True
        second, before = copy.deepcopy(model), model.eval()(IMAGES)
        training.observing = False
        assert torch.equal(second.eval()(3 * IMAGES), second(3 * IMAGES)) is False  # it learns
        assert torch.equal(model(IMAGES), before)
        with torch.no_grad():
            second.head.weight.zero_()
            second.head.bias.zero_()
        assert not second(IMAGES).any()


def test_a_training_goes_on_from_its_state_to_the_last_bit():
    model = seeded(Residual)
    model.drop.p = 0.0
    training = training_for(model)
    with training.attached(model):
        train(model, training, steps=3)
        saved, state = copy.deepcopy(model.state_dict()), training.state()
        training.observing = True
        train(model, training, steps=3)
    other = seeded(Residual)
    other.drop.p = 0.0
    other.load_state_dict(saved)
    again = BACKEND.training_of(second_model(other), state)
    with again.attached(other):
        train(other, again, steps=3)
    assert is_same(other.state_dict(), model.state_dict())
    assert is_same(ranges_of(again), ranges_of(training))


def test_what_stays_in_fp32_is_not_rounded():
    model = seeded(Residual)
    training = training_for(model, IMAGES, "wide")
    assert training.layers == ("stem", "last", "head")
    _, state = trained(model, training)
    assert state["op"]["wide"] == {"activation": {"dtype": "fp32"}}
    assert "wide" not in dict(int8(model, state).named_modules())["wide"].__dict__


def test_channels_are_equalized_where_that_helps_clearly():
    model = seeded(Residual)
    with torch.no_grad():
        scales = torch.logspace(-1, 1, 8, 2)
        model.wide_norm.weight.mul_(scales)
        model.wide_norm.bias.mul_(scales)
        model.norm.weight.mul_(scales**2)
        model.norm.bias.mul_(scales**2)
        model.last.weight.div_(scales.view(1, -1, 1, 1) ** 2)
    evened, plain = training_for(model, evened=True), training_for(model)
    assert set(evened.state()["factors"]) == {"last"}
    assert not plain.state()["factors"]
    with torch.no_grad():
        exact, found = model(IMAGES), []
        for training in (evened, plain):
            with training.attached(model):
                found.append(model(IMAGES))
        assert distance(found[0], exact) < distance(found[1], exact)
        assert distance(int8(model, evened.state())(IMAGES), found[0]) < 1e-4


def test_sparse_tables_round_the_rows_that_are_looked_up():
    model, batch = seeded(lambda: Tokens(sparse=True)), torch.arange(6).reshape(1, 6)
    with training_for(model, batch).attached(model):
        model.train()(batch).sum().backward()
    for table in (model.table, model.bag):
        assert table.weight.grad.is_sparse
        assert set(table.weight.grad.coalesce().indices()[0].tolist()) <= set(range(6))


@pytest.mark.parametrize(
    "change",
    [
        lambda layer: parametrizations.weight_norm(layer),
        lambda layer: prune.l1_unstructured(layer, "weight", 0.5),
    ],
    ids=["parametrization", "mask of torch.nn.utils.prune"],
)
def test_weights_that_are_computed_from_others(change):
    model, batch = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 4)), torch.randn(64, 6)
    change(model[0])
    model.eval()
    rounded, state = trained(model, training_for(model, batch), batch)
    assert distance(int8(model, state)(batch), rounded) < 1e-5
    assert (model[0].weight == 0).float().mean() in (0, 0.5)


class Branches(nn.Module):
    """Calls one of two layers, by an attribute."""

    def __init__(self):
        super().__init__()
        self.way, self.a, self.b, self.c = "a", *(nn.Linear(8, 8) for _ in "abc")
        self.c.requires_grad_(False)

    def forward(self, x):
        return getattr(self, self.way)(x)


def test_what_was_compiled_computes_as_it_is_written_while_it_trains():
    calls = []

    def backend(graph, _):
        calls.append(graph)
        return graph.forward

    inside = nn.Sequential(nn.Linear(8, 8), nn.ReLU())
    model, batch = nn.Sequential(torch.compile(inside, backend=backend)), shown(16, 8)
    training = training_for(model, batch)
    with training.attached(model):
        exact = F.linear(batch, inside[0].weight, inside[0].bias).relu()
        assert not torch.equal(model(batch), exact)
        model.train()(batch)
    assert not calls
    model(batch)
    assert calls


def test_a_layer_that_the_dry_run_did_not_call_rounds_if_it_can_learn():
    model, batch = seeded(Branches), torch.randn(16, 8)
    training = training_for(model, batch)
    assert training.int8_ops == ("a", "b")
    with training.attached(model):
        model.train()(batch)
        training.end_batch()
        assert ranges_of(training)["high"].isfinite().tolist() == [True, False]
        model.way = "b"
        model(batch)
        training.end_batch()
    assert ranges_of(training)["high"].isfinite().all()


@pytest.mark.parametrize("reentrant", [True, False])
def test_a_repeated_forward_teaches_nothing_and_gives_the_same_gradients(reentrant):
    found = []
    for repeats in (False, True):
        model = seeded(Attention)
        training = training_for(model, shown(8, 5, 16))
        x = shown(8, 5, 16).requires_grad_()
        with training.attached(model):
            out = checkpoint(model, x, use_reentrant=reentrant) if repeats else model(x)
            out.square().mean().backward()
            training.end_batch()
        found.append(({n: p.grad for n, p in model.named_parameters()}, ranges_of(training)))
    assert is_same(found[0][1], found[1][1])
    for name, gradient in found[0][0].items():
        assert torch.allclose(gradient, found[1][0][name], atol=1e-7), name


def test_query_key_and_value_are_rounded_once():
    model, batch = seeded(Attention), shown(8, 5, 16)
    training = training_for(model, batch)
    with training.attached(model):
        train(model, training, batch)
    high = dict(zip(training.state()["places"], ranges_of(training)["high"].tolist(), strict=True))
    assert high["attention#linear_0"] == high["attention#linear_2"]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_other_precisions_round_in_float32(dtype):
    model = seeded(Residual)
    training = training_for(model)
    model.to(dtype)
    with training.attached(model):
        out = train(model, training, IMAGES.to(dtype))(IMAGES.to(dtype))
    assert out.dtype is dtype
    assert ranges_of(training)["low"].dtype is torch.float32


def test_autocast():
    model = seeded(Residual)
    training = training_for(model)
    with training.attached(model), torch.autocast("cpu", torch.bfloat16):
        out = train(model, training)(IMAGES)
    assert out.dtype is torch.bfloat16
    assert ranges_of(training)["high"].isfinite().all()


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda state: state["places"].__setitem__(0, "other"), "of other activations"),
        (lambda state: state["places"].pop(), r"`low` is .*\[4\], it has to be .*\[3\]"),
        (lambda state: state["ranges"].pop("scale"), "`scale` is None"),
        (lambda state: state["ranges"].update(low=torch.zeros(2)), r"`low` is .*\[2\]"),
        (lambda state: state["ranges"]["scale"].fill_(-1), "scale -1"),
        (lambda state: state["op"].update(nowhere=state["op"]["stem"]), "`nowhere`"),
        (lambda state: state["op"].update(norm=state["op"]["stem"]), "which has no int8 form"),
        (lambda state: state["op"]["stem"].update(much=1), "is damaged: an op needs"),
        (lambda state: state["factors"].update(stem=torch.ones(9)), "reads 3 channels"),
        (lambda state: state.pop("parts"), "`parts`"),
        (lambda state: state.update(op=[]), "`op`"),
        (lambda state: state["parts"].append(3), r"`parts\[1\]` is `3`"),
        (lambda state: state["gone"].update(stem=5), "`gone.stem` is `5`"),
        (lambda state: state["op"].update(stem="int8"), "`op.stem` is `int8`"),
        (lambda state: state["factors"].update(stem=torch.zeros(3)), "not finite and positive"),
        (lambda state: state["left_out"].update(stem=None), "`left_out.stem` is `None`"),
        (lambda state: state.update(pair=10**9), "`pair` is 1000000000, it has to be 254, or 128"),
        (lambda state: state.update(pair=True), "`pair` is True"),
        (lambda state: state.update(pair=128, reduce_range=True), "`pair` is 128"),
    ],
)
def test_a_damaged_state(damage, said):
    model = seeded(Residual)
    state = training_for(model).state()
    damage(state)
    with pytest.raises(ArtifactError, match=said):
        BACKEND.training_of(second_model(model), state)


@pytest.mark.parametrize("bounds", [WHOLE, PAIRED, SEVEN_BITS])
def test_it_trains_and_becomes_int8_on_its_bounds_on_any_machine(bounds, monkeypatch):
    for name in ("PAIRED", "WHOLE"):
        monkeypatch.setattr(onednn, name, bounds)
    model = seeded(Residual)
    training = training_for(model)
    monkeypatch.undo()
    state = training.state()
    if bounds is SEVEN_BITS:
        del state["pair"]  # which the first ones had not
    training = BACKEND.training_of(model, state)
    with training.attached(model):
        rounded = train(model, training).eval()(IMAGES).detach()
    made = int8(model, training.state())
    kernels = [one for one in made.modules() if isinstance(one, Int8Layer)]
    assert {one.x.high for one in kernels} == {bounds.high}
    assert all(int(one.weight.max()) == 127 for one in kernels) is (bounds is not PAIRED)
    assert any(may_saturate(one.weight, bounds.high) for one in kernels) is (bounds is WHOLE)
    assert distance(made(IMAGES), rounded) < 0.02


def test_a_state_of_another_model():
    state = training_for(seeded(Residual)).state()
    with pytest.raises(ArtifactError, match="the model has no `stem`, the trained one had"):
        BACKEND.training_of(seeded(Attention), state)
    with pytest.raises(ArtifactError, match="the model has no `stem`, the trained one had"):
        BACKEND.int8_of(seeded(Attention), state)
