"""Where outputs of frozen modules go, through whatever is done with them on the way."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lpot_lightning.module.flow import Flow, roles


class Step(nn.Module):
    """A model of a frozen net and a head that trains; its step is given."""

    def __init__(self, step: Any) -> None:
        super().__init__()
        self.frozen = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 6))
        self.frozen.requires_grad_(False)
        self.head, self.student = nn.Linear(6, 4), nn.Linear(6, 6)
        self.prompt = nn.Parameter(torch.randn(6))
        self.projection = nn.Parameter(torch.randn(6, 4))
        self.temperature = nn.Parameter(torch.ones(()))
        self.register_buffer("bank", torch.zeros(10, 6))
        self.step = step


@dataclass
class Found:
    features: Tensor
    name: str = "features"


class Same(torch.autograd.Function):
    """Torch functions tell of nothing in here."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x * 1

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return grad


class OutOfSight(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return Same.apply(x)


def without_gradients(m, x):
    with torch.no_grad():
        features = m.frozen(x)
    return m.head(features.detach().clone())


def by_dataclass(m, x):
    return m.head(Found(m.frozen(x)).features)


def by_containers(m, x):
    made = {"all": [m.frozen(x), x]}
    return m.head(torch.cat([*made["all"]], 0)[1:3].view(2, 6))


def written_into(m, x):
    whole = torch.zeros(3, 12)
    whole[:, :6] = m.frozen(x)
    return m.head(whole[:, :6])


def by_bank(m, x):
    m.bank[:3] = m.frozen(x).detach()
    return m.head(m.bank[:3])


def out_of_sight(m, x):
    return m.head(OutOfSight()(m.frozen(x)))


def by_own_weight(m, x):
    weight = m.frozen[0].weight
    return m.head(F.linear(F.linear(x, weight), m.frozen[2].weight))


def heads_weight(m, x):
    return F.linear(m.frozen(x), m.head.weight.to(torch.float64).float() * 2 + torch.randn(4, 6))


def forward_itself(m, x):
    return m.head.forward(m.frozen.forward(x))


def tokens(m, x):
    return F.embedding(m.frozen(x).argmax(1), m.student.weight)


FEEDS = {
    "linear probing": lambda m, x: m.head(m.frozen(x)),
    "without gradients": without_gradients,
    "a dataclass": by_dataclass,
    "containers, cat, views": by_containers,
    "written into": written_into,
    "a buffer": by_bank,
    "its layers by function": by_own_weight,
    "the weight of a head": heads_weight,
    "forward itself": forward_itself,
    "tokens": tokens,
    "a projection of the model's own": lambda m, x: m.frozen(x) @ m.projection,
    "made of nothing": lambda m, x: m.head(m.frozen(torch.randn(3, 6))),
    "a prompt": lambda m, x: m.head(m.frozen(x) + m.prompt),
}


def agreement(m, x):
    with torch.no_grad():
        wanted = m.frozen(x)
    student = m.student(x)
    mask = wanted.max(1).values > 0
    loss = ((student - wanted).square() * mask[:, None].float()).mean(1)
    return (loss / m.temperature.exp()).sum() + F.cross_entropy(student, wanted.argmax(1))


def looked_through(m, x):
    return F.mse_loss(m.frozen(m.student(x)), m.frozen(x))


def only_some(m, x):
    sure = m.frozen(x).max(1).values > -9
    return m.student(x[sure]).sum()


def some_by_number(m, x):
    return m.student(x[m.frozen(x).sum(1).topk(2).indices]).sum()


def momentum_encoder(m, x):
    keys, queries = m.frozen(x).detach(), m.student(x)
    with torch.no_grad():
        for mine, theirs in zip(m.frozen[0].parameters(), m.head.parameters(), strict=True):
            mine.data = mine.data * 0.9 + theirs.mean() * 0.1
            mine.mul_(0.9).add_(torch.ones_like(mine) * theirs.sum(), alpha=0.1)
        m.frozen[2].weight[:, :6].lerp_(m.student.weight, 0.1)
        m.bank[3:6] = keys
    return F.cross_entropy(queries @ m.bank.clone().T, torch.arange(3))


def a_shape(m, x):
    return m.head(torch.randn_like(m.frozen(x))) + m.head(m.frozen(x).new_zeros(3, 6))


def a_number(m, x):
    return m.head(x * m.frozen(x).mean())


COMPARED = {
    "distillation": agreement,
    "a net that a loss looks through": looked_through,
    "a mask": only_some,
    "a choice": some_by_number,
    "a momentum encoder": momentum_encoder,
    "a shape": a_shape,
    "a number": a_number,
    "a temperature": lambda m, x: F.mse_loss(m.frozen(x) / m.temperature, m.student(x)),
    "nobody calls it": lambda m, x: m.head(x),
}


def roles_of(step: Any, *moved: nn.Module) -> dict[str, bool]:
    model = Step(step)
    flow = Flow(model)
    with flow.looking():
        step(model, torch.randn(3, 6))
    return roles(model, flow.feeding, flow.called)


@pytest.mark.parametrize("name", FEEDS)
def test_it_feeds_what_trains(name):
    assert roles_of(FEEDS[name]) == {"frozen": True}


@pytest.mark.parametrize("name", COMPARED)
def test_it_is_compared_with(name):
    assert roles_of(COMPARED[name]) == {"frozen": False}


def looked_at(model: nn.Module, step: Any = None, *, x: Any = None) -> dict[str, bool]:
    flow = Flow(model)
    with flow.looking():
        (step or model)(torch.randn(3, 6) if x is None else x)
    return roles(model, flow.feeding, flow.called)


def frozen(*shape: int) -> nn.Linear:
    return nn.Linear(*shape).requires_grad_(False)


def test_what_functions_cannot_be_seen_in_goes_through():
    model = nn.ModuleDict({"frozen": frozen(6, 6), "hidden": OutOfSight(), "head": nn.Linear(6, 2)})
    assert looked_at(model, lambda x: model["head"](model["hidden"](model["frozen"](x)))) == {
        "frozen": True
    }


def test_attention_is_one_function():
    model = nn.ModuleDict({"frozen": frozen(6, 6), "head": nn.MultiheadAttention(6, 1)})
    assert looked_at(model, lambda x: model["head"](*[model["frozen"](x)] * 3)) == {"frozen": True}


def test_chains_of_frozen_modules():
    model = nn.ModuleDict({"a": frozen(6, 6), "b": frozen(6, 6), "head": nn.Linear(6, 2)})
    both = looked_at(model, lambda x: model["head"](model["b"](model["a"](x))))
    assert both == {"a": True, "b": True}
    none = looked_at(model, lambda x: model["b"](model["a"](x)).sum() + model["head"](x).sum())
    assert none == {"a": False, "b": False}
    one = looked_at(model, lambda x: (model["b"](x) - model["head"](model["a"](x)).sum()).mean())
    assert one == {"a": True, "b": False}


def test_frozen_first_and_last_layers_of_a_net_that_trains():
    assert looked_at(nn.Sequential(frozen(6, 6), nn.Linear(6, 6), frozen(6, 6))) == {
        "0": True,
        "2": True,
    }


class LoRA(nn.Module):
    """A frozen layer with a change that trains."""

    def __init__(self) -> None:
        super().__init__()
        self.base, self.down, self.up = frozen(6, 6), nn.Linear(6, 2), nn.Linear(2, 6)

    def forward(self, x: Tensor) -> Tensor:
        return self.base(x) + self.up(self.down(x))


def test_the_base_of_a_change_that_trains():
    assert looked_at(nn.Sequential(LoRA())) == {"0.base": True}


class Both(nn.Module):
    """Holds a teacher and who learns of it."""

    def __init__(self) -> None:
        super().__init__()
        self.teacher, self.student = frozen(6, 4), nn.Linear(6, 4)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.student(x), self.teacher(x)


def test_a_teacher_beside_its_student_in_one_module():
    model = nn.ModuleDict({"both": Both()})
    assert looked_at(model, lambda x: F.mse_loss(*model["both"](x))) == {"both.teacher": False}


def test_what_only_holds_frozen_modules_is_none():
    held = nn.ModuleDict({"backbone": frozen(6, 6), "teacher": frozen(6, 2)})
    model = nn.ModuleDict({"held": held, "head": nn.Linear(6, 2)})
    step = lambda x: F.mse_loss(model["head"](held["backbone"](x)), held["teacher"](x))  # noqa: E731
    assert looked_at(model, step) == {"held.backbone": True, "held.teacher": False}


def test_a_bias_that_trains_makes_the_layer_train():
    model = nn.ModuleDict({"a": frozen(6, 6), "b": nn.Linear(6, 2)})
    model["b"].weight.requires_grad_(False)
    assert looked_at(model, lambda x: model["b"](model["a"](x))) == {"a": True}


def test_masked_weights_train():
    model = nn.ModuleDict({"a": frozen(6, 6), "b": nn.Linear(6, 2)})
    torch.nn.utils.prune.l1_unstructured(model["b"], "weight", 0.5)
    assert looked_at(model, lambda x: model["b"](model["a"](x))) == {"a": True}


def test_a_recurrent_net_that_trains():
    model = nn.ModuleDict({"a": frozen(6, 6), "b": nn.LSTM(6, 2)})
    assert looked_at(model, lambda x: model["b"](model["a"](x))) == {"a": True}


def test_nothing_is_left_behind():
    model = Step(None)
    flow = Flow(model)
    with pytest.raises(RuntimeError), flow.looking():
        model.head(torch.randn(3, 5))
    assert torch.overrides._get_current_function_mode_stack() == []
    assert not torch.nn.modules.module._has_any_global_hook()
    before = set(flow.called)
    model.frozen(torch.randn(3, 6))
    assert flow.called == before


def test_what_nobody_calls_is_a_module_of_its_own_beside_what_is_called():
    held = nn.ModuleDict({"backbone": frozen(6, 6), "teacher": frozen(6, 2)})
    model = nn.ModuleDict({"held": held, "head": nn.Linear(6, 2)})
    found = looked_at(model, lambda x: model["head"](held["backbone"](x)))
    assert found == {"held.backbone": True, "held.teacher": False}
