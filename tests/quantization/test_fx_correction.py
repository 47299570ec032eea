"""Weights and biases, changed before they are rounded."""

import gc
import weakref
from dataclasses import replace

import pytest
import torch
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
from zoo import CalledTwice, Made, calibrated_made, images, layers, made, rows

from lpot_lightning.module.stand_in import replaced
from lpot_lightning.quantization.fx import capability, observe
from lpot_lightning.quantization.fx.correction import BIAS, EQUALIZATION, WEIGHT
from lpot_lightning.recipe import CORRECTIONS

KINDS = {
    "linear": (lambda: nn.Linear(8, 6), rows(8)),
    "relu": (layers((nn.Linear, 8, 6), (nn.ReLU,)), rows(8)),
    "conv1d": (lambda: nn.Conv1d(3, 6, 3, stride=2, padding=2), images(12)),
    "conv2d": (lambda: nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=2), images(9, 9, channels=4)),
    "depthwise": (lambda: nn.Conv2d(4, 8, 3, groups=4, dilation=2), images(9, 9, channels=4)),
    "reflected": (lambda: nn.Conv2d(3, 6, 3, padding=1, padding_mode="reflect"), images(8, 8)),
    "conv3d": (lambda: nn.Conv3d(3, 6, 3, padding=1), images(4, 5, 6)),
    "up1d": (lambda: nn.ConvTranspose1d(4, 4, 2, 2), images(6, channels=4)),
    "up2d odd": (lambda: nn.ConvTranspose2d(3, 3, 3, 2, output_padding=1), images(5, 5)),
    "up2d": (lambda: nn.ConvTranspose2d(4, 6, 3, 2, padding=1, groups=2), images(5, 5, channels=4)),
}  # fmt: skip


def with_corrections(found, *corrections):
    """Return the all-int8 recipe with those of ``corrections`` that each op can have."""
    return all_int8(found).with_configs(
        {
            op.name: replace(
                op.configs[0], corrections=tuple(c for c in corrections if c in op.corrections)
            )
            for op in found.ops
        }
    )


def mean_error(part, corrections, batches):
    """Return the mean error of each channel that rounding the weights makes, and its size."""
    (op,) = part.ops.nodes
    configs = {op: replace(capability.configs_of(part.ops.kinds[op])[0], corrections=corrections)}
    layer = part.corrections.changed(configs, op).layer
    held = part.corrections.changed(configs, op).simulated()
    tensors = {name.removeprefix("0."): tensor for name, tensor in held.items()}
    with torch.no_grad():
        errors = [
            torch.func.functional_call(layer.inner, tensors, batch.args) - layer.inner(*batch.args)
            for batch in batches
        ]
    axis = -1 if layer.spatial == 0 else 1
    flat = torch.cat([error.movedim(axis, 0).flatten(1) for error in errors], 1)
    return float(flat.mean(1).abs().max()), float(flat.abs().mean())


@pytest.mark.parametrize("kind", KINDS)
def test_a_corrected_bias_removes_the_mean_error(kind):
    factory, batches = KINDS[kind]
    model, batches = seeded(factory), [Batch(b.args[0] + 1) for b in batches()]
    part = calibrated(model, *batches)._parts[0]
    plain, size = mean_error(part, (), batches)
    with_weights, _ = mean_error(part, (BIAS, WEIGHT), batches)
    corrected, _ = mean_error(part, (BIAS,), batches)
    assert plain > 0.05 * size
    assert max(corrected, with_weights) < 1e-3 * size


def test_corrections_are_done_in_the_order_in_which_they_are_named():
    assert CORRECTIONS == (EQUALIZATION, WEIGHT, BIAS)


