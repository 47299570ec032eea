"""Recurrent layers with ranges found at each step, or with weights of 8 bits."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn
from torch.autograd import forward_ad
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from lpot_lightning.module.calls import recorded
from lpot_lightning.module.copying import second_model
from lpot_lightning.module.placeholder import WeightPlaceholder
from lpot_lightning.module.stand_in import computing, put, replaced
from lpot_lightning.quantization.capability import DYNAMIC, WEIGHT_ONLY
from lpot_lightning.quantization.damage import floats_in
from lpot_lightning.quantization.graph.capture import counts_of
from lpot_lightning.quantization.kernels.arithmetic import Int8Weight
from lpot_lightning.quantization.kernels.bounds import PAIRED, WHOLE
from lpot_lightning.quantization.kernels.rows import Rows
from lpot_lightning.quantization.kernels.saturation import saturates
from lpot_lightning.quantization.layers import PreparedLayers
from lpot_lightning.quantization.onednn import OnednnBackend
from lpot_lightning.quantization.recurrent import recurrent_on_rung
from lpot_lightning.recipe import FP32, OpConfig, Recipe

BOUNDS = PAIRED if saturates() else WHOLE
LAYERS = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN}
SETTINGS: list[dict[str, Any]] = [
    {},
    {"batch_first": True, "bias": False},
    {"num_layers": 2, "bidirectional": True, "dropout": 0.5},
]
RUNGS = [DYNAMIC, WEIGHT_ONLY[0], WEIGHT_ONLY[1]]


def shown(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def made(kind: Any, *sizes: int, **settings: Any) -> Any:
    torch.manual_seed(1)
    return kind(*sizes, **settings).eval()


def form(layer: nn.Module, config: OpConfig = DYNAMIC) -> nn.Module:
    return recurrent_on_rung(layer, config, bounds=BOUNDS)


@torch.no_grad()
def error(layer: nn.Module, config: OpConfig, *given: Any) -> float:
    found, wanted = form(layer, config)(*given), layer(*given)
    assert type(found) is type(wanted)
    pairs = list(zip(floats_in(found), floats_in(wanted), strict=True))
    assert [one.shape for one, _ in pairs] == [other.shape for _, other in pairs]
    return max(float((one - other).norm() / other.norm()) for one, other in pairs)


def state(layer: Any, *batch: int) -> Any:
    count = layer.num_layers * (1 + layer.bidirectional)
    h = shown(count, *batch, 8, seed=3)
    return (h, shown(count, *batch, 8, seed=4)) if isinstance(layer, nn.LSTM) else h


@pytest.mark.parametrize("config", RUNGS)
@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("kind", LAYERS)
def test_a_layer_gives_what_it_gave_in_fp32(kind, settings, config):
    layer, x = made(LAYERS[kind], 12, 8, **settings), shown(6, 3, 12)
    batch = 6 if layer.batch_first else 3
    packed = pack_padded_sequence(x, torch.tensor([2, 6, 4]), enforce_sorted=False)
    in_order = pack_padded_sequence(x, torch.tensor([6, 4, 2]))
    for given in (
        (x,), (x, state(layer, batch)), (shown(5, 12),), (shown(5, 12), state(layer)),
        (packed,), (packed, state(layer, 3)), (in_order,),
    ):  # fmt: skip
        assert 0 < error(layer, config, *given) < 0.04


@pytest.mark.parametrize("config", RUNGS)
@pytest.mark.parametrize("kind", [nn.LSTMCell, nn.GRUCell, nn.RNNCell])
def test_a_cell_gives_what_it_gave_in_fp32(kind, config):
    h = shown(3, 8, seed=3)
    hx = (h, h / 2) if kind is nn.LSTMCell else h
    single = (h[0], h[1]) if kind is nn.LSTMCell else h[0]
    for bias in (True, False):
        cell = made(kind, 12, 8, bias=bias)
        for given in ((shown(3, 12),), (shown(3, 12), hx), (shown(12),), (shown(12), single)):
            assert 0 < error(cell, config, *given) < 0.04


@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
@pytest.mark.parametrize("config", RUNGS)
def test_projections_and_relu(config):
    projected = made(nn.LSTM, 12, 8, 2, proj_size=3, bidirectional=True)
    assert error(projected, config, shown(6, 2, 12)) < 0.04
    assert error(made(nn.RNN, 12, 8, nonlinearity="relu"), config, shown(6, 2, 12)) < 0.04
    assert error(made(nn.RNNCell, 12, 8, nonlinearity="relu"), config, shown(2, 12)) < 0.04


def told(weight: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """Return the product of what the integers of a weight and of rows stand for."""
    exact = Int8Weight.of(weight, pair=BOUNDS.pair).dequantize().double()
    return Rows.of(values.float(), BOUNDS.high).dequantize().double() @ exact.t()


@torch.no_grad()
def test_an_lstm_is_that_of_its_integers():
    layer, x = made(nn.LSTM, 12, 8), shown(6, 3, 12)
    h = c = torch.zeros(3, 8, dtype=torch.float64)
    for step in x:
        gates = told(layer.weight_ih_l0, step) + layer.bias_ih_l0.double()
        gates = gates + told(layer.weight_hh_l0, h) + layer.bias_hh_l0.double()
        i, f, g, o = gates.chunk(4, 1)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        h = o.sigmoid() * c.tanh()
    _, (found, cell) = form(layer)(x)
    assert (found[0] - h).abs().max() < 1e-5
    assert (cell[0] - c).abs().max() < 1e-5


@torch.no_grad()
def test_a_gru_is_that_of_its_integers():
    layer, x = made(nn.GRU, 12, 8), shown(6, 3, 12)
    h = torch.zeros(3, 8, dtype=torch.float64)
    for step in x:
        one = told(layer.weight_ih_l0, step) + layer.bias_ih_l0.double()
        other = told(layer.weight_hh_l0, h) + layer.bias_hh_l0.double()
        r, z = (one[:, :16] + other[:, :16]).sigmoid().chunk(2, 1)
        n = (one[:, 16:] + r * other[:, 16:]).tanh()
        h = (1 - z) * n + z * h
    assert (form(layer)(x)[1][0] - h).abs().max() < 1e-5


@torch.no_grad()
@pytest.mark.parametrize("config", WEIGHT_ONLY[:2])
def test_weights_alone_are_those_of_torch_rounded(config):
    layer = made(nn.GRU, 40, 8, bidirectional=True)
    rounded = copy.deepcopy(layer)
    for name, weight in rounded.named_parameters():
        if "weight" in name:
            size = config.weight.group_size
            weight.copy_(Int8Weight.of(weight, group_size=size).dequantize())
    x = shown(5, 2, 40)
    assert torch.equal(form(layer, config)(x)[0], rounded(x)[0])


@torch.no_grad()
@pytest.mark.parametrize("kind", LAYERS)
def test_a_sequence_is_the_same_alone_and_beside_others(kind):
    int8 = form(made(LAYERS[kind], 12, 8, num_layers=2, bidirectional=True))
    x, lengths = shown(6, 3, 12), [2, 6, 4]
    packed = pack_padded_sequence(x, torch.tensor(lengths), enforce_sorted=False)
    output, end = int8(packed)
    padded, _ = pad_packed_sequence(output)
    for number, length in enumerate(lengths):
        alone, last = int8(x[:length, number])  # vectorized or not, AVX-512 moves last bits
        torch.testing.assert_close(padded[:length, number], alone, rtol=0, atol=1e-6)
        for many, one in zip(floats_in(end), floats_in(last), strict=True):
            torch.testing.assert_close(many[:, number], one, rtol=0, atol=1e-6)


def test_what_does_not_fit_is_told():
    int8 = form(made(nn.GRU, 12, 8))
    with pytest.raises(RuntimeError, match=r"got \[12\]; it takes 2 or 3 dimensions"):
        int8(shown(12))
    with pytest.raises(RuntimeError, match=r"is \[\[1, 1, 8\]\]; it takes \[\[1, 3, 8\]\]"):
        int8(shown(6, 3, 12), shown(1, 1, 8))


@pytest.mark.parametrize("config", RUNGS)
@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.LSTMCell])
def test_steps_of_another_size_are_told_and_not_read_past_their_end(kind, config):
    int8 = form(made(kind, 12, 8), config)
    with pytest.raises(RuntimeError, match="got steps of 11 values; it takes 12"):
        int8(shown(3, 11))


@torch.no_grad()
@pytest.mark.parametrize("mode", ["real", "fake"])
@pytest.mark.parametrize("kind", LAYERS)
def test_make_fx_records_what_torch_computes(kind, mode):
    int8, x = form(made(LAYERS[kind], 12, 8), WEIGHT_ONLY[0]), shown(6, 3, 12)
    graph = make_fx(lambda x: int8(x)[0], tracing_mode=mode, _allow_non_fake_inputs=True)(x)
    found = int8(x + 1)[0]
    assert type(found) is torch.Tensor
    assert torch.equal(graph(x + 1), found)


@pytest.mark.parametrize("layer", [made(nn.LSTM, 12, 8), made(nn.GRUCell, 12, 8)])
def test_what_comes_of_it_may_be_trained_on(layer):
    found = list(floats_in(form(layer)(shown(3, 12))))
    assert not any(one.is_inference() for one in found)
    factor = torch.ones(8, requires_grad=True)
    sum((one * factor).sum() for one in found).backward()
    assert factor.grad is not None


def in_place(kernel: Any) -> None:
    kernel.scales.mul_(2)


def another_bias(kernel: Any) -> None:
    kernel.bias = kernel.bias + 1


def other_data(kernel: Any) -> None:
    kernel.weight.data = kernel.weight.flip(0)


@torch.no_grad()
@pytest.mark.parametrize("change", [in_place, another_bias, other_data])
def test_weights_that_change_are_computed_with_as_they_are(change):
    int8, x = form(made(nn.LSTM, 12, 8), WEIGHT_ONLY[0]), shown(6, 3, 12)
    before = int8(x)[0]
    change(int8.kernels[1])
    after = int8(x)[0]
    assert not torch.equal(after, before)
    assert torch.equal(copy.deepcopy(int8)(x)[0], after)


@torch.no_grad()
@pytest.mark.parametrize("batch", [1, 600])
@pytest.mark.parametrize("kind", LAYERS)
def test_where_autograd_is_off_all_is_as_torch_gives_it(kind, batch):
    layer = made(LAYERS[kind], 12, 8, batch_first=True)
    int8, x = form(layer, WEIGHT_ONLY[0]), shown(batch, 5, 12)
    for name, weight in layer.named_parameters():
        if "weight" in name:
            weight.copy_(Int8Weight.of(weight).dequantize())
    for given in (x, pack_padded_sequence(x, [5] * batch, batch_first=True)):
        pairs = zip(floats_in(int8(given)), floats_in(layer(given)), strict=True)
        for one, other in pairs:
            assert torch.equal(one, other)
            assert one.stride() == other.stride()
            assert not one.is_inference()


@torch.no_grad()
@pytest.mark.filterwarnings("ignore:.*torch.jit")  # by which torch derives some functions
def test_forward_derivatives_need_no_autograd():
    int8, x = form(made(nn.RNN, 12, 8), WEIGHT_ONLY[0]), shown(6, 3, 12)
    with forward_ad.dual_level():
        found = int8(forward_ad.make_dual(x, torch.ones_like(x)))[0]
        assert forward_ad.unpack_dual(found).tangent is not None


def test_double_precision_stays():
    layer = made(nn.LSTM, 12, 8)
    for config in RUNGS:
        output, (h, c) = form(layer, config)(shown(6, 3, 12).double())
        assert {output.dtype, h.dtype, c.dtype} == {torch.float64}


class Tagger(nn.Module):
    """A table, layers, a cell in a loop."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(30, 24)
        self.rnn = nn.LSTM(24, 16, 2, batch_first=True, bidirectional=True)
        self.mid, self.cell = nn.Linear(32, 32), nn.GRUCell(32, 16)
        self.head = nn.Linear(16, 5)

    def forward(self, ids, lengths=None):
        x = self.table(ids)
        if lengths is not None:
            x = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        y = self.rnn(x)[0]
        if isinstance(y, PackedSequence):
            y, _ = pad_packed_sequence(y, batch_first=True)
        y, h = self.mid(y).relu(), None
        for step in range(3):
            h = self.cell(y[:, step], h)
        return self.head(h)


