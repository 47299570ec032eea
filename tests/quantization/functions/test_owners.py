"""Modules with weights and a `forward` of their own, from data to int8 and to files."""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from lpot_lightning.errors import ArtifactError
from lpot_lightning.module.calls import recorded
from lpot_lightning.module.copying import second_model
from lpot_lightning.module.stand_in import computing, put, replaced
from lpot_lightning.quantization.corrections import BIAS
from lpot_lightning.quantization.kernels.layers import Int8Conv, Int8Layer, Int8Linear
from lpot_lightning.quantization.layers import PreparedLayers
from lpot_lightning.quantization.onednn import OnednnBackend
from lpot_lightning.recipe import FP32, OpConfig, Recipe


class Same(nn.Conv2d):
    """Pads by itself, as timm's ``Conv2dSame`` does."""

    def forward(self, x):
        missing = [max((-(n // -2) - 1) * 2 + 3 - n, 0) for n in x.shape[-2:]]
        left, top = missing[1] // 2, missing[0] // 2
        x = F.pad(x, (left, missing[1] - left, top, missing[0] - top))
        return F.conv2d(x, self.weight, self.bias, self.stride, (0, 0), self.dilation, self.groups)


class Standardized(nn.Conv2d):
    """Weight standardization, as timm's ``StdConv2d`` writes it."""

    def forward(self, x):
        flat = self.weight.reshape(1, self.out_channels, -1)
        weight = F.batch_norm(flat, None, None, training=True, momentum=0.0)
        return self._conv_forward(x, weight.reshape_as(self.weight), self.bias)


class Casting(nn.Linear):
    """Whisper's kind of Linear."""

    def forward(self, x):
        return F.linear(x, self.weight.to(x.dtype), self.bias.to(x.dtype))


class Lora(nn.Linear):
    def __init__(self, inputs, outputs):
        super().__init__(inputs, outputs)
        self.down, self.up = nn.Linear(inputs, 2, bias=False), nn.Linear(2, outputs, bias=False)

    def forward(self, x):
        return F.linear(x, self.weight, self.bias) + self.up(self.down(x))


class Twice(nn.Linear):
    def forward(self, x):
        return F.linear(super().forward(x).relu(), self.weight)


class Three(nn.Module):
    """Queries, keys and values of one weight, as in attention across."""

    def __init__(self, width=8):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(3 * width, width) / 3)

    def forward(self, x):
        q, k, v = (F.linear(x, one) for one in self.weight.chunk(3))
        return q + k.relu() * v


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.attn = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, x):
        return x + self.attn(x, x, x, need_weights=False)[0]


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.table, self.mix = nn.Embedding(10, 8), nn.Linear(8, 8)

    def forward(self, x):
        return F.linear(self.mix(x), self.table.weight)


def image(seed: int = 0) -> torch.Tensor:
    return torch.randn(6, 8, 9, 9, generator=torch.Generator().manual_seed(seed))


def tokens(seed: int = 0) -> torch.Tensor:
    return torch.randn(16, 5, 8, generator=torch.Generator().manual_seed(seed))


MODULES = {
    "padding": (lambda: Same(8, 6, 3, 2), image, ["0#conv2d_0"]),
    "standardized": (lambda: Standardized(8, 6, 3, padding="same"), image, ["0#conv2d_0"]),
    "casting": (lambda: Casting(8, 8), tokens, ["0#linear_0"]),
    "lora": (lambda: Lora(8, 8), tokens, ["0#linear_0", "0.down", "0.up"]),
    "twice": (lambda: Twice(8, 8), tokens, ["0#linear_0", "0#linear_1"]),
    "chunks": (Three, tokens, ["0#linear_0", "0#linear_1", "0#linear_2"]),
    "attention": (Attention, tokens, ["0.attn#linear_0", "0.attn#linear_1"]),
    "tied": (Tied, tokens, ["0#linear_0", "0.mix"]),
}


def model_of(name: str) -> tuple[nn.Module, Any]:
    make, data, _ = MODULES[name]
    torch.manual_seed(0)
    return nn.Sequential(make(), nn.ReLU()).eval(), data


def calibrated(model: nn.Module, data: Any, seeds: Any = range(4)) -> PreparedLayers:
    with torch.no_grad(), recorded(model) as calls:
        model(data(seeds[0]))
    prepared = OnednnBackend().prepare(model, calls)
    with torch.no_grad(), replaced(model, prepared.observed) as observed:
        for seed in seeds:
            observed(data(seed))
    prepared.settle()
    return prepared


def all_int8(prepared: PreparedLayers, **changed: OpConfig) -> Recipe:
    return Recipe.of({op.name: op.configs[0] for op in prepared.ops} | changed)


def made(model: nn.Module, prepared: PreparedLayers, recipe: Recipe) -> nn.Module:
    put(model, prepared.convert(recipe))
    return model


def error(int8: nn.Module, fp32: nn.Module, x: torch.Tensor) -> float:
    with torch.no_grad():
        wanted = fp32(x)
        return float((int8(x) - wanted).norm() / wanted.norm())


def kernels_run(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a list that grows with every kernel that computes."""
    run: list[str] = []
    forward = Int8Layer.forward

    def noted(self, *args):
        run.append(type(self).__name__)
        return forward(self, *args)

    monkeypatch.setattr(Int8Layer, "forward", noted)
    return run


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
@pytest.mark.parametrize("name", MODULES)
def test_functions_are_int8_and_the_module_is_left_alone(name, monkeypatch):
    model, data = model_of(name)
    fp32 = second_model(model)
    prepared = calibrated(model, data)
    assert all(
        torch.equal(*pair) for pair in zip(model.parameters(), fp32.parameters(), strict=True)
    )
    assert "forward" not in {key for one in model.modules() for key in vars(one)}
    ops = [op.name for op in prepared.ops if op.int8_configs and op.kind != "Embedding"]
    assert ops == MODULES[name][2]
    told = {"0.attn#scaled_dot_product_attention_0"} if name == "attention" else set()
    assert set(prepared.excluded) == told
    int8 = made(model, prepared, all_int8(prepared))
    run = kernels_run(monkeypatch)
    assert 0 < error(int8, fp32, data(1)) < 0.03
    assert len(run) == len(ops)


def all_corrected(prepared):
    """Return all in int8, with all that may be done to weights and inputs before."""
    configs = {
        op.name: dataclasses.replace(op.configs[0], corrections=op.corrections)
        for op in prepared.ops
    }
    return Recipe.of(configs)


@pytest.mark.parametrize("recipe_of", [all_int8, all_corrected])
@pytest.mark.parametrize("name", MODULES)
def test_graphs_compute_the_same_by_kernels(name, recipe_of):
    model, data = model_of(name)
    prepared = calibrated(model, data)
    recipe = recipe_of(prepared)
    with replaced(model, prepared.convert(recipe)):
        with torch.no_grad():
            wanted = model(data(1))
        with computing(model, prepared.graphs(model)), torch.no_grad():
            found = model(data(1))
            counts = model.forward.counts
    assert counts.by_graph == counts.calls == 1
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("recipe_of", [all_int8, all_corrected])
@pytest.mark.parametrize("name", MODULES)
def test_files_give_the_same_model_whatever_weights_it_comes_with(name, recipe_of, monkeypatch):
    model, data = model_of(name)
    prepared, backend = calibrated(model, data), OnednnBackend()
    recipe = recipe_of(prepared)
    described, int8 = prepared.describe(recipe), made(model, prepared, recipe)
    plain = {key: value.clone() for key, value in backend.to_plain(int8).items()}
    torch.manual_seed(7)
    other = nn.Sequential(MODULES[name][0](), nn.ReLU()).eval()
    put(other, backend.rebuild(other, described))
    backend.fill(other, plain, described["engine"])
    with torch.no_grad():
        wanted = int8(data(1))
        run = kernels_run(monkeypatch)
        assert torch.equal(other(data(1)), wanted)
    assert len(run) == sum(op.kind != "Embedding" for op in prepared.ops)
    backend.join(other, described)
    with torch.no_grad():
        torch.testing.assert_close(other(data(1)), wanted, rtol=1e-4, atol=1e-5)


def test_a_function_in_fp32_is_the_function_itself():
    model, data = model_of("chunks")
    prepared = calibrated(model, data)
    some = all_int8(prepared, **{"0#linear_0": FP32, "0#linear_2": FP32})
    none = Recipe.of({op.name: FP32 for op in prepared.ops})
    assert list(prepared.convert(some)["0"].graph) == ["linear_1"]
    fp32, errors = second_model(model), []
    for recipe in (none, some, all_int8(prepared)):
        with replaced(model, prepared.convert(recipe)):
            errors.append(error(model, fp32, data(1)))
    assert 0 == errors[0] < errors[1] < errors[2]


@pytest.mark.parametrize("name", ["padding", "standardized"])
def test_a_call_with_other_weights_computes_in_floats(name):
    model, data = model_of(name)
    prepared = calibrated(model, data)
    graphs = prepared.graphs(model)
    parts = prepared.convert(all_int8(prepared))
    with torch.no_grad(), replaced(model, parts), computing(model, graphs):
        model(data(1))
        before = model[0].weight.clone()
        model[0].weight.uniform_(-1, 1)
        found = model(data(1))
        model[0].weight.copy_(before)
        again = model(data(1))
    with torch.no_grad():
        wanted = model(data(1))
        model[0].weight.uniform_(-1, 1)
    assert float((again - wanted).norm() / wanted.norm()) < 0.03
    assert float((found - wanted).norm() / wanted.norm()) > 0.3


@pytest.mark.parametrize("factor", [1 + 1e-6, 1.01])
def test_a_weight_is_known_by_its_values(factor, monkeypatch):
    model, data = model_of("standardized")
    prepared = calibrated(model, data)
    int8 = made(model, prepared, all_int8(prepared))
    form = int8[0].lpot_int8["conv2d_0"]
    form.layer.kernel.scales.mul_(1.3)  # as a correction of the weight does
    weight = prepared._seen.layers["0#conv2d_0"].layer.weight
    assert form.is_of(weight * factor, model[0].bias) == (factor < 1.001)


def test_another_stride_computes_in_floats():
    model, data = model_of("padding")
    fp32, prepared = second_model(model), calibrated(model, data)
    int8 = made(model, prepared, all_int8(prepared))
    for one in (int8, fp32):
        one[0].stride = (1, 1)
    assert error(int8, fp32, data(1)) == 0


def test_a_weight_that_depends_on_the_data_is_no_op():
    class Hyper(nn.Linear):
        def forward(self, x):
            return F.linear(x, self.weight * x.mean())

    class Growing(nn.Linear):
        steps = 1.0

        def forward(self, x):
            self.steps += 1
            return F.linear(x, self.weight * self.steps)

    prepared = calibrated(nn.Sequential(Hyper(8, 8), Growing(8, 8), nn.Linear(8, 8)), tokens)
    assert [op.name for op in prepared.ops if op.int8_configs] == ["2"]
    assert prepared.excluded == {
        "0": "`weight` goes into no weight of an `F.linear` or convolution that stays the same",
        "0#linear_0": "its weight is computed from the data",
        "1#linear_0": "its weight is another one in other calls",
    }


def test_values_that_are_not_finite_refuse_their_function_alone():
    class Both(nn.Linear):
        def forward(self, x):
            y = F.linear(torch.where(x > 2, torch.nan, x), self.weight, self.bias)
            return F.linear(y.nan_to_num(0.0), self.weight)

    prepared = calibrated(nn.Sequential(Both(8, 8)), tokens)
    assert prepared.excluded == {"0#linear_0": "works on NaN or infinity"}
    assert [op.name for op in prepared.ops if op.int8_configs] == ["0#linear_1"]


def test_a_module_of_later_batches_is_int8_as_well():
    class Rare(nn.Module):
        def __init__(self):
            super().__init__()
            self.often, self.rare = Casting(8, 8), Casting(8, 8)

        def forward(self, x):
            return self.often(x) if float(x[0, 0, 0]) == float(tokens()[0, 0, 0]) else self.rare(x)

    prepared = calibrated(Rare(), tokens)
    assert [op.name for op in prepared.ops] == ["often#linear_0", "rare#linear_0"]


def test_what_was_seen_in_several_processes_is_put_together():
    model, data = model_of("lora")
    whole, one, rest, other = (
        calibrated(model, data, seeds) for seeds in (range(4), (0, 1), (2, 3), range(4))
    )
    other.merge([one.statistics(), rest.statistics()])
    other.settle()
    assert other.describe(all_int8(whole)) == whole.describe(all_int8(whole))


def test_what_some_processes_do_not_see_is_no_op():
    class Odd(nn.Linear):
        def forward(self, x):
            return F.linear(x, self.weight) if len(x) < 16 else x * self.weight.sum()

    seen = calibrated(nn.Sequential(Odd(8, 8), nn.Linear(8, 8)), lambda seed: tokens(seed)[:3])
    mine = calibrated(nn.Sequential(Odd(8, 8), nn.Linear(8, 8)), tokens)
    for one in (mine, seen):
        one.merge([mine.statistics(), seen.statistics()])
        one.settle()
        assert [op.name for op in one.ops] == ["1"]
        assert "different ways" in one.excluded["0#linear_0"]


def test_bias_correction_gives_the_means_back():
    model, _ = model_of("padding")

    def data(seed):
        return image(seed) + 1

    prepared = calibrated(model, data)
    plain = prepared.ops[0].configs[0]
    assert BIAS in prepared.ops[0].corrections
    asked = OpConfig(plain.activation, plain.weight, (BIAS,))
    means = []
    for config in (FP32, plain, asked):
        parts = prepared.convert(Recipe.of({"0#conv2d_0": config}))
        with torch.no_grad(), replaced(model, parts):
            means.append(torch.cat([model[0](data(seed)) for seed in range(4)]).mean((0, 2, 3)))
    off, corrected = ((one - means[0]).abs().sum() for one in means[1:])
    assert corrected < off / 2


def test_each_has_a_cost_and_an_error():
    model, data = model_of("lora")
    prepared = calibrated(model, data)
    assert all(0 < error < 0.01 for _, error in prepared.rank(all_int8(prepared)))
    assert set(prepared.profile()) == {op.name for op in prepared.ops}
    assert prepared.ops[0].weight_bytes == 4 * (64 + 8)


def test_norm_and_activation_behind_it_move_into_its_kernel():
    torch.manual_seed(0)
    norm = nn.BatchNorm2d(6)
    norm.running_mean.normal_()
    model = nn.Sequential(Standardized(8, 6, 3), norm, nn.SiLU(), Same(6, 8, 3, 2)).eval()
    prepared = calibrated(model, image)
    programs = []
    with torch.no_grad(), replaced(model, prepared.convert(all_int8(prepared))):
        graphs = prepared.graphs(model)
        lower = graphs[""]._lower
        graphs[""]._lower = lambda *given: programs.append(lower(*given)) or programs[-1]
        with computing(model, graphs):
            model(image(1))
    steps = [programs[0]._draft.step(node) for node in programs[0].graph.nodes]
    assert [type(step) for step in steps if isinstance(step, Int8Layer)] == [Int8Conv, Int8Conv]
    assert "batch_norm" not in programs[0].code
    assert "silu" not in programs[0].code


def test_a_forward_that_cannot_be_captured_whole():
    class Broken(Casting):
        def forward(self, x):
            torch._dynamo.graph_break()
            return super().forward(x).relu()

    model = nn.Sequential(Broken(8, 8), nn.Linear(8, 4)).eval()
    prepared = calibrated(model, tokens)
    with torch.no_grad(), replaced(model, prepared.convert(all_int8(prepared))):
        wanted = model(tokens(1))
        with computing(model, prepared.graphs(model)):
            torch.testing.assert_close(model(tokens(1)), wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", MODULES)
def test_files_hold_the_int8_form_alone_of_a_weight_that_goes_into_functions_alone(name):
    model, data = model_of(name)
    prepared = calibrated(model, data)
    int8 = made(model, prepared, all_int8(prepared))
    kept = {key for key in OnednnBackend().to_plain(int8) if key in dict(model.named_parameters())}
    weights = {key for key in kept if key.endswith("weight") and "lpot_int8" not in key}
    wanted = {"standardized": {"0.weight"}, "chunks": {"0.weight"}, "tied": {"0.table.weight"}}
    assert weights == wanted.get(name, set())


def test_files_hold_a_weight_that_something_else_needs():
    class Penalty(Casting):
        def forward(self, x):
            return super().forward(x) + self.weight.square().mean()

    model = nn.Sequential(Penalty(8, 8), Twice(8, 8)).eval()
    prepared = calibrated(model, tokens)
    recipe = all_int8(prepared, **{"1#linear_1": FP32})
    plain = OnednnBackend().to_plain(made(model, prepared, recipe))
    assert {"0.weight", "1.weight"} <= set(plain)


def test_copies_compute_for_themselves():
    model, data = model_of("casting")
    prepared = calibrated(model, data)
    int8 = made(model, prepared, all_int8(prepared))
    twin = copy.deepcopy(int8)
    with torch.no_grad():
        wanted = int8(data(1))
        int8[0].lpot_int8["linear_0"].layer.kernel.scales.zero_()
        assert torch.equal(twin(data(1)), wanted)


def test_files_of_something_else_are_told():
    model, data = model_of("casting")
    prepared = calibrated(model, data)
    described = prepared.describe(all_int8(prepared))
    with pytest.raises(ArtifactError, match="the model has no `0`, that of the files has"):
        OnednnBackend().rebuild(nn.Linear(8, 8), described)
    described["op"]["0#linear_0"]["function"]["shape"] = [10**6, 10**6]
    with pytest.raises(ArtifactError, match="which is no shape of one"):
        OnednnBackend().rebuild(model, described)


def test_what_calls_its_weight_another_way_is_told():
    class Adding(nn.Module):
        def __init__(self):
            super().__init__()
            self.places = nn.Parameter(torch.zeros(5, 8))

        def forward(self, x):
            return x + self.places

    prepared = calibrated(nn.Sequential(Adding(), nn.Linear(8, 8)), tokens)
    assert prepared.excluded == {
        "0": "`places` goes into no weight of an `F.linear` or convolution that stays the same"
    }


def test_a_layer_inside_that_stays_fp32_is_not_taken():
    model, data = model_of("lora")
    fp32, prepared = second_model(model), calibrated(model, data)
    recipe = all_int8(prepared, **{"0.down": FP32, "0.up": FP32})
    int8 = made(model, prepared, recipe)
    kinds = [type(one) for one in int8.modules() if isinstance(one, Int8Layer)]
    assert kinds == [Int8Linear]
    assert 0 < error(int8, fp32, data(1)) < 0.03
