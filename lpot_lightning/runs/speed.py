"""How much faster int8 is, measured."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping

from torch import nn

from lpot_lightning.judging.protocols import Feed
from lpot_lightning.module.copying import second_model
from lpot_lightning.module.stand_in import StandIn, replaced

WARM_UP, LEAST, MOST, SECONDS = 1, 3, 31, 1.5


def measure_speedup(
    feed: Feed,
    model: nn.Module,
    parts: Mapping[str, StandIn],
    join: Callable[[nn.Module], object] = lambda model: None,
) -> float:
    """Return fp32 time over int8 time of one step: medians of interleaved runs.

    Args:
        feed: shows models data.
        model: in fp32; a second one becomes int8, whose graphs stay as they are from run to run.
        parts: its int8 parts.
        join: lets graphs compute over them.
    """
    int8 = second_model(model)
    with replaced(int8, parts) as quantized:
        join(quantized)
        return ratio_of(lambda: feed.step_seconds(model), lambda: feed.step_seconds(quantized))


def ratio_of(one: Callable[[], float], other: Callable[[], float]) -> float:
    """Return how many times as long ``one`` takes as ``other``: medians of interleaved runs.

    It takes ``SECONDS`` of steps, but never less than ``LEAST`` runs of each after ``WARM_UP``.

    Args:
        one: does a step and returns its seconds; so does ``other``.
    """
    ones: list[float] = []
    others: list[float] = []
    for number in range(WARM_UP + MOST):
        a, b = one(), other()
        if number >= WARM_UP:
            ones.append(a)
            others.append(b)
        if len(ones) >= LEAST and sum(ones) + sum(others) > SECONDS:
            break
    return statistics.median(ones) / statistics.median(others)
