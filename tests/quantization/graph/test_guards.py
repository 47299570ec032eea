"""Tensors of norms are guarded by who folds them: whatever becomes of them, a call is right."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from program_scenes import assert_same, captured, in_int8
from torch import Tensor, fx, nn
from torch._guards import TracingContext

from lpot_lightning.quantization.graph.guards import only_norms_read
from lpot_lightning.quantization.layer_forward import LayerForward


def shown(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.last = nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.Linear(6, 4)
        nn.init.constant_(self.norm.weight, 0.5)

    def forward(self, x):
        return self.last(self.norm(self.conv(x)).relu().mean((2, 3)))


def without_weight(net: nn.Module) -> None:
    net.norm.weight = None


def without_statistics(net: nn.Module) -> None:
    net.norm.running_mean = net.norm.running_var = None


def another_weight(net: nn.Module) -> None:
    net.norm.weight = nn.Parameter(torch.full((6,), 2.0))


def other_data(net: nn.Module) -> None:
    net.norm.bias.data = torch.ones(6)


def doubled(net: nn.Module) -> None:
    net.norm.running_mean.add_(1)


def of_another_type(net: nn.Module) -> None:
    net.norm.running_var = net.norm.running_var.to(torch.bfloat16).float() * 2


CHANGES: list[Callable[[nn.Module], None]] = [
    *(without_weight, without_statistics, another_weight),
    *(other_data, doubled, of_another_type),
]


@pytest.mark.parametrize("change", CHANGES)
def test_a_norm_that_changes_is_computed_as_it_is(change):
    layers, x = in_int8(Net()), shown(4, 3, 8, 8)
    net = captured(layers)[0]
    with torch.no_grad():
        before = net(x)
        for one in (layers, net):
            change(one)
        assert not torch.allclose(net(x), before)
    assert_same(net, layers, x)


def test_a_norm_of_another_size_is_told():
    net, x = captured(in_int8(Net()))[0], shown(4, 3, 8, 8)
    with torch.no_grad():
        net(x)
        net.norm.weight = nn.Parameter(torch.ones(5))
        with pytest.raises(RuntimeError, match="should contain 6 elements"):
            net(x)
        net.norm.weight = nn.Parameter(torch.ones(6))
        assert net(x).shape == (4, 4)


def test_what_else_reads_a_norms_tensors_is_guarded():
    class Shares(Net):
        def forward(self, x):
            return super().forward(x) * self.norm.weight[:4]

    net, x = captured(in_int8(Shares()))[0], shown(4, 3, 8, 8)
    with torch.no_grad():
        net(x)
        net.norm.weight = nn.Parameter(torch.ones(6).double())
        assert net(x).dtype is torch.float64


def test_only_what_norms_alone_read_is_left_to_them():
    graph = fx.Graph()
    x, mean, variance, weight = (graph.placeholder(name) for name in ("x", "m", "v", "w"))
    normed = graph.call_function(F.batch_norm, (x, mean, variance, weight))
    graph.output(graph.call_function(torch.mul, (normed, weight)))
    module = fx.GraphModule(nn.Module(), graph)
    assert only_norms_read(module, {"x", "m", "v", "w"}) == {"m", "v"}


@pytest.fixture
def asked(monkeypatch) -> tuple[nn.Module, list[str]]:
    """A net that was called once, and what Dynamo guards of it."""
    net, seen = captured(in_int8(Net()))[0], []
    forward = net.forward
    computed = forward._computed

    def noted(graph, inputs):
        found = computed(graph, inputs)
        seen.extend(one.name for one in TracingContext.get().guards_context.dynamo_guards)
        return found

    monkeypatch.setattr(forward, "_computed", noted)
    with torch.no_grad():
        net(shown(4, 3, 8, 8))
    return net, seen


def test_no_guard_asks_for_them(asked):
    _, seen = asked
    assert seen
    assert not any("running_mean']" in one or "_parameters['weight']" in one for one in seen)


def test_of_the_forward_of_a_layer_no_guard_asks_more_than_which_it_is(asked):
    net, seen = asked
    assert [one for one in seen if "['conv'].forward" in one] == [
        "L['module']._modules['conv'].forward"
    ]
    x = shown(4, 3, 8, 8)
    with torch.no_grad():
        before = net(x)
        forward = vars(net.conv)["forward"]
        other = copy.deepcopy(forward.int8)
        other.kernel.scales.mul_(2)
        vars(net.conv)["forward"] = LayerForward(net.conv, other)
        assert not torch.equal(net(x), before)
        vars(net.conv)["forward"] = forward
        assert torch.equal(net(x), before)
        vars(net.conv)["forward"] = lambda x: forward(x) * 2
        assert not torch.equal(net(x), before)
