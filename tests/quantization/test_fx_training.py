"""A model that rounds while it trains, and becomes what it was trained for."""

import copy
import inspect

import pytest
import torch
import torch.nn.functional as F
from int8_scenes import (
    BACKEND,
    all_int8,
    distance,
    recorded,
    same,
    seeded,
    state_of,
)
from torch import nn
from torch.nn.utils import parametrizations, prune

from lpot_lightning.errors import ArtifactError
from lpot_lightning.module.copying import second_model
from lpot_lightning.module.stand_in import put, replaced
from lpot_lightning.quantization.fx.fake_quant import FakeQuant, rounded_weight
from lpot_lightning.quantization.fx.training_layer import TrainingEmbedding, TrainingLayer

IMAGES = torch.randn(32, 3, 8, 8, generator=torch.Generator().manual_seed(1))


class Residual(nn.Module):
    """Convolutions with norms, a sum, a gate, dropout and a head."""

    def __init__(self):
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.wide = nn.Conv2d(8, 8, 3, padding=1, groups=4)
        self.wide_norm, self.act = nn.BatchNorm2d(8), nn.ReLU()
        self.drop, self.head = nn.Dropout(0.2), nn.Linear(8, 5)

    def forward(self, x):
        x = F.relu(self.norm(self.stem(x)))
        x = x + self.act(self.wide_norm(self.wide(x)))
        x = x * torch.sigmoid(x.mean((2, 3), keepdim=True))
        return self.head(self.drop(F.adaptive_avg_pool2d(x, 1).flatten(1)))


def dry_run(model, batch):
    with recorded(model) as calls, torch.no_grad():
        model(batch)
    return calls


def training_for(model, batch=IMAGES, recipe=None):
    """Return the training of a model, and its ops as they were before it."""
    second = second_model(model)
    found = BACKEND.prepare(second, dry_run(second, batch), for_training=True)
    with replaced(second, found.observed), torch.no_grad():
        second(batch)
    found.settle()
    return found.training((recipe or all_int8)(found)), found


def train(model, training, batch=IMAGES, steps=5, lr=0.05):
    model.train()
    sgd = torch.optim.SGD(model.parameters(), lr=lr)
    for _ in range(steps):
        sgd.zero_grad()
        model(batch).square().mean().backward()
        sgd.step()
        training.end_batch()
    return model.eval()


def trained(model, training, batch=IMAGES, **given):
    """Train with the rounding and return what the model computes with it, and the state."""
    with training.attached(model):
        out = train(model, training, batch, **given)(batch)
    return out.detach(), training.state()


def int8(model, state, batch=IMAGES):
    second = second_model(model)
    found = BACKEND.trained(second, dry_run(second, batch), state)
    found.settle()
    put(second, found.convert(all_int8(found)))
    return second


def share_off(one, other):
    """Return the share of values that are not the same, but for the order of adding up."""
    return ((one - other).abs() > 1e-3).float().mean().item()


def test_int8_is_what_was_trained():
    model = seeded(Residual)
    rounded, state = trained(model, training_for(model)[0])
    assert share_off(int8(model, state)(IMAGES), rounded) < 0.15
    assert share_off(model(IMAGES), rounded) > 0.5  # fp32 is not


def test_int8_can_be_made_of_the_state_alone():
    model = seeded(Residual)
    _, state = trained(model, training_for(model)[0])
    second = second_model(model)
    put(second, BACKEND.int8_of(second, state))
    assert same(second(IMAGES), int8(model, state)(IMAGES))


def test_the_model_is_as_before_but_for_its_weights():
    model = seeded(Residual)
    before, keys = copy.deepcopy(model), list(model.state_dict())
    parameters = list(model.parameters())
    training, _ = training_for(model)
    with training.attached(model):
        train(model, training)
        assert list(model.state_dict()) == keys
        assert all(one is two for one, two in zip(parameters, model.parameters(), strict=True))
        assert [n for n, _ in model.named_modules()] == [n for n, _ in before.named_modules()]
    before.load_state_dict(model.state_dict())
    assert state_of(model) == state_of(before)
    assert same(model(IMAGES), before(IMAGES))


