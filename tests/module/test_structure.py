"""It is seen that a module of a model is another one."""

from __future__ import annotations

from typing import Any

import pytest
from torch import nn

from lpot_lightning.module.structure import Structure


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, 4), nn.Sequential(nn.ReLU(), nn.Linear(4, 4)))
        self.heads = nn.ModuleDict({"a": nn.Linear(4, 2)})
        self.later: nn.Module | None = None
        self.register_module("extra", None)


def swap(first: nn.Sequential) -> None:
    first[0], first[1] = first[1], first[0]


CHANGES = {
    "exchanged": (lambda m: m.body.__setitem__(0, nn.Linear(4, 4)), {"body.0"}),
    "deep inside": (lambda m: m.body[1].__setitem__(1, nn.Linear(4, 8)), {"body.1.1"}),
    "with what holds it": (
        lambda m: setattr(m, "body", nn.Sequential(nn.Linear(4, 4))),
        {"body", "body.0", "body.1", "body.1.0", "body.1.1"},
    ),
    "a new one": (lambda m: m.heads.update({"b": nn.Linear(4, 2)}), {"heads.b"}),
    "where there was none": (lambda m: setattr(m, "extra", nn.Linear(4, 2)), {"extra"}),
    "gone": (lambda m: m.heads.clear(), {"heads.a"}),
    "two that change places": (lambda m: swap(m.body), {"body.0", "body.1", "body.0.0",
                                                        "body.0.1", "body.1.0", "body.1.1"}),
}  # fmt: skip


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_is_seen(name: str) -> None:
    change, paths = CHANGES[name]
    net: Any = Net()
    known = Structure(net)
    assert known.is_of(net)
    assert not known.exchanged(net)
    change(net)
    assert not known.is_of(net)
    assert known.exchanged(net) == paths
    assert Structure(net).is_of(net)


def test_parameters_and_forwards_are_no_modules() -> None:
    net = Net()
    known = Structure(net)
    net.body[0].weight = nn.Parameter(net.body[0].weight * 2)
    net.heads["a"].forward = net.body[0].forward  # type: ignore[method-assign]
    net.requires_grad_(False).eval()
    assert known.is_of(net)


def test_another_model() -> None:
    assert not Structure(Net()).is_of(Net())
