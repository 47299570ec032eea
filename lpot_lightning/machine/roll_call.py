"""Who of several processes is missing where the others wait."""

from __future__ import annotations

import re
import threading
from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta
from time import monotonic, sleep

import torch.distributed as dist
from torch.distributed.distributed_c10d import _get_default_store, default_pg_timeout

from lpot_lightning.errors import QuantizationError

PATIENCE = 3.0
"""Seconds in which those that are there have noted it, once somebody is missed."""
_PAUSE = 0.05
_LATE = "late"


class ProcessLostError(QuantizationError):
    """Another process is gone, or does not come to where this one waits for it.

    Attributes:
        missing: their numbers, where they are known.
    """

    missing: Sequence[int] = ()


class RollCall:
    """Notes in the store of the process group how far each process has come.

    An exchange that fails tells that somebody is missing, and not who.

    Args:
        name: the same in all processes; each has one of its own.
        limit: for how long they wait for each other; ``None`` for what torch has.

    Example::

        dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
        roll = RollCall("words 1")
        roll.come(1)
        dist.barrier()  # where it raises an error: roll.fault(error).missing
        dist.destroy_process_group()
    """

    _unanswered = False  # the store is this process's one, in whatever roll call

    def __init__(self, name: str, limit: timedelta | None = None) -> None:
        self.rank, self.size = dist.get_rank(), dist.get_world_size()
        self._limit = seconds_of(limit)
        self._store, self._name = _get_default_store(), name
        self._place = 0

    def come(self, place: int) -> None:
        """Note that this process is at a place; they are counted from 1."""
        self._place = place
        self._note(self.rank, str(place))

    def missing(self, patience: float | None = None) -> list[int]:
        """Return who does not come to where this process is; empty where that cannot be found out.

        Args:
            patience: seconds to wait for them.
        """
        patience = PATIENCE if patience is None else patience
        if self._unanswered:
            return [0]
        late: list[int] = []
        # a store whose process is stopped does not answer, and asking it has no time limit
        asking = threading.Thread(target=self._look, args=(late, patience), daemon=True)
        asking.start()
        asking.join(patience + PATIENCE)
        RollCall._unanswered = asking.is_alive()
        return [0] if asking.is_alive() else late

    def fault(self, error: BaseException, patience: float | None = None) -> ProcessLostError:
        """Return what the error of an exchange is about."""
        too_late = is_timeout(error)
        if too_late:
            self._note(_LATE, "yes")
        missing = self.missing(patience)
        fault = ProcessLostError(self._text(missing, too_late or self._is_late()))
        fault.missing = missing
        return fault

    def _text(self, missing: Sequence[int], too_late: bool) -> str:
        if not missing and too_late:
            return (
                f"process {self.rank} of {self.size} and the others did not meet within"
                f" {self._limit:g} s, the `timeout` of the strategy: it came too late, or does what"
                " the others do not"
            )
        if not missing:
            return (
                f"process {self.rank} of {self.size} does not reach the others any more: one of"
                " them has ended; its own message says why"
            )
        if too_late:
            return late_text(missing, self.size, self._limit)
        return (
            f"{_which(missing, self.size)} has ended, or does not answer; its own message says why"
        )

    def _look(self, late: list[int], patience: float) -> None:
        end = monotonic() + patience
        with suppress(RuntimeError):  # the process that has the store is gone
            while True:
                late[:] = [rank for rank in range(self.size) if self._place_of(rank) < self._place]
                if not late or monotonic() > end:
                    return
                sleep(_PAUSE)

    def _place_of(self, rank: int) -> int:
        key = self._key(rank)
        return int(self._store.get(key)) if self._store.check([key]) else 0

    def _is_late(self) -> bool:
        with suppress(RuntimeError):
            return self._unanswered or bool(self._store.check([self._key(_LATE)]))
        return False

    def _key(self, what: object) -> str:
        return f"lpot_lightning/{self._name}/{what}"

    def _note(self, what: object, value: str) -> None:
        with suppress(RuntimeError):  # the exchange that follows fails, too
            if not self._unanswered:
                self._store.set(self._key(what), value)


def seconds_of(limit: timedelta | None) -> float:
    """Return for how long processes wait for each other, where a strategy has this ``limit``."""
    return (limit or default_pg_timeout).total_seconds()


def late_text(missing: Sequence[int], size: int, seconds: float) -> str:
    """Return the sentence about processes that others have waited for as long as they may."""
    return (
        f"{_which(missing, size)} did not come within {seconds:g} s, the `timeout` of the strategy,"
        " to where the others wait: it hangs, or needs more time, as"
        " `DDPStrategy(timeout=timedelta(minutes=30))`"
    )


def _which(ranks: Sequence[int], size: int) -> str:
    return f"process {' or '.join(map(str, ranks))} of {size}"


def is_timeout(error: BaseException) -> bool:
    """Return whether an exchange was given up since others did not come."""
    return is_of_an_exchange(error) and re.search("timed out|timeout", str(error), re.I) is not None


def is_of_an_exchange(error: BaseException) -> bool:
    """Return whether it is torch that says that an exchange with other processes failed."""
    known = isinstance(error, RuntimeError) and "gloo" in str(error).lower()
    return known or isinstance(error, dist.DistError)
