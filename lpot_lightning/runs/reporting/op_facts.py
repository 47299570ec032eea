"""What a report tells of ops, put together of what is known by their names."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from lpot_lightning.recipe import Rung
from lpot_lightning.report.facts import OpFacts
from lpot_lightning.runs.paying_result import OpTimes
from lpot_lightning.tuning.causes import Cause
from lpot_lightning.tuning.repair import Repair
from lpot_lightning.tuning.sensitivity import Sensitivity


def op_facts(
    rungs: Mapping[str, Rung],
    why: Callable[[str], str],
    *,
    sensitivities: Iterable[Sensitivity] = (),
    times: Mapping[str, OpTimes] | None = None,
    repairs: Iterable[Repair] = (),
    causes: Mapping[str, Cause] | None = None,
) -> tuple[OpFacts, ...]:
    """Return what became of each op.

    Args:
        rungs: what each op is.
        why: says why it is that.
        sensitivities: how much ops hurt.
        times: seconds of those that were timed.
        repairs: what was done to them.
        causes: why they hurt.
    """
    damages = {one.op: one.damage for one in sensitivities}
    timed = times or {}
    mended: dict[str, list[Repair]] = {}
    for one in repairs:
        mended.setdefault(one.op, []).append(one)
    return tuple(
        OpFacts(
            name=op,
            rung=rung,
            damage=damages.get(op),
            int8=timed[op].int8 if op in timed else None,
            fp32=timed[op].fp32 if op in timed else None,
            why=why(op),
            repairs=tuple(mended.get(op, ())),
            cause=None if causes is None else causes.get(op),
        )
        for op, rung in rungs.items()
    )
