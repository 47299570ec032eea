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


class Bare(nn.Linear):
    """Gives what it holds itself as its state."""

    def __getstate__(self):
        return vars(self)


def test_what_a_module_gives_as_its_state_stays_its_own():
    model = Bare(2, 2)
    model.held = [1]
    weight, held = model.weight, model.held
    copied = second_model(model)
    assert model.weight is weight is not copied.weight
    assert model.held is held is not copied.held


class Shares(nn.Module):
    """Has buffers of one memory, and mappings that are one object."""

    def __init__(self):
        super().__init__()
        whole = torch.arange(4.0)
        self.register_buffer("whole", whole)
        self.register_buffer("part", whole[:2])
        self.register_buffer("turned", torch.arange(6.0).view(2, 3).t())
        self.first = self.second = {"a": [1], "b": {}}
        self.none, self.nothing = {}, set()
        self.also = self.none


def test_memory_and_objects_are_shared_in_the_copy_as_in_the_model():
    model = Shares()
    copied = second_model(model)
    assert copied.part.data_ptr() == copied.whole.data_ptr() != model.whole.data_ptr()
    assert copied.turned.stride() == model.turned.stride()
    assert copied.turned.data_ptr() != model.turned.data_ptr()
    assert copied.first is copied.second is not model.first
    assert (copied.first, copied.first["a"] is model.first["a"]) == (model.first, False)
    assert copied.also is copied.none is not model.none
    assert copied.nothing is not model.nothing


class Told(nn.Linear):
    """Wants to know when it goes to another mode or device."""

    def train(self, mode=True):
        self.mode = mode
        return super().train(mode)

    def cpu(self):
        self.place = "cpu"
        return super().cpu()


@pytest.mark.parametrize("mode", [True, False])
def test_a_class_is_told_of_the_mode_and_the_place(mode):
    copied = second_model(Told(2, 2).train(mode))
    assert (copied.mode, copied.place, copied.training) == (False, "cpu", False)
    assert not any(one.training for one in second_model(nn.Sequential(nn.Linear(2, 2))).modules())
