"""How much faster int8 is, measured."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from lpot_lightning.judging.protocols import Feed
from lpot_lightning.module.copying import second_model
from lpot_lightning.module.stand_in import StandIn, computing, replaced
from lpot_lightning.timing.ratio import Ratio, compared


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
        return compared(lambda: feed.step_seconds(fp32), lambda: feed.step_seconds(int8))
