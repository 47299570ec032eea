"""From a model to int8 and back from its files, layer by layer and by graphs."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from lpot_lightning.errors import ArtifactError
from lpot_lightning.module.calls import ModuleCalls, recorded
from lpot_lightning.module.copying import second_model
from lpot_lightning.module.stand_in import put, replaced
from lpot_lightning.quantization import onednn
from lpot_lightning.quantization.corrections import BIAS
from lpot_lightning.quantization.kernels import proof
from lpot_lightning.quantization.kernels.bounds import SEVEN_BITS
from lpot_lightning.quantization.kernels.layers import Int8Conv
from lpot_lightning.quantization.kernels.saturation import may_saturate
from lpot_lightning.quantization.layers import PreparedLayers
from lpot_lightning.quantization.onednn import OnednnBackend
from lpot_lightning.recipe import FP32, OpConfig, Recipe
from lpot_lightning.runs.preparation import int8_in


def shown(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


class Net(nn.Module):
    """Convolutions, norms, tokens, a table, a residual."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.deep = nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=False)
        self.table, self.mix = nn.Embedding(10, 8), nn.Linear(8, 8)
        self.layer_norm, self.head = nn.LayerNorm(8), nn.Linear(8, 4)

    def forward(self, x, ids):
        y = F.relu(self.norm(self.conv(x)))
        y = (y + self.deep(y)).flatten(2).transpose(1, 2)
        tokens = self.mix(y + self.table(ids)[:, None])
        return self.head(self.layer_norm(tokens).mean(1))


BATCHES = [(shown(6, 3, 5, 5, seed=n), torch.arange(6) + n) for n in range(4)]


def net() -> nn.Module:
    torch.manual_seed(0)
    made = Net()
    made.norm.running_mean.normal_(0, 0.3)
    made.norm.running_var.uniform_(0.5, 1.5)
    return made.eval()


def calibrated(model: nn.Module, batches: list[Any] = BATCHES, **asked: Any) -> PreparedLayers:
    with torch.no_grad(), recorded(model) as calls:
        model(*batches[0])
    prepared = OnednnBackend().prepare(model, calls, **asked)
    with torch.no_grad(), replaced(model, prepared.observed) as observed:
        for batch in batches:
            observed(*batch)
    prepared.settle()
    return prepared


def all_int8(prepared: PreparedLayers, **changed: OpConfig) -> Recipe:
    return Recipe.of({op.name: changed.get(op.name, op.configs[0]) for op in prepared.ops})


def error(int8: nn.Module, fp32: nn.Module) -> float:
    with torch.no_grad():
        found, wanted = int8(*BATCHES[0]), fp32(*BATCHES[0])
    return float((found - wanted).norm() / wanted.norm())


def converted(model: nn.Module, prepared: PreparedLayers, recipe: Recipe) -> nn.Module:
    made = second_model(model)
    put(made, prepared.convert(recipe))
    return made


def test_all_layers_are_int8_and_the_model_is_left_alone():
    model = net()
    before = copy.deepcopy(model.state_dict())
    prepared = calibrated(model)
    assert [op.name for op in prepared.ops] == ["conv", "deep", "table", "mix", "head"]
    assert set(prepared.excluded) == {"layer_norm"}
    int8 = converted(model, prepared, all_int8(prepared))
    assert 0 < error(int8, model) < 0.03
    assert all(torch.equal(model.state_dict()[name], before[name]) for name in before)
    assert "forward" not in {name for one in model.modules() for name in vars(one)}


def test_an_op_in_fp32_is_the_layer_itself():
    model = net()
    prepared = calibrated(model)
    some = all_int8(prepared, conv=FP32, head=FP32)
    int8 = converted(model, prepared, some)
    assert error(int8, model) < error(converted(model, prepared, all_int8(prepared)), model)
    assert torch.equal(int8.head.weight, model.head.weight)
    parts = prepared.convert(some)
    assert [path for path, part in parts.items() if part.graph] == ["deep", "table", "mix"]