IDS = torch.arange(36).view(4, 9) % 30
CALLS = {"padded": (IDS,), "packed": (IDS, torch.tensor([9, 3, 7, 5]))}
NAMES = {"rnn", "cell"}


def tagger() -> nn.Module:
    return made(Tagger)


def calibrated(model: nn.Module, *given: Any, **asked: Any) -> PreparedLayers:
    with torch.no_grad(), recorded(model) as calls:
        model(*given)
    prepared = OnednnBackend().prepare(model, calls, **asked)
    with torch.no_grad(), replaced(model, prepared.observed) as observed:
        observed(*given)
    prepared.settle()
    return prepared


def on(prepared: PreparedLayers, config: OpConfig) -> Recipe:
    configs = {op.name: op.configs[0] for op in prepared.ops}
    return Recipe.of({**configs, **dict.fromkeys(NAMES, config)})


@torch.no_grad()
@pytest.mark.parametrize("config", RUNGS)
@pytest.mark.parametrize("call", CALLS)
def test_a_model_is_converted_and_comes_back_from_its_files(call, config):
    model, given, backend = tagger(), CALLS[call], OnednnBackend()
    prepared = calibrated(model, *given)
    assert {op.name: op.kind for op in prepared.ops if op.name in NAMES} == {
        "rnn": "LSTM",
        "cell": "GRUCell",
    }
    assert prepared.excluded == {}
    recipe = on(prepared, config)
    int8 = second_model(model)
    put(int8, prepared.convert(recipe))
    found, wanted = int8(*given), model(*given)
    assert 0 < (found - wanted).norm() / wanted.norm() < 0.05
    plain = {name: value.clone() for name, value in backend.to_plain(int8).items()}
    other, described = Tagger().eval(), prepared.describe(recipe)
    put(other, backend.rebuild(other, described))
    backend.fill(other, plain, described["engine"])
    backend.join(other, described)
    for one in (other, second_model(int8), copy.deepcopy(int8)):
        assert torch.equal(one(*given), found)
    int8.load_state_dict(int8.state_dict())
    assert torch.equal(int8(*given), found)


