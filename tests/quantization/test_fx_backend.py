"""The whole way: fp32 to int8, to files, and back into other weights."""

import gc
import linecache
import pickle
import warnings
import weakref

import pytest
import torch
from int8_scenes import (
    BACKEND,
    Batch,
    all_int8,
    calibrated,
    converted,
    distance,
    int8_ops,
    load,
    other_weights,
    prepared,
    quantized,
    recipes,
    recipes_apart,
    same,
    save,
    state_of,
    truth_of,
)
from torch import nn
from torch.ao.quantization.fx.utils import assert_and_get_unique_device
from torch.fx import graph_module
from zoo import ZOO, CalledTwice, Made, calibrated_made, images, made, rows, seeded, tokens

from lpot_lightning.errors import DataError, QuantizationError

UPS = ("up1d", "up2d", "up3d")
PATTERNS = pytest.mark.parametrize(
    "patterns",
    [recipes, pytest.param(recipes_apart, marks=pytest.mark.soak)],
    ids=["in pairs", "one apart"],
)


@pytest.fixture(params=ZOO)
def name(request):
    return request.param


def test_int8_is_close_to_fp32_and_leaves_the_users_model_alone(name):
    model, batches = made(name)
    before = state_of(model)
    int8 = quantized(model, *batches)
    assert distance(batches[1](int8), batches[1](model)) < 0.05
    assert state_of(model) == before


def test_an_int8_model_says_why_it_cannot_be_pickled():
    model, batches = made("conv2d")
    int8 = quantized(model, *batches)
    for one in (int8, int8.lpot_int8):
        with pytest.raises(QuantizationError, match="^an int8 model cannot be pickled"):
            pickle.dumps(one)


@PATTERNS
def test_loaded_into_other_weights_it_is_the_same_to_the_last_bit(name, patterns, tmp_path):
    model, batches, found = calibrated_made(name)
    for recipe in patterns(found):
        int8 = save(tmp_path, model, found, recipe)
        other = other_weights(model)
        before = state_of(other)
        assert same(batches[1](load(tmp_path, other)), batches[1](int8)), recipe.int8_ops
        assert state_of(other) == before


@PATTERNS
def test_what_the_recipe_says_is_what_computes(name, patterns):
    *_, found = calibrated_made(name)
    for recipe in patterns(found):
        assert truth_of(found, recipe) == set(recipe.int8_ops)


def test_every_op_of_a_recipe_is_ranked_with_a_finite_damage(name):
    *_, found = calibrated_made(name)
    ranked = dict(found.rank(all_int8(found)))
    assert set(ranked) == set(int8_ops(found))
    assert all(0 < damage < 0.05 for damage in ranked.values())


@pytest.mark.parametrize("name", UPS)
def test_a_transposed_conv_is_int8_only_where_its_kernel_is_right(name):
    model, batches = made(name)
    found = calibrated(model, *batches)
    if "1" in found.excluded:
        assert "its int8 kernel is wrong on this machine" in found.excluded["1"]
        assert all_int8(found).fp32_ops == ("1",)
    else:
        assert int8_ops(found) == ("0", "1")


def test_a_model_with_nothing_in_int8_has_no_parts():
    model, batches = made("residual")
    found = calibrated(model, *batches)
    assert found.convert(all_int8(found).with_fp32(int8_ops(found))) == {}


def test_the_same_recipe_twice_is_the_same_module():
    model, batches = made("residual")
    found = calibrated(model, *batches)
    assert found.convert(all_int8(found))[""] is found.convert(all_int8(found))[""]


def test_calibration_sees_the_calibration_data_alone():
    model, batches = made("linear")
    found = prepared(model, batches[0])
    observers = [m for m in found.observed[""].graph.modules() if hasattr(m, "batches")]
    assert [observer.batches for observer in observers] == [0] * len(observers)


def test_a_layer_called_twice_holds_the_range_of_both_calls():
    model = seeded(CalledTwice)
    model.shared.weight.data *= 0.2  # the second call gives much less than the first
    batches = rows(8)()
    int8 = quantized(model, *batches)
    assert distance(batches[0](int8), batches[0](model)) < 0.05


def test_sigmoid_of_the_input_is_not_held_in_the_range_of_a_sigmoid():
    model = seeded(lambda: nn.Sequential(nn.Sigmoid(), nn.Linear(8, 4)))
    batches = rows(8)()
    int8 = quantized(model, *batches)
    assert distance(batches[0](int8), batches[0](model)) < 0.05


def test_torch_is_left_as_it_was():
    model, batches = made("functions")
    before = state_of_torch()
    found = calibrated(model, *batches)
    converted(model, found)
    found.rank(all_int8(found))
    assert state_of_torch() == before


def state_of_torch():
    return (
        torch.backends.quantized.engine,
        list(warnings.filters),
        torch.get_rng_state().tolist(),
        torch.get_num_threads(),
        torch.is_grad_enabled(),
    )


def test_ten_trials_leave_no_model_and_no_source_behind():
    model, batches = made("residual")
    found = calibrated(model, *batches)
    sources, lines = len(graph_module._loader.eval_cache), len(linecache.cache)
    seen = []
    for turn in range(10):
        recipe = all_int8(found).with_fp32([int8_ops(found)[turn % 4]])
        int8 = converted(model, found, recipe)
        batches[0](int8)
        seen.append(weakref.ref(int8))
    del int8
    gc.collect()
    assert sum(one() is not None for one in seen) <= 1  # the last trial's, kept for the next call
    assert len(graph_module._loader.eval_cache) == sources
    assert len(linecache.cache) <= lines + 1
    assert assert_and_get_unique_device.cache_info().currsize == 0


