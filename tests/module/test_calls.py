"""One dry run: who was called, with what, and by whom."""

import time

import torch
from int8_scenes import state_of
from torch import nn
from zoo import CalledTwice, Made, seeded

from lpot_lightning.module.calls import (
    recorded,
    roots_of,
    signature_of,
)


def calls_of(model, *args, **kwargs):
    with recorded(model) as calls, torch.no_grad():
        model(*args, **kwargs)
    return calls


def test_every_module_that_is_called_is_counted():
    model = seeded(CalledTwice)
    calls = calls_of(model, torch.ones(2, 8))
    assert calls[id(model.shared)].count == 2
    assert calls[id(model.fc)].count == 1
    assert torch.equal(calls[id(model)].args[0], torch.ones(2, 8))


def test_waiting_is_no_work():
    model = Made(lambda m, x: time.sleep(0.3), used=nn.Linear(8, 2))
    assert calls_of(model, torch.ones(2, 8))[id(model)].seconds < 0.2


def test_what_is_not_called_is_not_there():
    model = Made(lambda m, x: m.used(x), used=nn.Linear(8, 2), unused=nn.Linear(8, 2))
    assert id(model.unused) not in calls_of(model, torch.ones(2, 8))


def test_each_way_in_which_a_model_is_called_from_outside_is_noted_once():
    net = nn.Linear(8, 2)
    model = Made(lambda m, x: m.net(x["x"]), net=net)
    with recorded(model) as calls, torch.no_grad():
        for size in (1, 2):
            model({"x": torch.ones(size, 8), "how": None})
        model({"x": torch.ones(8)})
        model.net(torch.ones(8))
    tensor = {"tensor": {"dtype": "float32", "rank": 2}}
    flat = {"tensor": {"dtype": "float32", "rank": 1}}
    assert calls[id(model)].signatures == [
        {"args": [{"dict": [["x", tensor], ["how", None]]}], "kwargs": {}},
        {"args": [{"dict": [["x", flat]]}], "kwargs": {}},
    ]
    assert calls[id(net)].signatures == [{"args": [flat], "kwargs": {}}]
    assert list(roots_of(model, calls)) == ["", "net"]


def test_what_is_no_plain_value_is_named_by_its_class():
    assert signature_of((object(),), {"y": 3}) == {
        "args": [{"object": "object"}],
        "kwargs": {"y": 3},
    }


def test_signatures_without_end_are_cut_short():
    model = nn.Identity()
    with recorded(model) as calls:
        for number in range(100):
            model(number)
    assert len(calls[id(model)].signatures) == 32


def test_the_model_is_left_without_hooks_even_on_an_error():
    model = Made(lambda m, x: m.fc(x)[99], fc=nn.Linear(8, 2))
    before = state_of(model)
    try:
        calls_of(model, torch.ones(2, 8))
    except IndexError:
        assert state_of(model) == before
    else:
        raise AssertionError


def test_a_call_of_forward_itself_is_a_call():
    model = Made(lambda m, x: m.net.forward(x), net=nn.Sequential(nn.Linear(8, 2)))
    calls = calls_of(model, torch.ones(2, 8))
    assert calls[id(model.net)].count == calls[id(model.net[0])].count == 1
    assert calls[id(model.net[0])].above == [frozenset([id(model), id(model.net)])]


def test_who_reads_a_weight_past_its_layer_is_noted():
    model = Made(
        lambda m, x: m.own(x) + nn.functional.linear(x, m.read.weight) * m.off.bias.sum(),
        own=nn.Linear(8, 2), read=nn.Linear(8, 2), off=nn.Linear(8, 2),
    )  # fmt: skip
    calls = calls_of(model, torch.ones(2, 8))
    assert calls[id(model.own)].read == set()
    assert calls[id(model.read)].read == {"weight"}
    assert (calls[id(model.off)].read, calls[id(model.off)].count) == ({"bias"}, 0)


def test_asking_what_a_weight_is_does_not_use_it():
    def asked(m, x):
        first = next(m.parameters())
        assert isinstance(m.own.weight, nn.Parameter)
        assert (first.dtype, len(m.own.weight), m.own.bias is None) == (x.dtype, 2, False)
        return m.own(x.to(m.own.weight.device)) + m.own.weight.new_zeros(m.own.bias.shape)

    model = Made(asked, own=nn.Linear(8, 2))
    assert calls_of(model, torch.ones(2, 8))[id(model.own)].read == set()


def test_a_penalty_on_all_parameters_uses_them():
    model = Made(lambda m, x: m.fc(x) * sum(p.norm() for p in m.parameters()), fc=nn.Linear(8, 2))
    assert calls_of(model, torch.ones(2, 8))[id(model.fc)].read == {"weight", "bias"}


def test_transformers_call_their_layers_in_a_dry_run():
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    model = nn.TransformerEncoder(layer, 1).eval()
    before = state_of(model)
    padding = torch.tensor([[False, True]])
    calls = calls_of(model, torch.ones(1, 2, 8), src_key_padding_mask=padding)
    assert calls[id(model.layers[0].linear1)].count == 1
    assert not calls[id(model.layers[0].linear1)].read
    assert state_of(model) == before


def test_gradients_that_are_asked_for_are_noted():
    first, second = nn.Linear(3, 3), nn.Linear(3, 3)
    x = torch.randn(2, 3, requires_grad=True)
    net = nn.ModuleList([first, second])
    with recorded(net) as calls:
        torch.autograd.grad(first(x).sum(), x)
        second(x)
    assert [calls[id(one)].derived for one in net] == [True, False]
