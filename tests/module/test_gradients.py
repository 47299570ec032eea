"""Whether gradients go through all of a model."""

import torch
from torch import nn

from lpot_lightning.module.gradients import GradientWatch


def looked(work):
    """Return what is found while ``work`` is done with two layers."""
    first, second = nn.Linear(3, 3), nn.Linear(3, 3)
    net = nn.ModuleList([first, second])
    watch = GradientWatch(net)
    work(first, second)
    found = watch.end()
    assert not first._forward_hooks
    return found


X = torch.ones(2, 3, requires_grad=True)


def test_through_all_through_some_and_through_none():
    assert looked(lambda a, b: torch.autograd.grad(b(a(X)).sum(), X))
    assert looked(lambda a, _: torch.autograd.grad(a(X).sum(), X))  # the other is not called
    assert not looked(lambda a, b: torch.autograd.grad(a(X).sum() + b(X).sum().detach(), X))
    assert not looked(lambda a, b: b(a(X)))
    assert not looked(lambda a, b: None)