def test_the_weights_of_a_trial_do_not_wait_for_the_garbage_collector():
    model, batches = made("residual")
    found = calibrated(model, *batches)
    recipes = [all_int8(found).with_fp32([op]) for op in int8_ops(found)[:3]]
    gc.collect()
    gc.disable()
    try:
        made_by = [weights_in(found.convert(recipe)) for recipe in recipes]
        assert [any(one() is not None for one in weights) for weights in made_by[:2]] == [False] * 2
    finally:
        gc.enable()


def weights_in(parts):
    layers = [layer for part in parts.values() for layer in part.graph.modules()]
    packed = [layer for layer in layers if hasattr(layer, "_packed_params")]
    assert packed
    return list(map(weakref.ref, packed))


def test_the_same_data_gives_the_same_tensors_twice():
    model, batches = made("residual")
    one, two = (BACKEND.to_plain(quantized(model, *batches)) for _ in range(2))
    assert all(torch.equal(one[key], two[key]) for key in one)


def test_a_batch_with_nan_is_named():
    model, batches = made("linear")
    batches[2].args[0][3, 3] = float("nan")
    with pytest.raises(DataError, match="calibration batch 2: an activation is not finite"):
        calibrated(model, *batches)


def test_a_mask_of_minus_infinity_keeps_its_op_in_fp32():
    mask = torch.triu(torch.full((8, 8), float("-inf")), 1)
    model = seeded(lambda: Made(lambda m, x: m.fc(torch.softmax(x + mask, -1)), fc=nn.Linear(8, 4)))
    found = calibrated(model, Batch(torch.randn(2, 8, 8)))
    assert found.excluded == {"#add_0": "works on minus infinity, as masks do"}


def test_ops_on_integers_stay_as_they_are():
    model = seeded(lambda: Made(lambda m, x: m.fc(x + (x > 0) * 2), fc=nn.Linear(8, 4)))
    batches = rows(8)()
    found = calibrated(model, *batches)
    assert found.excluded["#mul_0"] == "works on integers"
    assert distance(batches[0](converted(model, found)), batches[0](model)) < 0.05


def test_a_part_without_calibration_data_stays_fp32():
    model, batches = made("linear")
    found = prepared(model, batches[0])
    found.settle()
    assert set(found.excluded.values()) == {"saw no calibration data"}
    assert int8_ops(found) == ()


def test_without_an_engine_nothing_can_be_quantized(monkeypatch):
    only_engines(monkeypatch, ["none"])
    model, batches = made("linear")
    with pytest.raises(QuantizationError, match=r"no int8 engine: it supports \['none'\]"):
        prepared(model, batches[0])


def test_a_model_comes_back_where_its_engine_is_missing(tmp_path, monkeypatch):
    model, batches = made("residual")
    int8 = save(tmp_path, model, calibrated(model, *batches))
    only_engines(monkeypatch, ["none", "fbgemm"])
    assert same(batches[0](load(tmp_path, model)), batches[0](int8))


def only_engines(monkeypatch, names):
    kind = type(torch.backends.quantized)
    monkeypatch.setattr(kind, "supported_engines", names)


def test_dropout_is_off_whatever_mode_it_was_traced_in():
    model = seeded(
        lambda: Made(
            lambda m, x: m.fc(nn.functional.dropout(x, 0.5, m.training)), fc=nn.Linear(8, 4)
        )
    )
    batches = rows(8)()
    int8 = quantized(model, *batches)
    assert same(batches[0](int8), batches[0](int8))


def test_tokens_may_be_reshaped_on_their_way():
    model = seeded(
        lambda: Made(lambda m, x: m.fc(m.e(x.view(-1))), e=nn.Embedding(20, 8), fc=nn.Linear(8, 3))
    )
    found = calibrated(model, *tokens()())
    assert int8_ops(found) == ("e", "fc")


def test_images_may_be_padded_to_the_same_size():
    model = seeded(lambda: nn.Sequential(nn.Conv2d(3, 4, 3, padding="same"), nn.ReLU()))
    assert int8_ops(calibrated(model, *images(8, 8)())) == ("0",)


class Recurrent(nn.Module):
    """Holds a layer that nobody can trace around, and one that has no int8 kernel."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.GRU(6, 6, batch_first=True)
        self.out = nn.Linear(6, 3)

    def forward(self, x):
        features, _ = self.rnn(x[:, None])
        return self.out(features) if features.sum() < 1e9 else features


def test_a_layer_without_a_kernel_is_named_where_no_graph_is_made_around_it():
    found = prepared(seeded(Recurrent).eval(), Batch(torch.randn(4, 6)))
    assert found.excluded == {"rnn": "a `GRU` alone is not quantized"}
    assert [op.name for op in found.ops] == ["out"]


def test_another_engine_is_taken_where_it_has_fewer_wrong_kernels(monkeypatch, tmp_path):
    from lpot_lightning.quantization.fx import prepared as ours

    def broken_on_x86(part, converted, args, kwargs):
        wrong = torch.backends.quantized.engine == "x86"
        return dict.fromkeys(part.ops.nodes, "is wrong" if wrong else "")

    monkeypatch.setattr(ours, "check_kernels", broken_on_x86)
    if ours.engines()[:2] != ["x86", "onednn"]:
        pytest.skip("needs an x86 torch with two engines")
    before = torch.backends.quantized.engine
    model, batch = seeded(lambda: nn.Sequential(nn.Linear(4, 4))).eval(), Batch(torch.randn(8, 4))
    found = calibrated(model, batch)
    assert found.describe(all_int8(found))["engine"] == "onednn"
    assert int8_ops(found) == ("0",)
    int8 = converted(model, found)
    save(tmp_path, model, found)
    assert same(batch(load(tmp_path, other_weights(model))), batch(int8))
    assert torch.backends.quantized.engine == before
