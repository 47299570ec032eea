"""What the user wants least of: seconds, bytes of the file, or memory while it runs."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from lpot_lightning.machine.numbers import shown_size
from lpot_lightning.quantization.op_profile import OpProfile
from lpot_lightning.recipe import Op, OpConfig, Rung
from lpot_lightning.runs.job import Job
from lpot_lightning.tuning.score import Score


def shown_as(value: float, objective: str) -> str:
    """Return a value of an objective for people.

    Example::

        shown_as(0.0123, "performance")  # "12.3 ms a step"
    """
    if objective == "performance":
        return f"{value * 1e3:.3g} ms a step"
    return f"{shown_size(value)}{' at the peak' if objective == 'footprint' else ''}"


def cost_shown_as(value: float, objective: str) -> str:
    """Return what an op costs in fp32 for people."""
    return f"{value * 1e3:.3f} ms" if objective == "performance" else shown_size(value)


def costs_of(
    ops: Iterable[Op], objective: str, measured: Mapping[str, OpProfile]
) -> dict[str, float]:
    """Return what it costs to leave each op in fp32, in the unit of the objective.

    ``performance`` goes by the measured seconds of the op, ``modelsize`` by the bytes of its
    weights, ``footprint`` by the bytes of what it gives on. Seconds are rounded to powers of two:
    noise shall seldom change an order. An op that was not measured costs as little as the cheapest.

    Args:
        ops: what can be quantized.
        objective: ``tuning.objective``.
        measured: by name of the op.
    """
    raw = {op.name: _cost(op, objective, measured.get(op.name)) for op in ops}
    least = min((value for value in raw.values() if value > 0), default=1.0)
    return {name: value if value > 0 else least for name, value in raw.items()}


def _cost(op: Op, objective: str, measured: OpProfile | None) -> float:
    if objective == "modelsize":
        return max(1.0, op.weight_bytes)
    if measured is None:
        return 0.0
    if objective == "footprint":
        return float(measured.activation_bytes)
    return _power_of_two(measured.seconds)


def share_of_bytes(config: OpConfig) -> float:
    """Return what a weight has more of bytes than one of 8 bits, as a share of what fp32 has more.

    Of rungs with the same bytes the faster one is a little cheaper.
    """
    rung, size = config.rung, None if config.weight is None else config.weight.group_size
    scales = 0.0 if size is None else 32 / size
    slower = 0.0 if rung is Rung.FP32 else 1e-3 * list(Rung).index(rung)
    return (rung.bits + scales - 8) / (32 - 8) + slower


def _power_of_two(seconds: float) -> float:
    return float(2.0 ** round(math.log2(seconds))) if seconds > 0 else 0.0


def measured(job: Job, quantized: nn.Module, score: Score) -> float | None:
    """Return what a trial comes to by the objective, ``None`` where it was not judged in full.

    Args:
        job: whose objective it is.
        quantized: the model of the trial.
        score: with the seconds of a step as its objective.
    """
    if not score.in_full:
        return None
    if job.conf.tuning.objective == "modelsize":
        return float(bytes_of(job.backend.to_plain(quantized)))
    if job.conf.tuning.objective == "footprint":
        return peak_memory(lambda: job.feed.step_seconds(quantized))
    return score.objective


def peak_memory(forward: Callable[[], object]) -> float:
    """Return the most bytes that ``forward`` holds at once of what it allocates.

    They are torch's own count of its allocations on the CPU, as its profiler records them.
    """
    with _silent(), profile(activities=[ProfilerActivity.CPU], profile_memory=True) as run:
        forward()
    found = run.profiler
    assert found is not None
    events = [one for one in found.kineto_results.events() if one.name() == "[memory]"]
    held = most = 0
    for event in sorted(events, key=lambda one: one.start_ns()):
        held += event.nbytes()
        most = max(most, held)
    return float(most)


def bytes_of(tensors: Mapping[str, Any]) -> int:
    """Return the bytes of all tensors among the values."""
    return sum(t.numel() * t.element_size() for t in tensors.values() if isinstance(t, Tensor))


@contextmanager
def _silent() -> Iterator[None]:
    """Keep Kineto, which looks once, from two lines on stderr for each use (torch 2.13)."""
    name = "KINETO_LOG_LEVEL"
    before = os.environ.get(name)
    os.environ.setdefault(name, "99")
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
