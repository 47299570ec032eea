"""What becomes a graph, what is entered deeper down, and what is left out."""

import pytest
import torch
from int8_scenes import Batch, calibrated, converted, distance, int8_ops, load, prepared, same, save
from torch import nn
from zoo import Made, images, rows, seeded, tokens

from lpot_lightning.quantization.fx.tidy import tidy
from lpot_lightning.quantization.fx.trace import NotTraceable, trace


def branching(m, x):
    return m.a(x) if x.sum() > 1e9 else m.b(x)


def in_place(m, x):
    y = m.a(x)
    y[:, 0] = 0
    return m.b(y)


def looped(m, x):
    for _ in range(int(x.shape[0] > 1)):
        x = m.a(x)
    return m.b(x)


@pytest.mark.parametrize("step", [branching, in_place, looped])
def test_what_cannot_be_traced_is_entered_down_to_single_layers(step):
    model = seeded(lambda: Made(step, a=nn.Linear(8, 8), b=nn.Linear(8, 8)))
    batches = rows(8)()
    found = calibrated(model, *batches)
    assert "" not in found.observed
    assert "b" in int8_ops(found)
    assert distance(batches[0](converted(model, found)), batches[0](model)) < 0.05


class Star(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(8, 8)

    def forward(self, *parts):
        return self.a(parts[0])


def test_star_arguments_are_entered_deeper():
    assert list(prepared(seeded(Star), rows(8)()[0]).observed) == ["a"]


def test_a_module_whose_children_are_called_from_outside_is_not_one_graph():
    net = lambda: nn.ModuleDict({"encoder": nn.Linear(8, 8)})  # noqa: E731
    model = seeded(
        lambda: Made(lambda m, x: m.off(m.net["encoder"](x)) if x.sum() < 1e9 else x,
                     net=net(), off=nn.Linear(8, 2))
    )  # fmt: skip
    assert list(prepared(model, rows(8)()[0]).observed) == ["net.encoder", "off"]


def test_a_layer_that_is_never_called_is_listed():
    model = seeded(lambda: Made(branching, a=nn.Linear(8, 8), b=nn.Linear(8, 8)))
    assert prepared(model, rows(8)()[0]).excluded == {"a": "is never called by the validation loop"}


def test_forward_hooks_are_not_lost_in_a_graph():
    model = seeded(lambda: nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8)))
    model[0].register_forward_hook(lambda module, args, out: 3 * out)
    batches = rows(8)()
    found = calibrated(model, *batches)
    assert list(found.observed) == ["0", "1"]
    assert distance(batches[0](converted(model, found)), batches[0](model)) < 0.05


@pytest.mark.parametrize(
    ("model", "batches"),
    [
        (lambda: nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), (2, 5, 8)),
        (lambda: nn.LSTM(8, 8), (5, 2, 8)),
        (lambda: nn.Sequential(nn.GRU(8, 8)), (5, 2, 8)),
    ],
)
def test_attention_and_recurrent_layers_do_not_crash(model, batches):
    model, batch = seeded(model), Batch(torch.randn(*batches))
    found = calibrated(model, batch)
    if found.observed:
        assert distance(batch(converted(model, found)), batch(model)) < 0.05
    assert all(reason.strip() and "\n" not in reason for reason in found.excluded.values())


def test_an_encoder_layer_has_its_linears_in_int8(tmp_path):
    model = seeded(lambda: nn.TransformerEncoderLayer(8, 2, 16, batch_first=True))
    batch = Batch(torch.randn(2, 5, 8))
    found = calibrated(model, batch)
    assert int8_ops(found) == ("linear1", "linear2")
    int8 = save(tmp_path, model, found)
    assert same(batch(load(tmp_path, model)), batch(int8))


def test_attention_keeps_its_own_linears_and_the_rest_is_int8():
    model = seeded(
        lambda: Made(lambda m, x: m.fc(m.mha(x, x, x)[0]), mha=nn.MultiheadAttention(8, 2),
                     fc=nn.Linear(8, 2))
    )  # fmt: skip
    found = calibrated(model, Batch(torch.randn(5, 2, 8)))
    assert int8_ops(found) == ("fc",)


def tidied(step, **layers):
    graph, scopes = trace(seeded(lambda: Made(step, **layers)), {})
    tidy(graph, scopes)
    return graph


def set_item(m, x):
    x.__setitem__((slice(None), 0), 0.0)
    return x


def relu_first(m, x):
    torch.relu_(x)
    return x + 1


def add_first(m, x):
    x += 1
    x.mul_(2)
    return x


@pytest.mark.parametrize("step", [relu_first, add_first])
def test_readers_of_a_changed_tensor_read_the_result(step):
    x = torch.randn(4, 8)
    graph = tidied(step)
    before = x.clone()
    found = graph(x)
    assert torch.equal(x, before)
    assert torch.equal(found, step(None, x))


def test_an_in_place_layer_changes_what_its_neighbours_read():
    graph = tidied(lambda m, x: m.relu(x) * 0 + x, relu=nn.ReLU(inplace=True))
    x = torch.randn(4, 8)
    assert torch.equal(graph(x), x.relu())


@pytest.mark.parametrize(
    "step", [lambda m, x: x.zero_(), set_item, lambda m, x: torch.abs(x, out=x)]
)
def test_what_can_only_be_done_in_place_is_not_traceable(step):
    with pytest.raises(NotTraceable, match="changes a tensor in place"):
        tidied(step, a=nn.Linear(8, 8), b=nn.Linear(8, 8))


def test_alpha_is_spelled_out():
    graph = tidied(lambda m, x: torch.add(x, x, alpha=3))
    x = torch.randn(4)
    assert torch.equal(graph(x), torch.add(x, x, alpha=3))
    assert not any(node.kwargs for node in graph.graph.nodes)


def test_the_reason_is_one_readable_line():
    model = seeded(lambda: Made(branching, a=nn.Linear(8, 8), b=nn.Linear(8, 8)))
    with pytest.raises(NotTraceable, match="it cannot be traced: TraceError: symbolically") as told:
        trace(model, {})
    assert "\n" not in str(told.value)


def test_images_and_tokens_are_prepared_alike():
    assert list(prepared(seeded(lambda: nn.Conv2d(3, 2, 1)), images(4, 4)()[0]).observed) == [""]
    assert list(prepared(seeded(lambda: nn.Embedding(20, 2)), tokens()()[0]).observed) == [""]
