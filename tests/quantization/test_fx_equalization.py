"""Channels between two layers, rescaled: where, by how much, and that the function stays."""

import copy
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from int8_scenes import (
    Batch,
    all_int8,
    calibrated,
    converted,
    distance,
    load,
    other_weights,
    prepared,
    same,
    save,
    seeded,
    state_of,
)
from torch import nn
from zoo import Made, images, layers, rows

from lpot_lightning.quantization.fx.correction import BIAS, EQUALIZATION
from lpot_lightning.quantization.fx.damage import changes_function

CONV, RELU, LINEAR = (nn.Conv2d, 3, 6, 3), (nn.ReLU,), (nn.Linear, 8, 12)
TAIL = (nn.Linear, 24, 5)
POINT = (nn.Conv2d, 6, 4, 1)


def functional(*steps):
    """Return a conv and a linear layer with ``steps`` between them."""

    def factory():
        def forward(m, x):
            x = m.conv(x)
            for step in steps:
                x = step(x)
            return m.fc(x)

        features = 6 if "mean" in steps[-1].__name__ else 24
        return Made(forward, conv=nn.Conv2d(3, 6, 3), fc=nn.Linear(features, 4))

    return factory


def pool(x):
    return F.adaptive_avg_pool2d(F.relu(x), 2)


def mean(x):
    return x.mean((2, 3))


def mean_by_name(x):
    return torch.mean(F.max_pool2d(x, 2), dim=[-2, -1])


def flat(x):
    return torch.flatten(x, 1)


def flat_method(x):
    return x.flatten(start_dim=1)


CHAINS = {
    "conv relu conv": (layers(CONV, RELU, POINT), images(8, 8), {"2"}),
    "conv conv": (layers(CONV, POINT), images(8, 8), {"1"}),
    "no bias": (layers((nn.Conv2d, 3, 6, 3, 1, 0, 1, 1, False), POINT), images(8, 8), {"1"}),
    "bn": (layers(CONV, (nn.BatchNorm2d, 6), RELU, POINT), images(8, 8), {"3"}),
    "depthwise": (
        layers(CONV, RELU, (nn.Conv2d, 6, 6, 3, 1, 1, 1, 6), RELU, POINT), images(8, 8), {"2", "4"}
    ),
    "two for each": (
        layers(CONV, RELU, (nn.Conv2d, 6, 12, 3, 1, 0, 1, 6), (nn.Conv2d, 12, 4, 1)),
        images(8, 8), {"2", "3"},
    ),
    "grouped": (layers(CONV, (nn.Conv2d, 6, 8, 3, 1, 0, 1, 2), (nn.Conv2d, 8, 4, 1)),
                images(8, 8), {"1", "2"}),
    "conv1d": (layers((nn.Conv1d, 3, 6, 3), RELU, (nn.Conv1d, 6, 4, 3)), images(12), {"2"}),
    "conv3d": (layers((nn.Conv3d, 3, 6, 3), (nn.Conv3d, 6, 4, 1)), images(4, 4, 4), {"1"}),
    "linear": (layers(LINEAR, RELU, (nn.Linear, 12, 4)), rows(8), {"2"}),
    "linear on sequences": (
        layers(LINEAR, RELU, (nn.Linear, 12, 4)), lambda: [Batch(torch.randn(4, 5, 8))], {"2"}
    ),
    "dropout": (layers(LINEAR, (nn.Dropout,), RELU, (nn.Identity,), (nn.Linear, 12, 4)),
                rows(8), {"4"}),
    "pool flatten": (
        layers(CONV, RELU, (nn.MaxPool2d, 3), (nn.Flatten,), TAIL), images(8, 8), {"4"}
    ),
    "average pool": (layers(CONV, (nn.AvgPool2d, 3), (nn.Flatten,), TAIL), images(8, 8), {"3"}),
    "functions": (functional(pool, flat), images(8, 8), {"fc"}),
    "methods": (functional(pool, flat_method), images(8, 8), {"fc"}),
    "mean": (functional(mean), images(8, 8), {"fc"}),
    "mean by name": (functional(mean_by_name), images(8, 8), {"fc"}),
}  # fmt: skip


class Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 4)

    def forward(self, x):
        return self.c(self.b(torch.relu(self.b(self.a(x)))))


