"""How much faster int8 is, measured."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from lpot_lightning.judging.protocols import Feed
from lpot_lightning.module.copying import second_model
from lpot_lightning.module.stand_in import StandIn, computing, replaced

WARM_UP, LEAST, MOST, SECONDS = 1, 3, 31, 1.5


def measure_speedup(
    feed: Feed,
    model: nn.Module,
    parts: Mapping[str, StandIn],
    graphs: Mapping[str, Callable[..., Any]] | None = None,
) -> float:
    """Return fp32 time over int8 time of one step: medians of interleaved runs.

    Args:
        feed: shows models data.
        model: is int8 meanwhile; a second one stays fp32.
        parts: its int8 parts.
        graphs: what computes over them.
    """
    fp32 = second_model(model)
    with replaced(model, parts), computing(model, graphs or {}) as int8:
        return ratio_of(lambda: feed.step_seconds(fp32), lambda: feed.step_seconds(int8))


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
