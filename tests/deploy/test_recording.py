"""What a model is called with, noted while it is shown data."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from lpot_lightning.deploy import recording
from lpot_lightning.deploy.recording import CallRecorder, roots_with


class Two(nn.Module):
    """Calls a part without parameters, a body and a head, each from outside of the others."""

    def __init__(self):
        super().__init__()
        self.scale, self.body, self.head = nn.Identity(), nn.Linear(3, 4), nn.Linear(4, 2)

    def step(self, x):
        return self.head(self.body(self.scale(x)))


def recorded(model, calls, step=None, paths=None):
    recorder = CallRecorder(paths)
    with recorder.on(model), torch.no_grad():
        for x in calls:
            (step or model)(x)
    return recorder


def test_the_first_module_with_parameters_that_is_called_is_the_root():
    model, x = Two(), torch.ones(2, 3)
    found = recorded(model, [x, x + 1], model.step)
    assert found.root == "body"
    assert [call.args[0].tolist() for call in found.calls] == [x.tolist(), (x + 1).tolist()]


def test_the_first_call_of_each_module_that_is_called_from_outside_is_kept():
    model, x = Two(), torch.ones(2, 3)
    found = recorded(model, [x, x + 1], model.step).firsts
    assert list(found) == ["body", "head"]
    assert torch.equal(found["body"].args[0], x)
    net = nn.Sequential(nn.Linear(3, 3), nn.ReLU())
    assert list(recorded(net, [x]).firsts) == [""]


def test_a_module_around_others_is_the_root():
    net = nn.Sequential(nn.Linear(3, 3), nn.ReLU())
    assert recorded(net, [torch.ones(2, 3)]).root == ""


def test_only_those_that_are_meant():
    model = Two()
    assert recorded(model, [torch.ones(2, 3)], model.step, ["head"]).root == "head"
    assert recorded(model, [torch.ones(2, 3)], model.step, []).root is None


def test_a_call_of_forward_itself_is_heard():
    net = nn.Sequential(nn.Linear(3, 3))
    found = recorded(net, [torch.ones(2, 3)], lambda x: net.forward(x))
    assert (found.root, len(found.calls)) == ("", 1)


def test_what_it_is_called_with_is_from_before_hooks_of_others():
    net = nn.Sequential(nn.Linear(3, 3))
    net.register_forward_pre_hook(lambda _, args: (args[0] * 2,))
    assert recorded(net, [torch.ones(1, 3)]).calls[0].args[0].tolist() == [[1, 1, 1]]


def test_arguments_by_name_and_what_is_no_tensor():
    class Named(nn.Linear):
        def forward(self, x, *, mask=None, scale=1.0):
            return super().forward(x * mask * scale)

    net, x = Named(3, 3), torch.ones(2, 3)
    found = recorded(net, [x], lambda x: net(x, mask=x, scale=0.5))
    assert set(found.calls[0].kwargs) == {"mask", "scale"}
    assert found.calls[0].kwargs["scale"] == 0.5


def test_calls_are_copies_without_gradients():
    net, x = nn.Linear(3, 3), torch.ones(2, 3, requires_grad=True)
    recorder = CallRecorder()
    with recorder.on(net):
        net(x)
    with torch.no_grad():
        x.zero_()
    (kept,) = recorder.calls[0].args
    assert kept.tolist() == [[1, 1, 1]] * 2
    assert not kept.requires_grad


def test_no_more_than_64_samples_and_whole_calls():
    net = nn.Linear(3, 3)
    found = recorded(net, [torch.ones(size, 3) for size in (30, 30, 30, 2)])
    assert [len(call.args[0]) for call in found.calls] == [30, 30]


def test_the_first_call_however_large_and_no_more_than_64_mib(monkeypatch):
    net = nn.Linear(3, 3)
    assert [len(call.args[0]) for call in recorded(net, [torch.ones(99, 3)] * 2).calls] == [99]
    monkeypatch.setattr(recording, "MOST_BYTES", 100)
    calls = recorded(net, [torch.ones(4, 3)] * 4).calls
    assert len(calls) == 2


def test_the_model_is_as_before():
    model = Two()
    model.body.forward = model.body.forward
    before = {path: sorted(vars(part)) for path, part in model.named_modules()}
    recorded(model, [torch.ones(2, 3)], model.step)
    assert {path: sorted(vars(part)) for path, part in model.named_modules()} == before
    assert not any(part._forward_pre_hooks for part in model.modules())


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")
def test_scripted_modules_are_passed_by():
    net = nn.Sequential(torch.jit.script(nn.Linear(3, 3)))
    assert recorded(net, [torch.ones(1, 3)]).root == ""


def test_roots_that_hold_an_op():
    assert roots_with(["loss", "net", "network"], ["net.0", "net.1"]) == ("net",)
    assert roots_with(["", "loss"], ["a#linear"]) == ("",)
    assert roots_with(["net"], ["net#linear"]) == ("net",)
    assert roots_with(["a", "b"], ["c"]) == ("a", "b")