@pytest.mark.parametrize("joined", [True, False])
def test_files_give_the_same_model_whatever_weights_it_comes_with(joined):
    model = net()
    prepared, backend = calibrated(model), OnednnBackend()
    recipe = all_int8(prepared, mix=FP32)
    int8, described = converted(model, prepared, recipe), prepared.describe(recipe)
    plain = {name: value.clone() for name, value in backend.to_plain(int8).items()}
    torch.manual_seed(7)
    other = Net().eval()
    put(other, backend.rebuild(other, described))
    backend.fill(other, plain, described["engine"])
    for one in (int8, other) if joined else ():
        backend.join(one, described)
    with torch.no_grad():
        assert torch.equal(other(*BATCHES[1]), int8(*BATCHES[1]))
    assert not joined or other.forward.counts.by_graph == 1


FORGED = {
    "missing": (None, "tensor `mix.lpot_int8.kernel.weight` is missing"),
    "shape": (lambda one: one[:1], "is int8[1, 8], but this model has int8[8, 8]"),
    "type": (lambda one: one.float(), "is float32[8, 8]"),
}


@pytest.mark.parametrize("name", FORGED)
def test_forged_tensors_are_refused_by_name(name):
    change, words = FORGED[name]
    refused(words, "mix.lpot_int8.kernel.weight", change)


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf")])
def test_a_forged_scale_is_refused(value):
    words = "holds a scale that is not finite and positive"
    refused(words, "mix.lpot_int8.kernel.scales", lambda one: one.fill_(value))


def refused(words: str, name: str, change: Any) -> None:
    prepared = calibrated(net())
    recipe = all_int8(prepared)
    backend, made = OnednnBackend(), net()
    plain = backend.to_plain(converted(net(), prepared, recipe))
    forged = {**plain, name: change(plain[name].clone())} if change else dict(plain)
    if not change:
        del forged[name]
    put(made, backend.rebuild(made, prepared.describe(recipe)))
    with pytest.raises(ArtifactError) as told:
        backend.fill(made, forged, "onednn")
    assert words in str(told.value)


@pytest.mark.parametrize("forged", [{"scale": 0.0}, {"scale": "x"}, {"zero_point": 999}])
def test_a_forged_range_is_refused_by_the_name_of_its_op(forged):
    prepared = calibrated(net())
    described = prepared.describe(all_int8(prepared))
    described["op"]["mix"]["activation"] |= forged
    with pytest.raises(ArtifactError, match="op `mix` of the tune config"):
        OnednnBackend().rebuild(net(), described)


def test_what_a_module_saves_besides_tensors_stays_its_own():
    class Extra(Net):
        kept = "own"

        def get_extra_state(self):
            return self.kept

        def set_extra_state(self, state):
            self.kept = state

    model = Extra().eval()
    prepared, backend = calibrated(model), OnednnBackend()
    recipe = all_int8(prepared)
    int8, described = converted(model, prepared, recipe), prepared.describe(recipe)
    plain = backend.to_plain(int8)
    assert all(isinstance(one, torch.Tensor) for one in plain.values())
    other = Extra().eval()
    other.kept = "another"
    put(other, backend.rebuild(other, described))
    backend.fill(other, plain, described["engine"])
    assert other.kept == "another"
    del plain["norm.weight"]
    with pytest.raises(ArtifactError, match="tensor `norm.weight` is missing"):
        backend.fill(other, plain, described["engine"])


def test_an_int8_model_is_known_as_one():
    model = net()
    prepared = calibrated(model)
    assert int8_in(model) is None
    name = int8_in(converted(model, prepared, all_int8(prepared)))
    assert name == "conv.lpot_int8.kernel.weight"