NO_CHAINS = {
    "residual": (
        lambda: Made(lambda m, x: m.b(a := m.a(x)) + a, a=nn.Linear(8, 8), b=nn.Linear(8, 8)),
        rows(8),
    ),
    "two readers": (
        lambda: Made(
            lambda m, x: torch.cat([m.b(a := torch.relu(m.a(x))), m.c(a)], 1),
            a=nn.Linear(8, 8), b=nn.Linear(8, 4), c=nn.Linear(8, 4),
        ),
        rows(8),
    ),
    "given out": (
        lambda: Made(lambda m, x: (m.b(a := m.a(x)), a), a=nn.Linear(8, 8), b=nn.Linear(8, 4)),
        rows(8),
    ),
    "called twice": (Twice, rows(8)),
    "relu6": (layers(LINEAR, (nn.ReLU6,), (nn.Linear, 12, 4)), rows(8)),
    "sigmoid": (layers(LINEAR, (nn.Sigmoid,), (nn.Linear, 12, 4)), rows(8)),
    "linear over places": (layers(CONV, RELU, (nn.Linear, 6, 6)), images(8, 8)),
    "flatten of a sequence": (
        layers(LINEAR, RELU, (nn.Flatten,), (nn.Linear, 60, 4)),
        lambda: [Batch(torch.randn(4, 5, 8))],
    ),
    "flatten without a batch": (
        layers(CONV, RELU, (nn.Flatten,), (nn.Linear, 36, 4)), lambda: [Batch(torch.randn(3, 8, 8))]
    ),
}  # fmt: skip


def spread(model):
    """Rescale the first channels of whatever has some, so that factors are far from 1."""
    with torch.no_grad():
        for parameter in model.parameters():
            shape = [-1, *[1] * (parameter.dim() - 1)]
            parameter *= torch.logspace(-1, 1, parameter.shape[0]).reshape(shape)
    return model


def corrected(found, ops=None, *corrections):
    """Return the all-int8 recipe with corrections on ``ops``, by default on all that can."""
    corrections = corrections or (EQUALIZATION,)
    return all_int8(found).with_configs(
        {
            op.name: replace(op.configs[0], corrections=corrections)
            for op in found.ops
            if (op.name in ops if ops is not None else set(corrections) <= set(op.corrections))
        }
    )


@pytest.mark.parametrize("name", CHAINS)
def test_each_boundary_keeps_the_function(name):
    factory, batches, consumers = CHAINS[name]
    found = calibrated(spread(seeded(factory)), *batches())
    part, calls = found._parts[0], found._calls[0]
    boundaries = part.corrections.boundaries
    assert {boundary.consumer for boundary in boundaries} == consumers
    assert all(float((boundary.factors - 1).abs().max()) > 0.1 for boundary in boundaries)
    for chosen in ([one] for one in consumers):
        assert not changes_function(part, calls, chosen)
    assert not changes_function(part, calls, consumers)


@pytest.mark.parametrize("name", CHAINS)
def test_int8_computes_what_is_simulated(name):
    factory, batches, _ = CHAINS[name]
    model, batches = spread(seeded(factory)), batches()
    before = state_of(model)
    found = calibrated(model, *batches)
    recipe = corrected(found)
    simulated = found.error(recipe, recipe.int8_ops)
    measured = distance(batches[0](converted(model, found, recipe)), batches[0](model)) ** 2
    assert measured == pytest.approx(simulated, rel=0.3)
    assert state_of(model) == before


@pytest.mark.parametrize("name", CHAINS)
def test_it_comes_back_from_its_files(name, tmp_path):
    factory, batches, _ = CHAINS[name]
    model, batches = spread(seeded(factory)), batches()
    found = calibrated(model, *batches)
    int8 = save(tmp_path, model, found, corrected(found))
    assert same(batches[0](load(tmp_path, other_weights(model))), batches[0](int8))
    assert EQUALIZATION in (tmp_path / "best_configure.yaml").read_text()


@pytest.mark.parametrize("name", NO_CHAINS)
def test_where_the_function_would_change_nothing_is_equalized(name):
    factory, batches = NO_CHAINS[name]
    found = calibrated(seeded(factory), *batches())
    assert found._parts[0].corrections.boundaries == []
    assert not any(EQUALIZATION in op.corrections for op in found.ops)


@pytest.mark.parametrize("name", ["residual", "two readers", "given out", "called twice", "relu6"])
def test_what_the_graph_says_is_not_left_to_the_proof(name):
    factory, batches = NO_CHAINS[name]
    found = prepared(seeded(factory), batches()[0])
    assert found._parts[0].corrections.boundaries == []