@torch.no_grad()
def test_a_graph_of_a_loaded_model_holds_layers_in_fp32_too():
    model, backend = tagger(), OnednnBackend()
    prepared = calibrated(model, IDS)
    recipe = on(prepared, FP32)
    int8 = second_model(model)
    put(int8, prepared.convert(recipe))
    plain = {name: value.clone() for name, value in backend.to_plain(int8).items()}
    other, described = Tagger().eval(), prepared.describe(recipe)
    put(other, backend.rebuild(other, described))
    backend.fill(other, plain, described["engine"])
    backend.join(other, described)
    assert torch.allclose(other(IDS), int8(IDS), atol=0.01)
    assert len(vars(other)["forward"].lowered) == 1


def test_fp32_weights_are_gone():
    model = tagger()
    prepared = calibrated(model, IDS)
    put(model, prepared.convert(on(prepared, DYNAMIC)))
    assert "rnn.weight_ih_l0" not in model.state_dict()
    assert not list(model.rnn.parameters())[0].numel()  # what tells the type
    assert {type(one) for one in model.rnn._flat_weights} == {WeightPlaceholder}
    sizes = {op.name: op.weight_bytes for op in prepared.ops}
    assert sizes["rnn"] == sum(one.nbytes for one in tagger().rnn.parameters())


