"""What of others hangs at a module, and what becomes of it in a copy."""

import threading

import pytest
import torch
from lightning.pytorch.profilers.pytorch import RegisterRecordFunction
from lit_scenes import small_net

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
