"""What one op costs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from time import perf_counter
from typing import Any

import torch

from lpot_lightning.module.calls import ModuleCalls
from lpot_lightning.quantization.damage import floats_in

_RUNS = 3


@dataclass(frozen=True)
class OpProfile:
    """One op, on one batch.

    Args:
        seconds: it takes, the median of some runs.
        activation_bytes: bytes of what it gives on.
    """

    seconds: float
    activation_bytes: int


def profile_of(computes: Callable[..., Any], calls: ModuleCalls) -> OpProfile:
    """Return what an op costs.

    Args:
        computes: gives what it gives.
        calls: of it, one of which is taken.
    """
    taken = []
    with torch.no_grad():
        for _ in range(_RUNS):
            started = perf_counter()
            given = computes(*calls.args, **calls.kwargs)
            taken.append(perf_counter() - started)
    return OpProfile(median(taken), sum(one.nbytes for one in floats_in(given)))