def imbalanced():
    """Return a chain whose channels between the last two layers differ by six orders."""
    model = seeded(
        layers((nn.Conv2d, 3, 16, 3), RELU, (nn.Conv2d, 16, 16, 3, 1, 1, 1, 16), RELU,
               (nn.Conv2d, 16, 8, 1))
    )  # fmt: skip
    scale = 10 ** torch.linspace(-3, 3, 16)
    with torch.no_grad():
        model[2].weight *= scale[:, None, None, None]
        model[2].bias *= scale
        model[4].weight /= scale[None, :, None, None]
    return model


def test_an_imbalanced_chain_is_much_better_equalized():
    model, batches = imbalanced(), images(8, 8)()
    found = calibrated(model, *batches)
    plain, equalized = (
        distance(batches[1](converted(model, found, recipe)), batches[1](model))
        for recipe in (all_int8(found), corrected(found, ["4"]))
    )
    assert plain > 0.3
    assert equalized < 0.02


def test_a_bias_is_corrected_for_the_channels_as_they_are_read():
    model, batches = imbalanced(), images(8, 8)()
    found = calibrated(model, *batches)
    configs = corrected(found, ["4"], EQUALIZATION, BIAS).as_mapping()
    held = found._parts[0].corrections.changed(configs, "4").simulated()
    with torch.no_grad():
        x = model[:4](torch.cat([batch.args[0] for batch in batches]))
        error = torch.func.functional_call(model[4], held, x) - model[4](x)
    assert float(error.mean((0, 2, 3)).abs().max()) < 0.01 * float(error.abs().mean())


def test_it_is_in_force_only_where_both_ends_are_int8():
    found = calibrated(imbalanced(), *images(8, 8)())
    plain, equalized = all_int8(found), corrected(found, ["4"])
    for fp32 in ("2", "4"):
        one, other = plain.with_fp32([fp32]), equalized.with_fp32([fp32])
        assert found.error(one, one.int8_ops) == found.error(other, other.int8_ops)
    assert found.error(equalized, ["4"]) < 0.01 * found.error(plain, ["4"])


def test_the_one_before_must_be_able_to_be_int8():
    found = calibrated(imbalanced(), *images(8, 8)())
    found._wrong["2"] = "is wrong"
    possible = {op.name: op.corrections for op in found.ops}
    assert EQUALIZATION not in possible["4"]
    assert possible["2"] == ()


def test_the_factors_come_from_the_weights_alone():
    model = imbalanced()
    one, two = (calibrated(copy.deepcopy(model), *images(8, 8)()) for _ in range(2))
    pairs = zip(one._parts[0].corrections.boundaries, two._parts[0].corrections.boundaries,
                strict=True)  # fmt: skip
    assert all(torch.equal(a.factors, b.factors) for a, b in pairs)


def test_the_factors_undo_what_a_rescaling_did():
    boundary = calibrated(imbalanced(), *images(8, 8)())._parts[0].corrections.boundaries[-1]
    ratio = boundary.factors / 10 ** torch.linspace(-3, 3, 16)
    assert float(ratio.max() / ratio.min()) < 30  # of the 10^6 that were there


def test_channels_without_weights_are_left_alone():
    model = seeded(layers((nn.Linear, 8, 6), (nn.Linear, 6, 4)))
    with torch.no_grad():
        model[0].weight[0], model[0].bias[0] = 0.0, 0.0
        model[1].weight[:, 1] = 0.0
    (boundary,) = calibrated(model, *rows(8)())._parts[0].corrections.boundaries
    assert boundary.factors[:2].tolist() == [1.0, 1.0]
    assert bool(torch.isfinite(boundary.factors).all())


def test_a_channel_that_is_all_bias_is_not_blown_up():
    model = seeded(layers((nn.Linear, 8, 6), (nn.Linear, 6, 4)))
    with torch.no_grad():
        model[0].weight[0], model[0].bias[0] = 1e-7, 1.0
    (boundary,) = calibrated(model, *rows(8)())._parts[0].corrections.boundaries
    assert float(boundary.factors[0]) > 0.5


def test_layers_with_one_weight_are_equalized_as_others_are():
    net = layers(*[(nn.Linear, 8, 8), (nn.ReLU,)] * 4)().eval()
    net.get_submodule("4").weight = net.get_submodule("2").weight
    found = calibrated(net, Batch(torch.randn(16, 8)))
    assert any(EQUALIZATION in op.corrections for op in found.ops)
