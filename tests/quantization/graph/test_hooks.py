"""A hook is called from the moment that it is there, wherever its module is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from grid_scenes import grid_over
from torch import nn

from lpot_lightning.quantization.graph.capture import Captured
from lpot_lightning.quantization.graph.hooks import ModuleHooks
from lpot_lightning.quantization.layer_forward import LayerForward
from lpot_lightning.quantization.program.program import Program
from lpot_lightning.quantization.quantized_layer import kind_of, quantized

X = torch.randn(2, 8, generator=torch.Generator().manual_seed(0))


class Net(nn.Module):
    def __init__(self, held: type = nn.ModuleList) -> None:
        super().__init__()
        self.one, self.act, self.two = nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 3)
        self.more = held([nn.Tanh()])

    def forward(self, x):
        return self.more[0](self.two(self.act(self.one(x))))


class Stops(Net):
    """Two graphs of one call."""

    def forward(self, x):
        y = self.act(self.one(x))
        return self.more[0](self.two(y + float(y.sum().item() > 1e9)))


@pytest.fixture(params=[Net, Stops])
def net(request) -> Iterator[nn.Module]:
    with torch.no_grad():
        yield captured(request.param())


def captured(model: nn.Module) -> nn.Module:
    for layer in [one for one in model.eval().modules() if kind_of(one)]:
        vars(layer)["forward"] = LayerForward(layer, quantized(layer, grid_over(-4, 4)))
    vars(model)["forward"] = Captured(model, Program)
    model(X)
    return model


def tenfold(module: nn.Module, given: Any, output: torch.Tensor) -> torch.Tensor:
    return output * 10


def before(module: nn.Module, given: Any) -> Any:
    return (given[0] * 10,)


def directly(module: nn.Module) -> None:
    module._forward_hooks[-1] = tenfold


HOOKS: dict[str, Callable[[nn.Module], Any]] = {
    "after": lambda module: module.register_forward_hook(tenfold),
    "before": lambda module: module.register_forward_pre_hook(before),
    "with keywords": lambda module: module.register_forward_hook(
        lambda module, args, kwargs, output: output * 10, with_kwargs=True
    ),
    "always": lambda module: module.register_forward_hook(tenfold, always_call=True),
    "put there": directly,
}


@pytest.mark.parametrize("name", HOOKS)
@pytest.mark.parametrize("path", ["one", "act", "two", "more.0"])
def test_a_hook_that_is_set_later_is_called(net, name, path):
    plain = net(X)
    HOOKS[name](net.get_submodule(path))
    for _ in range(2):
        assert not torch.allclose(net(X), plain)


def test_a_hook_that_is_gone_is_called_no_more(net):
    plain, hook = net(X), net.act.register_forward_hook(tenfold)
    net(X)
    made = len(net.forward.lowered)
    hook.remove()
    assert torch.equal(net(X), plain)
    assert len(net.forward.lowered) == made  # by the graphs from before it


def test_a_module_that_comes_with_a_hook_is_seen(net):
    plain, other = net(X), nn.ReLU()
    other.register_forward_hook(tenfold)
    net(X)
    net.act = other
    assert not torch.allclose(net(X), plain)


@pytest.mark.parametrize("path", ["act", "more"])
def test_a_hook_of_a_module_in_a_list_is_called(path):
    with torch.no_grad():
        net = captured(Net(list))
        plain = net(X)
        module = net.act if path == "act" else net.more[0]
        module.register_forward_hook(tenfold)
        assert not torch.allclose(net(X), plain)


def test_a_hook_of_a_module_that_is_given_is_called():
    class Given(Net):
        def forward(self, x, last):
            return last(self.two(self.act(self.one(x))))

    net, last = Given(), nn.Tanh()
    vars(net)["forward"] = Captured(net, Program)
    with torch.no_grad():
        plain = net(X, last)
        last.register_forward_hook(tenfold)
        assert not torch.allclose(net(X, last), plain)


def test_hooks_are_told_by_the_module_that_has_them():
    net = Net()
    hooks = ModuleHooks(net)
    assert hooks.there() == ()
    hook = net.two.register_forward_pre_hook(before)
    first = hooks.there()
    net.act.register_forward_hook(tenfold)
    assert len(first) == 1
    assert set(hooks.there()) > set(first)
    hook.remove()
    assert not set(hooks.there()) & set(first)
