"""A module as it was, where a pass over it does not reach its end."""

from collections import Counter, defaultdict, deque

import pytest
import torch
from torch import nn

from lpot_lightning.module.untouched import (
    as_before_but,
    as_before_on_error,
    at_rest,
)


class Gathers(nn.Module):
    def __init__(self):
        super().__init__()
        self.part = nn.Linear(2, 2)
        self.outputs, self.last, self.by_name, self.seen = [1], deque([1], 3), {"a": 1}, {1}
        self.count, self.sum = 0, torch.zeros(2)
        self.register_buffer("total", torch.zeros(2))

    def gather(self, then_fail=False):
        self.outputs.append(2)
        self.last.append(2)
        self.by_name["b"] = 2
        self.seen.add(2)
        self.count += 1
        self.sum = self.sum + 1
        self.total = self.total + 1
        self.part.note = "new"
        if then_fail:
            raise KeyError


def test_what_raises_leaves_nothing():
    module = Gathers()
    outputs, weight = module.outputs, module.part.weight
    with pytest.raises(KeyError), as_before_on_error(module):
        module.gather(then_fail=True)
    assert module.outputs is outputs
    assert (module.outputs, module.last, module.by_name, module.seen) == (
        [1],
        deque([1]),
        {"a": 1},
        {1},
    )
    assert module.count == 0
    assert module.sum.tolist() == module.total.tolist() == [0, 0]
    assert not hasattr(module.part, "note")
    assert module.part.weight is weight
    assert list(module.state_dict()) == ["total", "part.weight", "part.bias"]


def test_what_reaches_its_end_keeps_all():
    module = Gathers()
    with as_before_on_error(module):
        module.gather()
    assert module.outputs == [1, 2]
    assert module.part.note == "new"


def test_what_is_gathered_for_each_loader_or_name_is_as_it_was():
    module = Gathers()
    module.each, module.named = [[1], []], defaultdict(list, {"a": [1]})

    def gather():
        module.each[1].append(2)
        module.named["a"].append(2)
        module.named["b"].append(2)
        raise KeyError

    with pytest.raises(KeyError), as_before_on_error(module):
        gather()
    assert module.each == [[1], []]
    assert module.named == {"a": [1]}
    assert module.named["c"] == []


def test_hooks_are_in_their_order_again_and_counts_are_those_of_before():
    module = nn.Linear(2, 2)
    hooks = [module.register_forward_hook(lambda *_: None) for _ in range(3)]
    module.counts = Counter("aab")

    def fail():
        hooks[0].remove()
        module.register_forward_hook(lambda *_: None)
        module.counts.update("abc")
        raise KeyError

    with pytest.raises(KeyError), as_before_on_error(module):
        fail()
    assert list(module._forward_hooks) == [one.id for one in hooks]
    assert module.counts == Counter("aab")


def test_a_model_is_at_rest_until_the_end_and_where_it_is_not_reached():
    model = nn.Sequential(nn.Dropout(), nn.Dropout().eval())

    def fail():
        assert not torch.is_grad_enabled()
        assert not any(one.training for one in model.modules())
        model.train()
        raise KeyError

    with pytest.raises(KeyError), at_rest(model):
        fail()
    assert torch.is_grad_enabled()
    assert [one.training for one in model.modules()] == [True, True, False]


def test_what_is_inside_of_a_name_keeps_what_it_noted():
    module = Gathers()
    module.part = nn.Sequential(nn.ModuleDict({"watch": Gathers()}))
    inside = module.part[0]["watch"]
    with as_before_but(module, "watch"):
        for one in (module, inside):
            one.seen.add(2)
            one.new = 1
    assert module.seen == {1}
    assert not hasattr(module, "new")
    assert (inside.seen, inside.new) == ({1, 2}, 1)
