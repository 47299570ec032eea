"""What one op costs in floating point."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from time import perf_counter

import torch
from torch import nn

from lpot_lightning.module.calls import ModuleCalls

_RUNS = 3


@dataclass(frozen=True)
class OpProfile:
    """One op in floating point, on one batch.

    Args:
        seconds: it takes, the median of some runs.
        activation_bytes: bytes of what it gives on.
    """

    seconds: float
    activation_bytes: int


def profile_of(layer: nn.Module, calls: ModuleCalls) -> OpProfile:
    """Return what a layer costs in floating point.

    Args:
        layer: computes as its class does.
        calls: of it, one of which is taken.
    """
    taken = []
    with torch.no_grad():
        for _ in range(_RUNS):
            started = perf_counter()
            given = type(layer).forward(layer, *calls.args, **calls.kwargs)
            taken.append(perf_counter() - started)
    return OpProfile(median(taken), given.numel() * given.element_size())
