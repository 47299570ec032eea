"""Ops that are slower in int8 than in fp32, on the user's batch, and stay in fp32 for it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from math import fsum
from statistics import median
from time import perf_counter, thread_time

import torch

from lpot_lightning.errors import LpotError, in_short
from lpot_lightning.machine.random_numbers import seeded
from lpot_lightning.module.stand_in import computing, replaced
from lpot_lightning.quantization.op_clock import OpClock, Timeable, Turns
from lpot_lightning.runs.job import Job
from lpot_lightning.runs.paying_result import NotPaying, OpTimes, Paying, in_ms
from lpot_lightning.timing.ratio import ENOUGH, MISSED, Spread, needed, spread_of
from lpot_lightning.tuning.history import History
from lpot_lightning.tuning.in_words import few_of
from lpot_lightning.tuning.space import Space

FASTER = 0.95
"""Of the seconds that ops take in int8: what fp32 has to stay below."""
SHARE = 0.01
"""Of the seconds of a step: what ops have to take in int8 to be worth a thought."""
SHORTEST = 0.002
"""Seconds of a step in int8. Calls take most of a shorter one, and nobody waits for it: which op is
int8 is not to hang on that, and to differ from run to run."""
LOOKS = 4
"""Runs in both precisions before anything is suspected."""
RUNS = 31
SECONDS = 0.5
"""After which no more is measured than has to be."""
SHORT = 0.2
"""Seconds of a step that is run as often as it takes to be sure, however busy the machine is."""
Suspects = Mapping[tuple[str, ...], tuple[str, ...]]
"""Of chains, the ops that had better be in fp32."""


def applies(job: Job) -> bool:
    """Whether ops that do not pay stay in fp32: with ``auto``, where speed is the objective."""
    asked = job.conf.tuning
    return (
        asked.strategy.name == "auto"
        and asked.objective == "performance"
        and isinstance(job.prepared, Timeable)
    )


def find_paying(
    job: Job,
    space: Space,
    history: History,
    seconds: float = SECONDS,
    clock: Callable[[], float] | None = None,
) -> Paying:
    """Measure once which ops of a job pay; a run that goes on takes what was found.

    Args:
        job: its model is calibrated.
        space: what each op may be.
        history: where it goes, and comes from.
        seconds: of a validation pass: so long it may take, and half a second in any case.
        clock: what ops are timed by; where none is given and one thread computes, the time of that
            thread, which other processes do not lengthen.
    """
    if not applies(job):
        return Paying()
    base = space.all_int8()
    known = history.finding("paying", base.key)
    if known is not None:
        found = Paying.from_dict(known)
    else:
        found = _timed(job, space, max(seconds, SECONDS), clock or _clock())
        history.keep("paying", base.key, found.to_dict())
    _tell(job, found)
    return found


def _clock() -> Callable[[], float]:
    return thread_time if torch.get_num_threads() == 1 else perf_counter


def _timed(job: Job, space: Space, seconds: float, clock: Callable[[], float]) -> Paying:
    """Return what is measured; nothing where a step fails in int8, which its trial is to tell."""
    try:
        return _measured(job, space, seconds, clock)
    except LpotError:
        raise
    except Exception as error:
        told = in_short(error)
        job.listener.say(f"int8 cannot be timed ({told}): no op stays in fp32 for its time")
        return Paying()


def _measured(job: Job, space: Space, seconds: float, clock: Callable[[], float]) -> Paying:
    base, prepared = space.all_int8(), job.prepared
    assert isinstance(prepared, Timeable)
    parts = job.ranks.together(lambda: prepared.convert(base))
    graphs = prepared.graphs(job.model)
    with seeded(job.conf.tuning.random_seed):
        with replaced(job.model, parts), computing(job.model, graphs) as int8:
            step = partial(job.feed.step_seconds, int8)
            ops = job.ranks.together(lambda: prepared.op_clock(int8, base, step, clock))
        started = perf_counter()
        found = job.ranks.on_zero(lambda: judged(ops, space, seconds))
    job.listener.say(
        f"timed {len(found.times)} ops in int8 and in fp32, in {perf_counter() - started:.1f} s"
    )
    slow = [op for op, one in found.times.items() if one.int8 > one.fp32]
    if slow and ops.step < SHORTEST:
        job.listener.say(
            f"a step takes {in_ms(ops.step)} ms in int8, less than {in_ms(SHORTEST)} ms, mostly"
            f" calls: ops stay int8 though fp32 is faster: {few_of(tuple(slow))}"
        )
    return found


def _tell(job: Job, found: Paying) -> None:
    if found.all_slower:
        job.listener.say(
            "no op is faster in int8 than in fp32 here: weights alone are kept in 8 bits where they"
            " may be, which makes the model smaller"
        )
    for one in dict.fromkeys(found.slower.values()):
        job.listener.say(f"stays in fp32: {', '.join(one.ops)}: {one.why}")


def judged(
    ops: OpClock, space: Space, seconds: float = SECONDS, now: Callable[[], float] = perf_counter
) -> Paying:
    """Return which ops are slower in int8 for certain.

    First all ops are run a few times in both precisions. Where a step takes ``SHORTEST`` or more
    and a chain looks slower in int8, or ops in it, it is measured with those in fp32 against all in
    int8, in turns.

    Args:
        ops: runs them.
        space: what each of them may be.
        seconds: that it may take; ops that were not run often enough by then are taken to pay.
        now: the clock of that.
    """
    base, until = space.all_int8(), now() + seconds
    timed = {op for chain in ops.chains for op in chain}
    look = Turns(ops, base, base.with_fp32(timed))
    while look.runs < LOOKS and (look.runs == 0 or now() < until):
        look.run()
    times = {op: OpTimes(*look.least(op)) for op in sorted(timed)}
    if ops.step < SHORTEST:
        return Paying(times)
    found = {chain: _suspects(chain, times, space.fallback_candidates) for chain in ops.chains}
    suspects = {
        chain: some
        for chain, some in found.items()
        if fsum(times[op].int8 for op in some) >= SHARE / 2 * ops.step
    }
    if not any(suspects.values()):
        return Paying(times)
    leaving = {op for some in suspects.values() for op in some}
    turns = Turns(ops, base, base.with_fp32(leaving))
    least = needed(MISSED / len(suspects)) if ops.step < SHORT else 0
    measure(turns, suspects, lambda: now() < until or turns.runs < least)
    slower = _slower(turns, suspects, ops.step)
    times |= {op: OpTimes(*turns.least(op)) for op in leaving if turns.runs}
    # what is not timed, and no function, is an embedding, or was not called: it computes nothing
    stays = {op for op in base.int8_ops if (op in timed or "#" in op) and op not in slower}
    return Paying(times, slower if stays else {}, not stays)


def _suspects(
    chain: Sequence[str], times: Mapping[str, OpTimes], may_leave: Collection[str]
) -> tuple[str, ...]:
    """Return which ops of a chain had better be in fp32, as far as a few runs tell.

    It is those that are slower by themselves, or all of the chain where that leaves clearly less.
    """
    ones = tuple(op for op in chain if op in may_leave and times[op].fp32 < times[op].int8)
    with_ones = fsum(times[op].fp32 if op in ones else times[op].int8 for op in chain)
    in_fp32 = fsum(times[op].fp32 for op in chain)
    whole = tuple(op for op in chain if op in may_leave)
    return whole if in_fp32 < FASTER * with_ones else ones


def measure(turns: Turns, suspects: Suspects, has_time: Callable[[], bool]) -> None:
    """Run until the verdict on each chain is sure, or there is no more time."""
    while turns.runs < RUNS and has_time():
        turns.run()
        if turns.runs >= ENOUGH:
            spreads = [_spread(turns, one, suspects) for one in suspects]
            if all(map(_is_sure, spreads)):
                return


def _slower(turns: Turns, suspects: Suspects, step: float) -> dict[str, NotPaying]:
    found = {}
    for chain, some in suspects.items() if turns.runs else ():
        int8, fp32 = map(median, turns.pairs(chain, some))
        spread = _spread(turns, chain, suspects)
        share = min(1.0, int8 / step) if step > 0 else 1.0
        if some and spread is not None and spread[1] < FASTER and share >= SHARE:
            one = NotPaying(ops=some, int8=int8, fp32=fp32, spread=spread, share=share)
            found.update(dict.fromkeys(some, one))
    return found


def _spread(turns: Turns, chain: tuple[str, ...], suspects: Suspects) -> Spread | None:
    """Return where fp32 over int8 lies; of many chains none shall look slower by chance."""
    missed = MISSED / len(suspects)
    if turns.runs < needed(missed):
        return None
    int8, fp32 = turns.pairs(chain, suspects[chain])
    ratios = [one / other for one, other in zip(fp32, int8, strict=True)]
    return spread_of(ratios, missed)


def _is_sure(spread: Spread | None) -> bool:
    return spread is not None and not spread[0] <= FASTER <= spread[1]