def test_a_model_of_another_structure_is_told():
    prepared = calibrated(net())
    described = prepared.describe(all_int8(prepared))
    with pytest.raises(ArtifactError, match="the model has no `conv`, that of the files has"):
        OnednnBackend().rebuild(nn.Sequential(nn.Linear(3, 3)), described)
    changed = net()
    changed.head = nn.ConvTranspose1d(8, 4, 1)
    with pytest.raises(ArtifactError, match="`head` is a `ConvTranspose1d`, which has no int8"):
        OnednnBackend().rebuild(changed, described)
    changed.head = nn.GRU(8, 4)
    with pytest.raises(ArtifactError, match="is `int8`, and a `GRU` of the model, which cannot"):
        OnednnBackend().rebuild(changed, described)


def test_what_was_seen_in_several_processes_is_put_together():
    whole, one, other = calibrated(net()), calibrated(net(), BATCHES[:2]), calibrated(net())
    rest = calibrated(net(), BATCHES[2:])
    other.merge([one.statistics(), rest.statistics()])
    other.settle()
    recipe = all_int8(whole)
    assert other.describe(recipe) == whole.describe(recipe)


def test_a_layer_that_is_not_finite_stays_fp32_alone():
    class Cleaned(Net):
        def forward(self, x, ids):
            return super().forward(torch.where(x > 2, torch.nan, x).nan_to_num(0.0), ids)

    class Spoilt(Net):
        def forward(self, x, ids):
            y = self.conv(torch.where(x > 2, torch.nan, x)).nan_to_num(0.0)
            return self.head(self.mix(y.flatten(2).transpose(1, 2)).mean(1))

    assert "conv" not in calibrated(Cleaned().eval()).excluded
    excluded = calibrated(Spoilt().eval()).excluded
    assert excluded["conv"] == "works on NaN or infinity"
    assert excluded["deep"] == excluded["table"] == "saw no calibration data"
    assert "mix" not in excluded


def test_a_layer_of_later_batches_is_int8_as_well():
    class Rare(Net):
        def forward(self, x, ids):
            tokens = x.flatten(2).mean(2) @ torch.ones(3, 8)
            return self.head(self.mix(tokens) if ids[0] else tokens)

    prepared = calibrated(Rare().eval())
    assert [op.name for op in prepared.ops if op.int8_configs] == ["mix", "head"]


def test_a_wrong_kernel_leaves_its_op_to_the_arithmetic_alone(monkeypatch):
    monkeypatch.setattr(proof, "_PROVED", {})
    kernel = Int8Conv._kernel

    def wrong(self, x, *given):
        found = kernel(self, x, *given)
        return found + 1 if self.geometry.groups > 1 else found

    monkeypatch.setattr(Int8Conv, "_kernel", wrong)
    model = net()
    prepared = calibrated(model)
    assert list(prepared.exact) == ["deep"]
    assert "its int8 kernel is wrong for an input of [1, 8, 5, 5]" in prepared.exact["deep"]
    assert error(converted(model, prepared, all_int8(prepared)), model) < 0.03


def test_without_vnni_weights_are_less_and_activations_whole(monkeypatch):
    monkeypatch.setattr(onednn, "saturates", lambda: True)
    model = net()
    prepared = calibrated(model)
    recipe = all_int8(prepared)
    assert prepared.describe(recipe)["reduce_range"] is False
    parts = prepared.convert(recipe)
    kernels = [part.graph.kernel for path, part in parts.items() if path != "table"]
    assert {one.x.high for one in kernels} == {255}
    assert not any(may_saturate(one.weight, 255) for one in kernels)


def test_seven_bits_of_a_training_or_a_file_stay(monkeypatch):
    for name in ("PAIRED", "WHOLE"):
        monkeypatch.setattr(onednn, name, SEVEN_BITS)
    model = net()
    prepared = calibrated(model)
    recipe = all_int8(prepared)
    described = prepared.describe(recipe)
    assert described["reduce_range"] is True
    parts = prepared.convert(recipe)
    assert {part.graph.kernel.x.high for path, part in parts.items() if path != "table"} == {127}
    assert {
        part.graph.kernel.x.high
        for path, part in OnednnBackend().rebuild(net(), described).items()
        if path != "table"
    } == {127}