def test_corrected_weights_keep_their_spread_and_mean_when_they_are_rounded():
    part = calibrated(seeded(lambda: nn.Linear(512, 32)), *rows(512)())._parts[0]
    (op,) = part.ops.nodes
    int8 = capability.configs_of("Linear")[0]
    layer = part.corrections.changed({op: int8}, op).layer
    layer.module.qconfig = observe.QConfig(  # three bits, so that the rounding is far from none
        activation=layer.module.qconfig.activation,
        weight=layer.module.qconfig.weight.with_args(quant_min=-3, quant_max=3),
    )
    spreads, means = [], []
    for corrections in ((), (WEIGHT,)):
        configs = {op: replace(int8, corrections=corrections)}
        held = part.corrections.changed(configs, op).simulated()["weight"]
        spreads.append(float((held.std(1) / layer.weight.std(1) - 1).abs().mean()))
        means.append(float((held.mean(1) - layer.weight.mean(1)).abs().mean()))
    assert spreads[1] < 0.7 * spreads[0]
    assert means[1] < 0.7 * means[0]


def test_a_channel_of_equal_weights_is_left_alone():
    model = seeded(lambda: nn.Linear(4, 3))
    with torch.no_grad():
        model.weight[0], model.weight[1] = 0.0, 0.25
    part = calibrated(model, *rows(4)())._parts[0]
    (op,) = part.ops.nodes
    int8 = replace(capability.configs_of("Linear")[0], corrections=(WEIGHT,))
    changed = part.corrections.changed({op: int8}, op)
    assert torch.allclose(changed.weight[:2], model.weight[:2], atol=1e-3)


def test_who_can_have_what():
    found = calibrated(seeded(layers((nn.Conv2d, 3, 4, 3), (nn.Conv2d, 4, 2, 1, 1, 0, 1, 1, False),
                                     (nn.BatchNorm2d, 2))), *images(8, 8)())  # fmt: skip
    assert {op.name: op.corrections for op in found.ops} == {
        "0": (WEIGHT, BIAS),
        "1": (EQUALIZATION, WEIGHT, BIAS),  # the norm gave it a bias
    }
    *_, found = calibrated_made("embedding")
    assert {op.name: op.corrections for op in found.ops}["embedding"] == ()
    *_, found = calibrated_made("functions")
    assert {op.name: op.corrections for op in found.ops}["#add_0"] == ()


def test_a_layer_without_a_bias_gets_none():
    found = calibrated(seeded(layers((nn.Linear, 8, 4, False))), *rows(8)())
    assert found.ops[0].corrections == (WEIGHT,)


@pytest.mark.parametrize(
    "name",
    ["conv2d", "up2d", "residual", "one linear", "called twice", "two names", "fused by hand"],
)
def test_corrected_int8_is_close_and_comes_back_from_its_files(name, tmp_path):
    model, batches = made(name)
    before = state_of(model)
    found = calibrated(model, *batches)
    recipe = with_corrections(found, *CORRECTIONS)
    assert any(config.corrections for _, config in recipe.ops)
    int8 = save(tmp_path, model, found, recipe)
    assert distance(batches[1](int8), batches[1](model)) < 0.05
    assert not same(batches[1](int8), batches[1](converted(model, found)))
    assert same(batches[1](load(tmp_path, other_weights(model))), batches[1](int8))
    assert state_of(model) == before


def test_a_layer_called_twice_is_corrected_for_both_calls():
    model, batches = seeded(CalledTwice), rows(8)()
    mean = calibrated(model, *batches)._parts[0].corrections.means["shared"].mean
    with torch.no_grad():
        x = torch.cat([batch.args[0] for batch in batches])
        again = torch.relu(model.shared(torch.relu(x) * 0 + x))
    expected = torch.cat([x, again]).mean(0)
    assert torch.allclose(mean.flatten(), expected, atol=1e-5)


def test_a_layer_called_by_keyword_is_watched_too():
    model = seeded(lambda: Made(lambda m, x: m.fc(input=x), fc=nn.Linear(8, 4)))
    batches = rows(8)()
    means = calibrated(model, *batches)._parts[0].corrections.means
    x = torch.cat([batch.args[0] for batch in batches])
    assert torch.allclose(means["fc"].mean.flatten(), x.mean(0), atol=1e-6)


