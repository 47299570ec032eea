"""Odd modules: each call is right, and computed by a graph where that can be."""

from __future__ import annotations

import copy
import gc
import itertools
import threading
import weakref
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from grid_scenes import grid_over
from torch import nn

from lpot_lightning.quantization.capability import DYNAMIC
from lpot_lightning.quantization.graph import capture
from lpot_lightning.quantization.graph.capture import MOST, Captured
from lpot_lightning.quantization.kernels.bounds import PAIRED
from lpot_lightning.quantization.layer_forward import LayerForward
from lpot_lightning.quantization.program.program import Program
from lpot_lightning.quantization.quantized_layer import RECURRENT, kind_of, quantized
from lpot_lightning.quantization.recurrent import recurrent_on_rung

SCALE = 2.0


def shown(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


class Two(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(8, 8), nn.Linear(8, 3)


class Mask(Two):
    def forward(self, x, mask=None):
        y = self.a(x).relu()
        return self.b(y if mask is None else y * mask)


class Length(Two):
    def forward(self, x, most):
        return self.b(self.a(x)[:, :most].sum(1))


class Tasks(Two):
    def __init__(self) -> None:
        super().__init__()
        self.heads = nn.ModuleDict({"few": nn.Linear(8, 3), "many": nn.Linear(8, 5)})
        self.task, self.temperature, self.options = "few", 1.0, {"shift": [0]}

    def forward(self, x):
        y = self.heads[self.task](self.a(x).relu())
        return y / self.temperature + self.options["shift"][0]


class Global(Two):
    def forward(self, x):
        return self.b(self.a(x)) * SCALE


class Casting(nn.Linear):
    def forward(self, x):
        return F.linear(x, self.weight.to(x.dtype), self.bias)


class Subclass(Two):
    def __init__(self) -> None:
        super().__init__()
        self.a = Casting(8, 8)

    def forward(self, x):
        return self.b(F.gelu(self.a(x)))


class Branch(Two):
    def forward(self, x):
        y = self.a(x)
        return self.b(y * 2 if y.sum() > 0 else y)


class Trimmed(Two):
    def forward(self, x, lengths):
        return self.b(self.a(x[:, : int(lengths.max())]).mean(1))


class Noting(Two):
    def __init__(self) -> None:
        super().__init__()
        self.count, self.last = 0, None

    def forward(self, x):
        self.count += 1
        self.last = self.a(x)
        return self.b(self.last)


class Noisy(Two):
    def forward(self, x):
        return self.b(self.a(x) + torch.randn(8))


class Tree(Two):
    def forward(self, *given, **named):
        return {"all": [self.a(one) for one in given], "named": list(map(self.b, named.values()))}


class View(Two):
    def forward(self, x, mask):
        y = self.a(x)
        y.view(-1, 4).masked_fill_(mask, 0)
        return self.b(y)


class Loop(Two):
    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.GRUCell(3, 8)

    def forward(self, x, steps):
        h, given = self.a(x), []
        for _ in range(steps):
            given.append(self.b(h).tanh())
            h = self.cell(given[-1], h)
        return torch.stack(given)


class Encoder(Two):
    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)

    def forward(self, x, padding=None):
        return self.b(self.encoder(self.a(x), src_key_padding_mask=padding))


class Recurrent(Two):
    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(8, 8, batch_first=True)

    def forward(self, x):
        return self.b(self.gru(self.a(x))[0])


class Decoder(Two):
    """Reads what was seen so far, which it gives back: a cache."""

    def forward(self, x, past=None):
        new = self.a(x)
        seen = new if past is None else torch.cat([past, new], 1)
        return self.b(seen.cumsum(1)[:, -x.shape[1] :] * 0.1), seen


class Rare(Two):
    """Uses a layer in some batches only."""

    def forward(self, x, both):
        return self.b(self.a(x)) if both else self.b(x)


def set_to(name: str, value: Any):
    return lambda model: setattr(model, name, value)


def set_scale(value: float):
    return lambda _: globals().__setitem__("SCALE", value)


def hook(model: nn.Module) -> None:
    model.a.register_forward_hook(lambda module, given, output: output * 2)


def shift(model: nn.Module) -> None:
    model.options["shift"][0] = 4


X = shown(4, 8)
PADDING = torch.zeros(4, 5, dtype=torch.bool)
PADDING[:, 3:] = True
ODD: dict[str, tuple[type[nn.Module], list[Any]]] = {
    "a mask or none": (Mask, [(X,), (X, shown(4, 8, seed=1)), (shown(6, 8),), (X, shown(4, 1))]),
    "changing numbers": (Length, [(shown(2, 5 + n, 8), n) for n in (3, 4, 2, 1, 5)]),
    "attributes": (
        Tasks,
        [
            *((X,), set_to("task", "many"), (X,), set_to("task", "few"), (X,)),
            *(set_to("temperature", 0.25), (X,), set_to("temperature", 0.5), (X,), shift, (X,)),
        ],
    ),
    "a global": (Global, [(X,), set_scale(3.0), (X,), set_scale(2.0), (X,)]),
    "a subclass that casts": (Subclass, [(X,), (shown(5, 8),)]),
    "a branch by values": (Branch, [(X,), (-X,), (X + 9,), (X - 9,)]),
    "trimmed by values": (
        Trimmed,
        [(shown(2, 9, 8), torch.tensor([3, n])) for n in (4, 2, 7, 9)],
    ),
    "noise": (Noisy, [(X,), (X,)]),
    "trees": (Tree, [(X,), (X, X), (X,), ()]),
    "in place on a view": (View, [(X, torch.zeros(8, 4).bool()), (X, torch.ones(8, 4).bool())]),
    "a loop": (Loop, [(X, 3), (X, 5), (X, 2)]),
    "a hook that is set later": (Mask, [(X,), hook, (X,), (X, shown(4, 1))]),
    "transformers": (Encoder, [(shown(4, 5, 8),), (shown(4, 5, 8), PADDING), (shown(2, 7, 8),)]),
    "recurrent": (Recurrent, [(shown(2, 5, 8),), (shown(3, 7, 8),)]),
    "a layer used now and then": (Rare, [(X, True), (X, False), (X, True)]),
}
BY_HAND = {"notes": (Noting, [(X,)] * 3)}


def int8(kind: type[nn.Module]) -> nn.Module:
    torch.manual_seed(0)
    model = kind().eval()
    for layer in [one for one in model.modules() if kind_of(one)]:
        vars(layer)["forward"] = LayerForward(layer, int8_of(layer))
    return model


def int8_of(layer: nn.Module) -> nn.Module:
    if isinstance(layer, RECURRENT):
        return recurrent_on_rung(layer, DYNAMIC, bounds=PAIRED)
    return quantized(layer, grid_over(-4, 4))


def captured(model: nn.Module) -> nn.Module:
    vars(model)["forward"] = Captured(model, Program)
    return model


def compare(kind: type[nn.Module], calls: list[Any]) -> Captured:
    model, plain = captured(int8(kind)), int8(kind)
    for number, call in enumerate(calls):
        if callable(call):
            call(model)
            call(plain)
            continue
        given = [], []
        for one, results in zip((model, plain), given, strict=True):
            torch.manual_seed(number)
            with torch.no_grad():
                results.append(one(*copy.deepcopy(call)))
        torch.testing.assert_close(*given, rtol=2e-2, atol=2e-2)
    return model.forward


@pytest.mark.parametrize("name", ODD)
def test_each_call_is_right_and_computed_by_a_graph(name):
    kind, calls = ODD[name]
    counts = compare(kind, calls).counts
    made = sum(not callable(call) and call != () for call in calls)
    assert (counts.calls, counts.by_graph) == (sum(not callable(one) for one in calls), made)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", BY_HAND)
def test_what_cannot_be_captured_runs_as_it_is_written(name, caplog):
    kind, calls = BY_HAND[name]
    assert compare(kind, calls).counts.calls == len(calls)


@pytest.fixture
def few(monkeypatch):
    """Return how many graphs a module may have: fewer than it may, which takes less time."""
    monkeypatch.setattr(capture, "MOST", 6)
    return 6


def test_attributes_that_are_written_are_those_of_the_module():
    model = captured(int8(Noting))
    for _ in range(MOST + 5):
        with torch.no_grad():
            model(X)
    assert model.count == MOST + 5
    assert torch.equal(model.last, int8(Noting).a(X))


def steps(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """Return what a decoder gives for each token behind the first three, one a call."""
    given, past = [], model(x[:, :3])[1]
    for place in range(3, x.shape[1]):
        found, past = model(x[:, place : place + 1], past)
        given.append(found)
    return torch.cat(given, 1)


def test_a_cache_that_grows_makes_no_graphs():
    model, x = captured(int8(Decoder)), shown(2, 40, 8)
    with torch.no_grad():
        found = steps(model, x)
        torch.testing.assert_close(found, model(x)[0][:, 3:], rtol=1e-5, atol=1e-5)
    counts = model.forward.counts
    assert counts.calls == counts.by_graph == 39
    assert len(model.forward.lowered) <= 4  # the prompt, a token, one of any length; all at once


def test_all_ways_to_call_a_decoder_have_a_graph_in_inference_mode_too():
    model = Decoder()
    vars(model)["forward"] = Captured(model, lambda graph, _: graph.forward)
    with torch.no_grad():
        for samples, length in itertools.product((2, 1), (5, 1, 2)):
            past = model(shown(samples, length, 8))[1]
            for _ in range(3):
                past = model(shown(samples, 1, 8), past)[1]
    counts = model.forward.counts
    assert counts.calls == counts.by_graph == 24
    assert 2 * len(model.forward.lowered) > 16  # what was too few
    assert 2 * len(model.forward.lowered) <= MOST


def test_models_of_one_class_do_not_use_up_each_others_graphs(few):
    for _ in range(few + 4):
        model = captured(int8(Mask))
        with torch.no_grad():
            model(X)
        assert model.forward.counts.by_graph == 1


def test_threads_get_the_same():
    model, plain = captured(int8(Mask)), int8(Mask)
    with torch.no_grad():
        wanted, found = plain(X), []

    def call() -> None:
        with torch.no_grad():
            found.append(model(X))

    threads = [threading.Thread(target=call) for _ in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert len(found) == 4
    for one in found:
        torch.testing.assert_close(one, wanted, rtol=2e-2, atol=2e-2)


def test_modes_are_part_of_a_call():
    model, plain = captured(int8(Mask)), int8(Mask)
    for mode in (torch.no_grad, torch.inference_mode, torch.enable_grad):
        with mode():
            found = model(X)
            torch.testing.assert_close(found, plain(X), rtol=2e-2, atol=2e-2)
            assert found.is_inference() is (mode is torch.inference_mode)
    assert model.forward.counts.by_graph == 3


def test_the_users_own_settings_of_the_compiler_stay():
    before = copy.deepcopy(torch._dynamo.config.get_config_copy())
    with torch.no_grad():
        captured(int8(Mask))(X)
    assert torch._dynamo.config.get_config_copy() == before


def test_a_copy_computes_with_its_own_layers():
    model = captured(int8(Mask))
    with torch.no_grad():
        before = model(X)
        copied = copy.deepcopy(model)
        assert torch.equal(copied(X), before)
        assert copied.forward.module is copied
        copied.b.forward = lambda x: x
        assert copied(X).shape == (4, 8)
        assert torch.equal(model(X), before)


def test_hooks_for_all_modules_are_called_for_those_of_the_user_alone():
    model, called = captured(int8(Mask)), []
    with torch.no_grad():
        model(X)
        hook = nn.modules.module.register_module_forward_hook(
            lambda module, *_: called.append(type(module).__name__)
        )
        try:
            model(X)
        finally:
            hook.remove()
    assert called == ["Linear", "Linear", "Mask"]


@pytest.mark.parametrize("shape", [(4, 7), (7,)])
def test_inputs_that_do_not_fit_are_told(shape):
    model = captured(int8(Mask))
    for _ in range(2):
        with torch.no_grad(), pytest.raises(RuntimeError, match="a linear layer of 8 inputs got"):
            model(torch.randn(shape))
        with torch.no_grad():
            model(X)


class Asking(Two):
    def forward(self, x):
        return self.b(self.a(x)) * x.sum().item()


def test_dynamo_says_nothing_and_fullness_is_told_once(few, caplog):
    model = captured(int8(Asking))
    with torch.no_grad():
        for rows in (2, 3, 4):
            model(shown(rows, 8))
    assert not [one for one in caplog.records if one.levelname == "WARNING"]
    model = captured(int8(Tasks))
    model.options["shift"] = [0]
    with torch.no_grad():
        for number in range(few + 4):
            model.task = ("few", "many")[number % 2]
            model.options[f"more {number}"] = number
            model.options["shift"] = [0] * (number + 1)
            vars(model)["odd"] = number
            model(X)
    told = [one.getMessage() for one in caplog.records if one.levelname == "WARNING"]
    assert len(told) == 1


@pytest.mark.parametrize("kind", [Mask, Subclass])
def test_what_nobody_holds_is_freed_with_its_graphs(kind):
    model = captured(int8(kind))
    with torch.no_grad():
        model(X)
        model(shown(6, 8))
    graphs = [weakref.ref(one) for one in model.forward.lowered]
    seen = weakref.ref(model)
    assert graphs
    del model
    gc.collect()
    assert seen() is None
    assert [one() for one in graphs] == [None] * len(graphs)
