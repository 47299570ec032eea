"""What of others hangs at a module, and what becomes of it in a copy."""

import threading

import pytest
import torch
from lightning.pytorch.profilers.pytorch import RegisterRecordFunction
from lit_scenes import small_net
from torch import nn

from lpot_lightning.errors import QuantizationError
from lpot_lightning.module.copying import check_copyable, second_model


class Locked:
    """Counts calls, as a logger does that writes from several threads."""

    def __init__(self):
        self.lock, self.seen = threading.Lock(), []

    def see(self, module, args, output):
        with self.lock:
            self.seen.append(module)


class Doubling(torch.nn.Linear):
    """Has a hook of its own, which belongs to what it computes."""

    def __init__(self):
        super().__init__(3, 3)
        self.factor = 2.0
        self.register_forward_hook(self.doubled)

    def doubled(self, module, args, output):
        return output * self.factor


def test_hooks_of_a_profiler_are_no_part_of_the_copy():
    net, x = small_net(), torch.randn(4, 8)
    with RegisterRecordFunction(net):
        net(x)  # from here on its hooks hold what cannot be copied
        copied = second_model(net)
        assert all(one._forward_hooks for one in net)
        net(x)
    assert not any(one._forward_hooks or one._forward_pre_hooks for one in copied.modules())


def test_a_hook_that_cannot_be_copied_is_shared():
    net, logger = small_net(), Locked()
    net[0].register_forward_hook(logger.see)
    check_copyable(net)
    copied = second_model(net)
    copied(torch.randn(4, 8))
    assert logger.seen == [copied[0]]


def test_a_hook_of_the_model_is_copied_though_another_one_is_not():
    net, logger = torch.nn.Sequential(Doubling()), Locked()
    net[0].register_forward_hook(logger.see)
    copied, x = second_model(net), torch.randn(4, 3)
    copied[0].factor = 4.0
    assert torch.equal(copied(x), 2 * net.eval()(x))


def test_an_attribute_that_cannot_be_copied_is_told():
    net = small_net()
    net.lock = threading.Lock()
    with pytest.raises(QuantizationError, match="cannot be copied"):
        second_model(net)


class Two(nn.Module):
    """Two layers of one weight, and a list that knows the first."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(2, 2), nn.Linear(2, 2)
        self.second.weight = self.first.weight
        self.known = [self.first]
        self.owner = [self]


def test_what_is_one_object_in_the_model_is_one_in_the_copy():
    model = Two()
    copied = second_model(model)
    assert copied.second.weight is copied.first.weight is not model.first.weight
    assert copied.known[0] is copied.first is not model.first
    assert copied.owner[0] is copied
    assert torch.equal(copied.first.weight, model.first.weight)


class LeftOut(nn.Linear):
    """Leaves what cannot be copied out of its state, and makes it anew."""

    def __init__(self) -> None:
        super().__init__(2, 2)
        self.lock = threading.Lock()

    def __getstate__(self):
        return {name: value for name, value in vars(self).items() if name != "lock"}

    def __setstate__(self, state):
        super().__setstate__(state)
        self.lock = threading.Lock()


class Counted(nn.Linear):
    """Says itself how it is copied."""

    def __deepcopy__(self, memo):
        copied = Counted(self.in_features, self.out_features)
        copied.by_itself = True
        return copied


def test_a_class_says_how_its_modules_are_copied():
    model = nn.Sequential(LeftOut(), nn.Sequential(Counted(2, 2)))
    copied = second_model(model)
    assert copied[0].lock is not model[0].lock
    assert copied[1][0].by_itself
