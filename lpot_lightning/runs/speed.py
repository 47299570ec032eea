"""How much faster int8 is, measured."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from torch import nn

from lpot_lightning.judging.protocols import Feed
from lpot_lightning.module.copying import second_model
from lpot_lightning.module.stand_in import StandIn, computing, replaced
from lpot_lightning.quantization.op_clock import OFTEN
from lpot_lightning.timing.ratio import Ratio, Steps, compared

SETTLED, WHILE = OFTEN + 2, 0.2
"""Runs of int8 before those that count, within so many seconds: then it is as fast as it gets."""


def measure_speedup(
    feed: Feed,
    model: nn.Module,
    parts: Mapping[str, StandIn],
    graphs: Mapping[str, Callable[..., Any]] | None = None,
) -> Ratio:
    """Return fp32 time over int8 time of one step, run in turns.

    Args:
        feed: shows models data.
        model: is int8 meanwhile; a second one stays fp32.
        parts: its int8 parts.
        graphs: what computes over them.
    """
    fp32 = second_model(model)
    with replaced(model, parts), computing(model, graphs or {}) as int8:
        one, other = partial(feed.step_seconds, fp32), partial(feed.step_seconds, int8)
        _settle(other)
        return compared(one, other)


def _settle(step: Steps) -> None:
    if SETTLED:
        (first,) = step(1)
        if more := min(SETTLED - 1, int(WHILE / max(first, 1e-9))):
            step(more)