def test_a_reduced_range_is_corrected_too(monkeypatch):
    from lpot_lightning.quantization.fx import backend

    monkeypatch.setattr(backend, "needs_reduced_range", lambda: True)
    model, batches = made("conv2d")
    found = calibrated(model, *batches)
    recipe = with_corrections(found, *CORRECTIONS)
    simulated = found.error(recipe, recipe.int8_ops)
    measured = distance(batches[0](converted(model, found, recipe)), batches[0](model)) ** 2
    assert measured == pytest.approx(simulated, rel=0.3)


def shown(model, dry_run, batches):
    """Return the parts of a model that have seen ``batches`` and are not settled."""
    found = prepared(model, dry_run)
    with replaced(model, found.observed) as observed:
        for batch in batches:
            batch(observed)
    return found


def test_two_processes_know_together_what_one_would():
    model = seeded(layers((nn.Conv2d, 3, 6, 3, 1, 1), (nn.ReLU,), (nn.Conv2d, 6, 4, 3)))
    batches = images(8, 8)()
    whole, one, two = (
        shown(model, batches[0], share) for share in (batches, batches[:1], batches[1:])
    )
    assert whole.statistics() != one.statistics()
    seen = [one.statistics(), two.statistics()]
    for half in (one, two):
        half.merge(seen)
    first, second, alone = (
        [mean.mean for mean in found._parts[0].corrections.means.values()]
        for found in (one, two, whole)
    )
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(first, alone, strict=True))
    ranges = [found._parts[0].corrections.boundaries[0].range for found in (one, two, whole)]
    assert ranges[0].min_val == ranges[1].min_val == ranges[2].min_val
    assert ranges[0].max_val == ranges[1].max_val == ranges[2].max_val
    assert ranges[0].batches == 3


def test_a_process_without_data_takes_that_of_the_others():
    model, batches = made("conv2d")
    full, empty = shown(model, batches[0], batches), shown(model, batches[0], [])
    empty.merge([empty.statistics(), full.statistics()])
    pairs = zip(full._parts[0].corrections.means.values(),
                empty._parts[0].corrections.means.values(), strict=True)  # fmt: skip
    assert all(torch.allclose(a.mean, b.mean) for a, b in pairs)


def test_asleep_nothing_is_taken_in():
    model, batches = made("conv2d")
    found = prepared(model, batches[0])
    before = found.statistics()
    with found.asleep(), replaced(model, found.observed) as observed:
        batches[0](observed)
    assert found.statistics() == before


def test_after_the_calibration_nobody_watches():
    model, batches = made("conv2d")
    graph = calibrated(model, *batches)._parts[0].graph
    assert not any(module._forward_hooks for module in graph.modules())


def test_corrected_weights_of_a_trial_do_not_wait_for_the_garbage_collector():
    model, batches = made("conv2d")
    found = calibrated(model, *batches)
    gc.collect()
    gc.disable()
    try:
        parts = found.convert(with_corrections(found, *CORRECTIONS))
        layer = weakref.ref(parts[""].graph.get_submodule("0"))
        del parts
        found.convert(all_int8(found))
        assert layer() is None
    finally:
        gc.enable()


def test_tokens_are_no_obstacle():
    model, batches = made("embedding")
    found = calibrated(model, *batches)
    recipe = with_corrections(found, *CORRECTIONS)
    assert distance(batches[0](converted(model, found, recipe)), batches[0](model)) < 0.05


@pytest.mark.parametrize("corrections", [(), (WEIGHT,), (WEIGHT, BIAS)])
def test_weights_that_were_pruned_stay_zero(corrections):
    model = seeded(lambda: nn.Linear(64, 16))
    with torch.no_grad():
        model.weight[:, 16:] = 0
        model.weight[:, :16] = model.weight[:, :16].abs() + 0.1 * torch.rand(16, 16)
    part = calibrated(model, *rows(64)())._parts[0]
    (op,) = part.ops.nodes
    int8 = replace(capability.configs_of("Linear")[0], corrections=corrections)
    held = part.corrections.changed({op: int8}, op)
    assert not held.weight[:, 16:].any()
    assert not held.simulated()["weight"][:, 16:].any()
    assert (held.simulated()["weight"][:, :16] != 0).all()