class Scaled(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(8, 4)

    def forward(self, x, scale=2.0, mask=None):
        out = self.layer(x) * scale
        return out if mask is None else out * mask


def test_calls_with_other_constants_than_the_traced_ones_are_the_modules_own():
    model, x = seeded(Scaled), torch.randn(16, 8)
    exact = [model(x), model(x, 3.0), model(x, mask=torch.ones(4) / 2)]
    training, _ = training_for(model, x)
    with training.attached(model):
        train(model, training, x, lr=0.0)
        found = [model(x), model(x, 3.0), model(x, mask=torch.ones(4) / 2)]
        with pytest.raises(TypeError, match="unexpected keyword argument 'other'"):
            model(x, other=1)
        assert inspect.signature(model.forward) == inspect.signature(Scaled().forward)
    assert [same(*pair) for pair in zip(found, exact, strict=True)] == [False, True, True]


def test_every_parameter_learns():
    model = seeded(Residual)
    training, _ = training_for(model)
    with training.attached(model):
        model.train()(IMAGES).square().mean().backward()
    assert all(one.grad is not None and one.grad.abs().sum() > 0 for one in model.parameters())


def test_norms_go_on_learning_and_can_be_frozen():
    model = seeded(Residual)
    training, _ = training_for(model)
    before = model.norm.running_mean.clone()
    with training.attached(model):
        train(model, training, steps=1)
        learned = model.norm.running_mean.clone()
        model.train()
        model.norm.training = False
        model(IMAGES)
    assert not torch.equal(before, learned)
    assert torch.equal(model.norm.running_mean, learned)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_the_norms_factor_and_the_rounding_change_places(sign):
    """With one symmetric scale a channel; its largest weight is half way between two values."""
    weight = torch.randn(6, 4, 3, 3, generator=torch.Generator().manual_seed(0))
    factor = sign * torch.linspace(0.5, 2, 6).reshape(-1, 1, 1, 1)
    before, after = rounded_weight(weight, 0) * factor, rounded_weight(weight * factor, 0)
    largest = weight.abs() == weight.abs().amax((1, 2, 3), keepdim=True)
    assert torch.allclose(before[~largest], after[~largest], rtol=1e-6)
    assert not torch.allclose(after, weight * factor, rtol=1e-3)


def test_a_norm_that_learns_gives_what_it_gives_without_rounding():
    model = seeded(Residual).train()
    layer = TrainingLayer(model.stem, model.norm, relu=True, rounds=True)
    exact = TrainingLayer(model.stem, model.norm, relu=True, rounds=False)
    with torch.no_grad():
        assert same(exact(IMAGES), F.relu(model.norm(model.stem(IMAGES))))
        assert 0 < distance(layer(IMAGES), exact(IMAGES)) < 0.02


def test_a_copy_of_the_model_rounds_with_its_own_weights_and_ranges():
    model = seeded(Residual)
    training, _ = training_for(model)
    with training.attached(model):
        train(model, training)
        second, before = copy.deepcopy(model), model(IMAGES)
        assert same(second(IMAGES), before)
        train(second, training)  # its own ranges learn
        assert not same(second(IMAGES), before)
        assert same(model(IMAGES), before)


def test_ranges_are_learned_in_training_mode_only():
    model = seeded(Residual)
    training, _ = training_for(model)
    with training.attached(model):
        train(model, training)
        before = training.state()["ranges"]
        model(100 * IMAGES)
        training.observing = False
        model.train()(100 * IMAGES)
        training.end_batch()
    after = training.state()["ranges"]
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_before_the_first_batch_nothing_is_rounded():
    model = seeded(Residual)
    training, _ = training_for(model)
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    with training.attached(model), torch.no_grad():
        activations = [one for one in _graph_of(model).modules() if isinstance(one, FakeQuant)]
        assert activations
        assert all(torch.equal(one(IMAGES), IMAGES) for one in activations)
    assert same(dict(model.state_dict()), weights)


def _graph_of(model):
    return vars(model)["forward"].__self__


def test_a_training_goes_on_from_its_state_to_the_last_bit():
    model = seeded(Residual)
    model.drop.p = 0.0
    training, _ = training_for(model)
    with training.attached(model):
        train(model, training, steps=3)
        saved, state = copy.deepcopy(model.state_dict()), training.state()
        train(model, training, steps=3)
    other = seeded(Residual)
    other.drop.p = 0.0
    other.load_state_dict(saved)
    again = BACKEND.training_of(second_model(other), state)
    with again.attached(other):
        train(other, again, steps=3)
    assert same(dict(other.state_dict()), dict(model.state_dict()))
    one, two = again.state(), training.state()
    assert one["places"] == two["places"]
    assert all(torch.equal(one["ranges"][name], two["ranges"][name]) for name in one["ranges"])


def test_what_stays_in_fp32_is_not_rounded_and_reads_what_it_will_read():
    model = seeded(Residual)
    training, found = training_for(
        model, recipe=lambda found: all_int8(found).with_fp32(["wide", "#add_0"])
    )
    assert set(training.layers) == {"stem", "head"}
    rounded, state = trained(model, training)
    second = second_model(model)
    again = BACKEND.trained(second, dry_run(second, IMAGES), state)
    again.settle()
    assert {op.name for op in again.ops if not op.int8_configs} >= {"wide", "#add_0"}
    assert "wide" not in again.excluded  # it could be, and is not asked to be
    put(second, again.convert(all_int8(again)))
    assert distance(second(IMAGES), rounded) < 0.02


class Functional(nn.Module):
    """Reads its own mode, and holds a part that does not."""

    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 4))

    def forward(self, x):
        return F.dropout(self.net(x), 0.5, training=self.training)


