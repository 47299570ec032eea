"""What a model costs: its parameters and its arithmetic."""

from __future__ import annotations

import copy

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from lpot_lightning.pruning.channels.entering import CallsByPath, entered, random_numbers_kept


def parameters_of(model: nn.Module) -> int:
    """Return how many numbers the parameters of ``model`` are; tied ones count once.

    Example::

        parameters_of(nn.Linear(3, 2))  # 8
    """
    return sum(one.numel() for one in model.parameters())


def macs_of(model: nn.Module, calls: CallsByPath) -> int:
    """Return the multiply-accumulates of all ``calls``, in eval mode.

    Counted are matrix products, convolutions and attention, by torch's counter.

    Args:
        model: a copy of it is called.
        calls: as of ``find_groups``.

    Example::

        macs_of(nn.Linear(3, 2), {"": ((torch.ones(1, 3),), {})})  # 6
    """
    counter = FlopCounterMode(display=False)
    ours = copy.deepcopy(model).eval()
    with random_numbers_kept(ours), torch.no_grad(), counter:
        for _ in entered(ours, calls):
            pass
    return int(counter.get_total_flops()) // 2
