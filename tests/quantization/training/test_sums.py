"""Sums that add what convolutions beside them read."""

import gc

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from lpot_lightning.quantization.training.sums import RoundingSums, Sums


class Tenths:
    """Rounds to tenths."""

    def again(self, x):
        return (x * 10).round() / 10


class Adds(nn.Module):
    def __init__(self, add):
        super().__init__()
        self.add = add

    def forward(self, x, y):
        return self.add(x, y)


X, Y = torch.tensor([0.12, 0.57]), torch.tensor([1.03, 2.0])


def added(add, *, read, x=X, y=Y):
    sums, module = Sums(), Adds(add)
    x = x.clone()
    if read:
        sums.note(x, Tenths())
    return RoundingSums(module, sums)(x, y)


def test_what_was_read_is_rounded_however_it_is_added():
    wanted = torch.tensor([0.1, 0.6]) + Y
    adds = [lambda x, y: x + y, lambda x, y: y + x, torch.add, lambda x, y: y.clone().add_(x)]
    for add in adds:
        torch.testing.assert_close(added(add, read=True), wanted)
        torch.testing.assert_close(added(add, read=False), X + Y)


def test_what_is_written_to_is_left_as_it_is():
    def into(x, y):
        x += y
        return x

    torch.testing.assert_close(added(into, read=True), X + Y)


def test_numbers_and_what_is_spread_are_left_as_they_are():
    torch.testing.assert_close(added(lambda x, y: x + 1, read=True), X + 1)
    wide = torch.zeros(3, 2)
    torch.testing.assert_close(added(lambda x, y: x + y, read=True, y=wide), X + wide)


def test_what_was_written_to_since_is_another_value():
    def later(x, y):
        x.mul_(2)
        return x + y

    torch.testing.assert_close(added(later, read=True), 2 * X + Y)


def test_a_tensor_that_is_gone_is_forgotten():
    sums, x = Sums(), X.clone()
    sums.note(x, Tenths())
    del x
    gc.collect()
    assert not sums._read


def test_outside_of_the_module_nothing_is_rounded():
    sums, x = Sums(), X.clone()
    sums.note(x, Tenths())
    RoundingSums(Adds(torch.add), sums)(x, Y)
    assert torch.equal(x + Y, X + Y)


class Squares(Tenths):
    """Saves a tensor for its backward pass."""

    def again(self, x):
        return x.square()


def test_a_checkpointed_part_is_the_same_in_the_backward_pass():
    sums, x = Sums(), X.clone().requires_grad_()

    class Parts(nn.Module):
        def forward(self, x, y):
            return checkpoint(lambda one: (one + y).square(), x, use_reentrant=False)

    sums.note(x, Squares())
    RoundingSums(Parts(), sums)(x, Y).sum().backward()
    torch.testing.assert_close(x.grad, 2 * (X + Y))
