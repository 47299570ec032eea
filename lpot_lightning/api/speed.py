"""How much faster int8 is, measured."""

from __future__ import annotations

import statistics
from collections.abc import Mapping

from torch import nn

from lpot_lightning.api.runner import Runner
from lpot_lightning.quantization.replace import StandIn, replaced

WARM_UP, LEAST, MOST, SECONDS = 1, 3, 31, 1.5


def measure_speedup(runner: Runner, model: nn.Module, parts: Mapping[str, StandIn]) -> float:
    """Return fp32 time over int8 time of one step: medians of interleaved runs.

    It takes ``SECONDS`` of steps, but never less than ``LEAST`` runs of each after ``WARM_UP``.
    """
    fp32: list[float] = []
    int8: list[float] = []
    for number in range(WARM_UP + MOST):
        a = runner.step_seconds(model)
        with replaced(model, parts) as quantized:
            b = runner.step_seconds(quantized)
        if number >= WARM_UP:
            fp32.append(a)
            int8.append(b)
        if len(fp32) >= LEAST and sum(fp32) + sum(int8) > SECONDS:
            break
    return statistics.median(fp32) / statistics.median(int8)