@torch.no_grad()
def test_one_graph_holds_layers_and_cells_for_inputs_of_any_length():
    model = tagger()
    prepared = calibrated(model, IDS)
    int8 = second_model(model)
    put(int8, prepared.convert(on(prepared, DYNAMIC)))
    wanted = int8(IDS)
    graphs = prepared.graphs(int8)
    with computing(int8, graphs) as joined:
        assert torch.allclose(joined(IDS), wanted, atol=1e-5)
        for length in range(4, 12):
            joined(IDS[:2].repeat(1, 2)[:, :length])
        counts = counts_of(joined)[""]
    assert counts.by_graph == counts.calls == 9
    assert len(graphs[""].lowered) == 2


@torch.no_grad()
def test_what_a_graph_computes_follows_the_recipe():
    model = tagger()
    prepared = calibrated(model, IDS)
    int8 = second_model(model)
    parts = prepared.convert(on(prepared, DYNAMIC))
    with replaced(int8, parts) as one, computing(one, prepared.graphs(int8)) as joined:
        dynamic = joined(IDS)
        prepared.convert(on(prepared, FP32))
        floats = joined(IDS)
    with replaced(int8, prepared.convert(on(prepared, FP32))) as one:
        assert torch.allclose(one(IDS), floats, atol=1e-5)
    assert not torch.equal(dynamic, floats)
    assert {type(one) for one in int8.rnn._flat_weights} == {nn.Parameter}


def test_errors_costs_and_times_are_measured():
    model = tagger()
    prepared = calibrated(model, *CALLS["packed"])
    recipe = on(prepared, DYNAMIC)
    assert all(dict(prepared.rank(recipe))[name] > 0 for name in NAMES)
    assert 0 < prepared.error(recipe, NAMES) < 0.01
    assert all(prepared.profile()[name].activation_bytes > 0 for name in NAMES)
    now, model = [0.0], second_model(model)

    def clock() -> float:
        now[0] += 1.0
        return now[0]

    def step(times: int) -> list[float]:
        with torch.no_grad():
            return [float(model(IDS).numel()) for _ in range(times)]

    with replaced(model, prepared.convert(recipe)), computing(model, prepared.graphs(model)):
        ops = prepared.op_clock(model, recipe, step, clock)
        assert set(ops.seconds(recipe)) >= NAMES
        assert set(ops.seconds(recipe.with_fp32(NAMES))) >= NAMES


def test_a_training_for_int8_leaves_them_in_fp32():
    prepared = calibrated(tagger(), IDS, for_training=True)
    why = "recurrent layers keep their state in floating point in a training for int8"
    assert prepared.excluded == dict.fromkeys(("rnn", "cell"), why)


def test_weights_that_cannot_be_rounded_are_told():
    model = tagger()
    model.rnn.weight_hh_l1_reverse.data[0, 0] = torch.inf
    assert calibrated(model, IDS).excluded["rnn"] == "its weight is not finite"