def test_a_module_that_reads_its_mode_is_entered_deeper():
    model, batch = seeded(Functional), torch.randn(64, 6)
    training, _ = training_for(model, batch)
    assert training.paths == ("net",)
    with training.attached(model):
        train(model, training, batch)
        assert same(model(batch), model(batch))  # no dropout
        assert not same(model.train()(batch), model(batch))


class Tokens(nn.Module):
    def __init__(self, sparse=False):
        super().__init__()
        self.table = nn.Embedding(50, 8, padding_idx=0, sparse=sparse)
        self.bag = nn.EmbeddingBag(50, 8, mode="sum", sparse=sparse)
        self.head = nn.Linear(16, 3)

    def forward(self, x):
        return self.head(torch.cat([self.table(x).mean(1), self.bag(x)], 1))


def test_embeddings_round_row_by_row():
    model, batch = seeded(Tokens), torch.arange(48).reshape(8, 6)
    training, _ = training_for(model, batch)
    assert {"table", "bag", "head"} <= set(training.layers)
    rounded, state = trained(model, training, batch)
    assert distance(int8(model, state, batch)(batch), rounded) < 0.04
    assert model.table.weight.grad[1:48].abs().sum(1).min() > 0
    assert model.table.weight.grad[0].abs().sum() == 0


def test_only_the_rows_that_are_looked_up_are_rounded():
    table = nn.Embedding(1000, 4, sparse=True)
    rows = TrainingEmbedding(table)(torch.tensor([3, 3, 7]))
    rows.sum().backward()
    assert table.weight.grad.is_sparse
    assert sorted(table.weight.grad.coalesce().indices()[0].tolist()) == [3, 7]
    spread = table.weight[3].max() - table.weight[3].min()
    assert 0 < (rows[0] - table.weight[3]).abs().max() <= spread / 255


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
    training, _ = training_for(model, batch)
    rounded, state = trained(model, training, batch)
    assert distance(int8(model, state, batch)(batch), rounded) < 0.04
    assert (model[0].weight == 0).float().mean() in (0, 0.5)


class Upsampling(nn.Module):
    """The norm's factor does not pass a transposed convolution, which has one scale."""

    def __init__(self):
        super().__init__()
        self.up, self.norm = nn.ConvTranspose2d(3, 3, 2, 2, bias=False), nn.BatchNorm2d(3)
        self.last = nn.Conv2d(3, 2, 1)

    def forward(self, x):
        return self.last(F.relu(self.norm(self.up(x))))


def test_a_transposed_convolution_with_a_norm():
    model = seeded(Upsampling).requires_grad_(False)
    layer = TrainingLayer(model.up, model.norm, relu=True, rounds=True)
    exact = TrainingLayer(model.up, model.norm, relu=True, rounds=False)
    model.train()
    statistics = copy.deepcopy(model.norm.state_dict())
    learned = layer(IMAGES)
    model.norm.load_state_dict(statistics)
    assert 0 < distance(learned, exact(IMAGES)) < 0.05
    model.eval()
    assert 0 < distance(layer(IMAGES), exact(IMAGES)) < 0.05
    model.requires_grad_(True)
    rounded, state = trained(model, training_for(model)[0])
    assert distance(int8(model, state)(IMAGES), rounded) < 0.02


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_other_precisions_round_in_float32(dtype):
    model = seeded(Residual)
    training, _ = training_for(model)
    model.to(dtype)
    with training.attached(model):
        out = train(model, training, IMAGES.to(dtype))(IMAGES.to(dtype))
    assert out.dtype is dtype
    assert training.state()["ranges"]["low"].dtype is torch.float32


def test_autocast():
    model = seeded(Residual)
    training, _ = training_for(model)
    with training.attached(model), torch.autocast("cpu", torch.bfloat16):
        out = train(model, training)(IMAGES)
    assert out.dtype is torch.bfloat16
    assert torch.isfinite(training.state()["ranges"]["high"]).all()


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda state: state["places"][0].__setitem__(1, "other"), "of other activations"),
        (lambda state: state["places"].pop(), r"`low` is .*\[8\], it has to be .*\[7\]"),
        (lambda state: state["ranges"].pop("scale"), "`scale` is None"),
        (lambda state: state["ranges"].update(low=torch.zeros(2)), r"`low` is .*\[2\]"),
        (lambda state: state["ranges"]["scale"].fill_(-1), "scale -1"),
        (lambda state: state["parts"][0].update(path="nowhere"), "`nowhere`"),
        (lambda state: state.pop("engine"), "`engine`"),
        (lambda state: state.update(op=[]), "`op`"),
    ],
)
def test_a_damaged_state(damage, said):
    model = seeded(Residual)
    _, state = trained(model, training_for(model)[0])
    damage(state)

    def use():
        BACKEND.training_of(second_model(model), state)
        BACKEND.int8_of(second_model(model), state)

    with pytest.raises(ArtifactError, match=said):
        use()


def test_a_state_of_another_model():
    model = seeded(Residual)
    _, state = trained(model, training_for(model)[0])
    with pytest.raises(ArtifactError, match="not the one|not in the"):
        BACKEND.training_of(seeded(Upsampling), state)
