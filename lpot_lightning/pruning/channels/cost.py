"""What a model costs: its parameters and its arithmetic."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree
from torch.utils.flop_counter import FlopCounterMode

from lpot_lightning.pruning.channels.entering import CallsByPath, entered, random_numbers_kept


@dataclass(frozen=True)
class Cost:
    """What a model costs.

    Args:
        parameters: how many numbers they are; tied ones count once.
        macs: multiply-accumulates of one sample.
    """

    parameters: int
    macs: int


def cost_of(model: nn.Module, calls: CallsByPath) -> Cost:
    """Return what ``model`` costs; ``calls`` are as of ``find_groups``, of one sample or more."""
    leaves = pytree.tree_leaves(list(calls.values()))
    samples = next((len(one) for one in leaves if isinstance(one, Tensor) and one.dim()), 1)
    return Cost(parameters_of(model), macs_of(model, calls) // max(1, samples))


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
