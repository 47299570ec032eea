"""How much faster int8 is, and whether bfloat16 makes it faster, measured."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from torch import nn

from lpot_lightning.errors import LpotError, in_short
from lpot_lightning.judging.protocols import Feed
from lpot_lightning.machine.instructions import NO_BF16, has_bf16
from lpot_lightning.machine.random_numbers import seeded
from lpot_lightning.module.copying import second_model
from lpot_lightning.module.stand_in import StandIn, computing, replaced
from lpot_lightning.quantization.floats import narrowed
from lpot_lightning.quantization.op_clock import OFTEN
from lpot_lightning.runs.job import Job
from lpot_lightning.timing.ratio import Ratio, Steps, compared
from lpot_lightning.tuning.history import History
from lpot_lightning.tuning.space import Space

SETTLED, WHILE = OFTEN + 2, 0.2
"""Runs of int8 before those that count, within so many seconds: then it is as fast as it gets."""
AUTO, BF16 = "auto", "bf16"


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


def choose_floats(job: Job, space: Space, history: History) -> None:
    """Let trials compute in bfloat16 what is no op, as ``quantization.float`` asks for it.

    By ``auto`` it is so where the CPU has bfloat16, strategy ``auto`` is to find the fastest model,
    and a step of the model with all ops in int8 is faster that way for certain. Every trial is
    judged with it, but for one of which all is fp32.

    Args:
        job: its model is calibrated.
        space: what each op may be.
        history: where it goes, and comes from.
    """
    asked = job.conf.quantization.float
    measured = asked == AUTO and _may_be_faster(job)
    job.prepared.narrow = asked == BF16 or (measured and _is_faster(job, space, history))
    if asked == BF16 and not has_bf16():
        job.listener.say(f"`quantization.float` asks for bf16, and {NO_BF16}")


def _may_be_faster(job: Job) -> bool:
    asked = job.conf.tuning
    fastest = asked.strategy.name == AUTO and asked.objective == "performance"
    can = has_bf16() and bool(narrowed(job.prepared.excluded))
    return fastest and job.ranks.agreed(can)


def _is_faster(job: Job, space: Space, history: History) -> bool:
    base = space.all_int8()
    known = history.finding("float", base.key)
    if known is not None:
        return bool(known["faster"])
    parts = job.ranks.together(lambda: job.prepared.convert(base))
    faster = _timed(job, parts)
    history.keep("float", base.key, {"faster": faster})
    return faster


def _timed(job: Job, parts: Mapping[str, StandIn]) -> bool:
    """Return what is measured; ``False`` where a step fails in int8, which its trial is to tell."""
    try:
        return job.ranks.on_zero(lambda: _measured(job, parts))
    except LpotError:
        raise
    except Exception as error:
        told = in_short(error)
        job.listener.say(f"int8 cannot be timed ({told}): attention and products stay in fp32")
        return False


def _measured(job: Job, parts: Mapping[str, StandIn]) -> bool:
    """Return whether bfloat16 is faster for certain."""
    fp32, bf16 = (_step(job, narrow=narrow) for narrow in (False, True))
    with seeded(job.conf.tuning.random_seed), replaced(job.model, parts):
        for step in (fp32, bf16):
            _settle(step)
        found = compared(fp32, bf16)
    faster = found.spread is not None and found.spread[0] > 1
    verdict = "taken" if faster else "left in fp32"
    job.listener.say(f"attention and products in bf16, against fp32: {found}: {verdict}")
    return faster


def _step(job: Job, *, narrow: bool) -> Steps:
    graphs = job.prepared.other_graphs(job.model, narrow=narrow)

    def step(runs: int) -> list[float]:
        with computing(job.model, graphs) as int8:
            return job.feed.step_seconds(int8, runs)

    return step


def _settle(step: Steps) -> None:
    if SETTLED:
        (first,) = step(1)
        if more := min(SETTLED - 1, int(WHILE / max(first, 1e-9))):
            step(more)
