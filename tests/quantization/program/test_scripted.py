"""A program that is called often gives the same by torch's interpreter, and only then."""

from __future__ import annotations

import copy
import gc
import threading
import weakref
from collections.abc import Callable, Collection
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from program_scenes import captured, in_int8
from torch import Tensor, nn

from lpot_lightning.quantization.program import scripted
from lpot_lightning.quantization.program.program import programs_of
from lpot_lightning.quantization.program.scripted import MOST, Scripted


@pytest.fixture(autouse=True)
def _at_once(monkeypatch):
    """Record a call of a shape that has come before."""
    monkeypatch.setattr(scripted, "OFTEN", 0)


def shown(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


class Net(nn.Module):
    """A convolution, something, and a linear layer."""

    def __init__(self, between: Callable[[Tensor], Tensor] = F.relu) -> None:
        super().__init__()
        self.first, self.norm, self.last = nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.Linear(6, 4)
        self.between = between

    def forward(self, x):
        y = self.between(self.norm(self.first(x)))
        return self.last(y.mean((2, 3)))


class Gated(Net):
    """A layer of floats decides how much of each channel goes on."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Conv2d(6, 6, 1)

    def forward(self, x):
        y = F.hardswish(self.norm(self.first(x)))
        return self.last((y * self.gate(y.mean((2, 3), keepdim=True)).sigmoid()).mean((2, 3)))


class Drops(Net):
    def forward(self, x):
        return self.last(F.dropout(self.first(x).mean((2, 3)), 0.5, training=True))


class Writes(Net):
    def forward(self, x):
        return self.last(self.first(x.mul_(2)).mean((2, 3)))


class Twice(Net):
    """An op of somebody else, whose calls he may count."""

    calls = 0

    def forward(self, x):
        return self.last(torch.ops.lpot_tests.doubled(self.first(x)).mean((2, 3)))


@torch.library.custom_op("lpot_tests::doubled", mutates_args=())
def doubled(x: Tensor) -> Tensor:
    """Return twice ``x``."""
    Twice.calls += 1
    return x * 2


@doubled.register_fake
def _(x):
    return torch.empty_like(x)


def functions_of(net: nn.Module) -> list[Any]:
    """Return what was recorded of the programs of ``net``."""
    programs = [one for each in programs_of(net).values() for one in each]
    scripts = [one._computes for one in programs if isinstance(one._computes, Scripted)]
    return [made for one in scripts for made in one._made.values() if made is not None]


def made(net: nn.Module, floats: Collection[str] = ()) -> nn.Module:
    """Return ``net`` in int8, with a graph for batches of any size."""
    torch.manual_seed(0)
    graphs = captured(in_int8(net, floats=floats))[0]
    with torch.no_grad():
        for size in (2, 3, 3):
            graphs(shown(size, 3, 8, 8))
    return graphs


def by_python(net: nn.Module, x: Tensor) -> Tensor:
    """Return what ``net`` gives where nothing is recorded."""
    with pytest.MonkeyPatch.context() as patch, torch.no_grad():
        patch.setattr(scripted, "OFTEN", 10**9)
        return copy.deepcopy(net)(x)


BETWEEN = {
    "relu": F.relu,
    "hardswish": F.hardswish,
    "sigmoid": torch.sigmoid,
    "product": lambda x: x * x.sigmoid(),
    "pool": lambda x: F.max_pool2d(x, 2),
    "sizes": lambda x: x.view(x.shape[0], 3, -1, x.shape[2], x.shape[3]).flatten(1, 2),
    "norm": lambda x: F.instance_norm(x),
    "in place": lambda x: x.mul_(2).relu_(),
}


@pytest.mark.parametrize("name", BETWEEN)
def test_it_gives_the_same_bits(name):
    net = made(Net(BETWEEN[name]))
    for size in (2, 5, 2, 5):
        x = shown(size, 3, 8, 8, seed=size)
        with torch.no_grad():
            assert torch.equal(net(x), by_python(net, x))
    assert len(functions_of(net)) >= 2


def test_a_shape_is_recorded_once_it_came_often(monkeypatch):
    monkeypatch.setattr(scripted, "OFTEN", 3)
    net = made(Net())
    for number in range(6):
        with torch.no_grad():
            net(shown(7, 3, 8, 8))
        assert len(functions_of(net)) == (number >= 3)


def test_layouts_are_recorded_apart():
    net, x = made(Net()), shown(3, 3, 8, 8)
    laid = x.contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        for given in (x, laid, laid, x):
            assert torch.equal(net(given), by_python(net, given))


def test_endless_shapes_go_on_by_python():
    net = made(Net())
    with torch.no_grad():
        for size in range(4, MOST + 8):
            for _ in range(2):
                net(shown(size, 3, 8, 8))
    assert len(functions_of(net)) == MOST


def test_layers_of_floats_have_the_weights_of_now():
    net, x = made(Gated(), floats=["gate"]), shown(3, 3, 8, 8)
    with torch.no_grad():
        before = net(x)
        assert functions_of(net)
        net.gate.weight.add_(1)
        changed = net(x)
        assert not torch.equal(changed, before)
        net.gate.weight = nn.Parameter(net.gate.weight * 2)
        for _ in range(3):
            assert torch.equal(net(x), by_python(net, x))
        assert not torch.equal(net(x), changed)


def test_layers_of_floats_go_over_their_input_as_now():
    class Strided(Net):
        def forward(self, x):
            return self.last(self.first(x).mean((2, 3)))

    net, x = made(Strided(), floats=["first"]), shown(3, 3, 8, 8)
    with torch.no_grad():
        before = net(x)
        assert functions_of(net)
        net.first.stride = (2, 2)
        for _ in range(3):
            assert torch.equal(net(x), by_python(net, x))
        assert not torch.equal(net(x), before)


def test_another_form_of_a_layer_is_recorded_anew():
    net, x = made(Net()), shown(3, 3, 8, 8)
    with torch.no_grad():
        before = net(x)
        vars(net.last)["forward"].int8.kernel.bias.add_(1)
        for _ in range(3):
            torch.testing.assert_close(net(x), before + 1)


@pytest.mark.parametrize("kind", [Drops, Writes, Twice])
def test_what_is_not_the_same_when_it_is_done_again_is_done_once(kind):
    net, x = made(kind()), shown(3, 3, 8, 8)
    for _ in range(3):
        given, seed, calls = x.clone(), torch.initial_seed(), Twice.calls
        torch.manual_seed(seed)
        with torch.no_grad():
            net(given)
        assert torch.equal(given, x * 2 if kind is Writes else x)
        assert Twice.calls == calls + (kind is Twice)
        after = torch.get_rng_state()
        torch.manual_seed(seed)
        _ = F.dropout(shown(3, 6), 0.5) if kind is Drops else None
        assert torch.equal(after, torch.get_rng_state())
    assert not functions_of(net)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_modes_are_those_of_the_call(mode):
    net, x = made(Gated(), floats=["gate"]), shown(3, 3, 8, 8)
    with mode():
        found = [net(x) for _ in range(4)]
    assert {one.is_inference() for one in found} == {mode is torch.inference_mode}
    assert len({one.requires_grad for one in found}) == 1
    assert all(torch.equal(one, found[0]) for one in found)


def test_an_error_is_told_as_python_tells_it():
    net, wrong = made(Gated(), floats=["gate"]), nn.Parameter(torch.ones(6, 5, 1, 1))
    with torch.no_grad():
        right, net.gate._parameters["weight"] = net.gate.weight, wrong
        for _ in range(3):
            with pytest.raises(RuntimeError, match="expected input"):
                net(shown(3, 3, 8, 8))
        net.gate.weight.data = right
        assert net(shown(3, 3, 8, 8)).shape == (3, 4)


def test_nothing_is_said_of_it(recwarn):
    made(Net(lambda x: F.instance_norm(F.batch_norm(x, torch.zeros(6), torch.ones(6)))))
    assert not recwarn.list


@pytest.mark.parametrize("call", ["_create_graph_by_tracing", "_create_function_from_graph"])
def test_a_torch_that_has_a_call_no_more_is_no_reason_to_fail(monkeypatch, call):
    monkeypatch.delattr(torch._C, call)
    net, x = made(Net()), shown(3, 3, 8, 8)
    with torch.no_grad():
        assert torch.equal(net(x), by_python(net, x))
    assert not functions_of(net)


def test_threads_get_the_same():
    net, x, found = made(Net()), shown(3, 3, 8, 8), []

    def call() -> None:
        with torch.no_grad():
            found.extend(net(x) for _ in range(20))

    threads = [threading.Thread(target=call) for _ in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    wanted = by_python(net, x)
    assert len(found) == 80
    assert all(torch.equal(one, wanted) for one in found)


def test_the_executors_settings_stay():
    before = torch._C._get_graph_executor_optimize()
    made(Net())
    assert torch._C._get_graph_executor_optimize() is before


def test_a_layer_that_python_computes_is_asked_in_each_call(monkeypatch):
    net, x = Gated(), shown(3, 3, 8, 8)
    net.gate.register_buffer("more", torch.ones(1))  # nobody knows what its forward does with it
    net = made(net, floats=["gate"])
    with torch.no_grad():
        assert torch.equal(net(x), by_python(net, x))
        assert functions_of(net)
        net.gate.weight = nn.Parameter(net.gate.weight * 2)
        assert torch.equal(net(x), by_python(net, x))


def test_an_interrupt_inside_is_one(monkeypatch):
    net, x = Gated(), shown(3, 3, 8, 8)
    net.gate.register_buffer("more", torch.ones(1))
    net = made(net, floats=["gate"])

    def interrupted(*_):
        raise KeyboardInterrupt

    with torch.no_grad():
        net(x)
        assert functions_of(net)
        monkeypatch.setattr(type(vars(net.gate)["forward"]), "computed", interrupted)
        with pytest.raises(KeyboardInterrupt):
            net(x)


def test_what_it_was_called_with_is_not_kept():
    net = made(Net())
    inputs = [shown(size, 3, 8, 8) for size in (2, 3, 3, 3)]
    kept = [weakref.ref(one) for one in inputs]
    with torch.no_grad():
        while inputs:
            net(inputs.pop())
    gc.collect()
    assert functions_of(net)
    assert not any(one() is not None for one in kept)