def test_bias_correction_gives_the_means_back():
    model = net()
    prepared = calibrated(model)
    plain = next(op for op in prepared.ops if op.name == "deep").configs[0]
    asked = OpConfig(plain.activation, plain.weight, (BIAS,))
    means = []
    for config in (FP32, plain, asked):
        recipe = all_int8(prepared, deep=config, conv=FP32)
        made, given = converted(model, prepared, recipe), []
        made.deep.register_forward_hook(lambda module, x, y, given=given: given.append(y))
        with torch.no_grad():
            for batch in BATCHES:
                made(*batch)
        means.append(torch.cat(given).mean((0, 2, 3)))
    off, corrected = ((one - means[0]).abs().sum() for one in means[1:])
    assert corrected < off / 2


def test_errors_are_those_of_each_op_where_it_stands():
    prepared = calibrated(net())
    recipe = all_int8(prepared)
    assert set(dict(prepared.rank(recipe))) == {"conv", "deep", "table", "mix", "head"}
    conv, mix = (prepared.error(recipe, [op]) for op in ("conv", "mix"))
    assert 0 < conv < 0.01
    assert 0 < mix < 0.01
    assert prepared.error(recipe, ["conv", "mix"]) == pytest.approx(conv + mix)
    assert prepared.error(all_int8(prepared, conv=FP32), ["conv"]) == 0


def test_a_weight_that_others_read_stays_beside():
    class Tied(Net):
        def forward(self, x, ids):
            return F.linear(self.table(ids), self.table.weight)

    model = Tied().eval()
    prepared = calibrated(model)
    parts = prepared.convert(all_int8(prepared))
    assert tuple(parts["table"].gone) == ()
    int8 = converted(model, prepared, all_int8(prepared))
    assert error(int8, model) < 0.02


def test_what_has_weights_and_is_no_op_is_told_with_the_reason():
    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(3, 3))

    told = {
        nn.ConvTranspose2d(3, 3, 2): "oneDNN has no int8 kernel for transposed convolutions",
        nn.GroupNorm(1, 3): "norms stay floats: int8 costs them accuracy and wins no time",
        Own(): "saw no calibration data",
    }
    never = "the first calibration batch does not come by it"
    for module, why in told.items():
        called = {id(module): ModuleCalls(count=1)}
        prepared = OnednnBackend().prepare(nn.Sequential(module), called)
        prepared.settle()
        assert prepared.excluded == {"0": why}
        left = OnednnBackend().prepare(nn.Sequential(module), {})
        left.settle()
        assert left.excluded == {"0": why if isinstance(module, Own) else never}
    assert OnednnBackend().prepare(nn.Sequential(nn.ReLU(), nn.PReLU()), {}).excluded == {}


def test_kernels_are_proved_where_the_files_come_to(monkeypatch, caplog):
    prepared = calibrated(net())
    recipe = all_int8(prepared)
    backend, plain = OnednnBackend(), None
    plain = backend.to_plain(converted(net(), prepared, recipe))
    kernel = Int8Conv._kernel

    def wrong(self, x, *given):
        return kernel(self, x, *given) + (self.geometry.groups > 1)

    monkeypatch.setattr(proof, "_PROVED", {})
    monkeypatch.setattr(Int8Conv, "_kernel", wrong)
    made = net()
    put(made, backend.rebuild(made, prepared.describe(recipe)))
    backend.fill(made, plain, "onednn")
    assert [one.exact for one in (made.conv.lpot_int8.kernel, made.deep.lpot_int8.kernel)] == [
        False,
        True,
    ]
    assert "`deep` is int8 by plain arithmetic, which is slow: its int8 kernel is" in caplog.text
    assert error(made, net()) < 0.03
