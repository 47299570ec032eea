"""Who is said to be missing, and is ended, when processes of a fit wait in vain."""

from __future__ import annotations

import re
from itertools import count

import torch.distributed as dist
from lightning.pytorch import Callback, Trainer

from lpot_lightning.machine.roll_call import (
    ProcessLostError,
    RollCall,
    is_of_an_exchange,
    late_text,
    seconds_of,
)
from lpot_lightning.trainer.package import EitherCallback

_ends = count(1)


def end_the_lost(trainer: Trainer, callback: Callback, error: BaseException) -> None:
    """Say in ``error`` which process the others wait for in vain; one that hangs is killed.

    Lightning ends a process that was started by this one only with the program. All that are there
    come here: nothing of it costs a training any time.

    Args:
        trainer: of a fit that ends by ``error``.
        callback: only the first one of ours does it.
        error: of an exchange between processes, or another one, of which nothing is said.
    """
    callbacks: list[Callback] = list(trainer.callbacks)  # type: ignore[attr-defined]
    ours = (one for one in callbacks if isinstance(one, EitherCallback))
    if next(ours, callback) is not callback:
        return
    _note_of_started(trainer, error)
    if not dist.is_available() or not dist.is_initialized():
        return
    if not isinstance(error, ProcessLostError) and not is_of_an_exchange(error):
        return
    roll = RollCall(f"end {next(_ends)}", getattr(trainer.strategy, "_timeout", None))
    roll.come(1)
    fault = roll.fault(error)
    if fault.missing and not isinstance(error, ProcessLostError):
        error.add_note(str(fault))
    started = getattr(trainer.strategy.launcher, "procs", [])
    for rank, process in enumerate(started, start=trainer.global_rank + 1):
        if rank in fault.missing:
            process.kill()


def _note_of_started(trainer: Trainer, error: BaseException) -> None:
    """Say of processes whose hooks Lightning calls no more which ones the first of them missed.

    All have ended by now, and those that hung by a signal, which Lightning makes an error of.
    """
    first, size = getattr(error, "error_index", None), trainer.world_size
    if first is None or re.search("gloo.*timed out", str(error), re.IGNORECASE) is None:
        return
    limit = seconds_of(getattr(trainer.strategy, "_timeout", None))
    error.add_note(late_text([rank for rank in range(size) if rank != first], size, limit))
