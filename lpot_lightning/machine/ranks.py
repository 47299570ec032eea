"""What several processes that tune one model tell each other."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from itertools import count
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from lpot_lightning.errors import LpotError
from lpot_lightning.machine.roll_call import ProcessLostError, RollCall, is_timeout

T = TypeVar("T")
Fault = tuple[str, str]
_EVERY = 1.0
"""Seconds between two signs of life."""
_numbers = count(1)


class RankError(Exception):
    """Another process failed at what all of them did."""


class Ranks:
    """A process alone, and the interface of several.

    All processes take the same steps in the same order: each of them traces, calibrates and judges
    with its share of the data, and takes what ``rank`` 0 decides.

    Attributes:
        rank: the number of this process, from 0.
        size: how many there are.
    """

    rank = 0
    size = 1

    def together(self, work: Callable[[], T]) -> T:
        """Return what ``work`` gives here; if it fails in one process it fails in all."""
        return work()

    def gather(self, value: T) -> list[T]:
        """Return the values of all processes, by rank."""
        return [value]

    def agreed(self, value: T) -> T:
        """Return the value of rank 0."""
        return self.gather(value)[0]

    def on_zero(self, work: Callable[[], T]) -> T:
        """Let rank 0 alone ``work``, and return what it gives in all processes."""
        found = self.together(lambda: work() if self.rank == 0 else None)
        return self.agreed(found)  # type: ignore[return-value]

    def make_equal(self, tensors: Iterable[Tensor]) -> None:
        """Give all processes the values that rank 0 has, in place."""

    def close(self) -> None:
        """Let go of what connects the processes."""


class GlooRanks(Ranks):
    """The processes of ``torch.distributed``, over connections of their own on the CPU.

    What is decided and what the judged model exchanges go over two groups: when a process fails in
    the middle of a trial, the second is torn down, which wakes the others from whatever they wait
    for, and is made anew.

    Nobody is waited for longer than ``limit``, but for rank 0 while it works alone: it gives a sign
    of life every second.

    Args:
        limit: for how long a process waits for another one; ``None`` for what torch has.

    Raises:
        ProcessLostError: from any method, if another process is gone, or does not come.
    """

    def __init__(self, limit: timedelta | None = None) -> None:
        self.rank, self.size = dist.get_rank(), dist.get_world_size()
        self._limit, self._place = limit, 0
        self._roll = RollCall(f"ranks {next(_numbers)}", limit)
        self._lost: ProcessLostError | None = None
        self._words: dist.ProcessGroup | None = self._connected()
        self._data: dist.ProcessGroup | None = None
        self._connect_data()

    @property
    def data(self) -> dist.ProcessGroup:
        """The group for what the judged model exchanges; keep no reference to it."""
        assert self._data is not None
        return self._data

    def together(self, work: Callable[[], T]) -> T:
        """Return what ``work`` gives here; if it fails in one process it fails in all.

        Raises:
            LpotError: of the same kind and with the same words everywhere.
            RankError: where other processes failed with something else than this one.
        """
        self._connect_data()
        try:
            value = work()
        except Exception as error:
            self._drop_data()
            if is_timeout(error):
                self._check_all_come(error)
            faults = self._gather_faults(_told(error))
            if faults.count(faults[self.rank]) == self.size:
                raise
            raise _first_of(faults) from error
        faults = self._gather_faults(None)
        if any(faults):
            self._drop_data()
            raise _first_of(faults)
        return value

    def gather(self, value: T) -> list[T]:
        """Return the values of all processes, by rank."""
        found: list[Any] = [None] * self.size
        self._come()
        with self._waiting():
            dist.all_gather_object(found, value, group=self._words)
        return found

    def on_zero(self, work: Callable[[], T]) -> T:
        """Let rank 0 alone ``work``, and return what it gives in all processes.

        They wait for as long as it takes, and while rank 0 lives.
        """
        found = self.together(lambda: self._alone(work) if self.rank == 0 else self._listen())
        return self.agreed(found)  # type: ignore[return-value]

    def make_equal(self, tensors: Iterable[Tensor]) -> None:
        """Give all processes the values that rank 0 has, in place."""
        self._connect_data()
        self._come()
        with torch.no_grad(), self._waiting():
            for tensor in tensors:
                sent = tensor.detach().contiguous().reshape(-1).view(torch.uint8)
                dist.broadcast(sent, src=0, group=self.data)
                if sent.data_ptr() != tensor.data_ptr():
                    tensor.copy_(sent.view(tensor.dtype).reshape(tensor.shape))

    def close(self) -> None:
        """Let go of the groups."""
        self._drop_data()
        words, self._words = self._words, None
        if words is not None:
            dist.destroy_process_group(words)

    def _gather_faults(self, own: Fault | None) -> list[Fault | None]:
        return self.gather(own)

    def _connect_data(self) -> None:
        """Make the group for data where there is none: all processes do at the same point."""
        if self._data is None:
            self.gather(None)  # to make a group waits for a dead one, too
            self._data = self._connected()
            self.gather(None)  # who drops it while another still connects would break that one

    def _connected(self) -> dist.ProcessGroup:
        """Return a new group."""
        self._come()
        with self._waiting():
            made: dist.ProcessGroup = dist.new_group(backend="gloo", timeout=self._limit)
        return made

    def _come(self) -> None:
        """Note that this process is where the next exchange is."""
        self._place += 1
        self._roll.come(self._place)

    @contextmanager
    def _waiting(self) -> Iterator[None]:
        """Say of an exchange that fails who is missing; after that there is none any more."""
        if self._lost is not None:
            raise self._lost
        try:
            yield
        except RuntimeError as error:
            self._lost = self._roll.fault(error)
            raise self._lost from error

    def _check_all_come(self, error: Exception) -> None:
        """Raise a ``ProcessLostError`` if those that were waited for do not even come now."""
        self._roll.come(self._place + 1)
        if self._roll.missing():
            self._lost = self._roll.fault(error, patience=0)
            raise self._lost from error

    def _alone(self, work: Callable[[], T]) -> T:
        """Return what ``work`` gives, and let the others know all the time that it goes on."""
        self._come()
        done, faults = threading.Event(), list[RuntimeError]()
        thread = threading.Thread(target=self._show_life, args=(done, faults), daemon=True)
        thread.start()
        try:
            return work()
        finally:
            done.set()
            thread.join()
            if not faults:
                self._say_whether_working(False)

    def _show_life(self, done: threading.Event, faults: list[RuntimeError]) -> None:
        every = _EVERY if self._limit is None else min(_EVERY, self._limit.total_seconds() / 4)
        try:
            while not done.wait(every):
                self._say_whether_working(True)
        except RuntimeError as error:  # it is told when the work is done
            faults.append(error)

    def _say_whether_working(self, works: bool) -> None:
        dist.broadcast(torch.tensor([works], dtype=torch.uint8), src=0, group=self._words)

    def _listen(self) -> None:
        """Wait until rank 0 has worked."""
        works = torch.ones(1, dtype=torch.uint8)
        self._come()
        with self._waiting():
            while works:
                dist.broadcast(works, src=0, group=self._words)

    def _drop_data(self) -> None:
        """Close the connections, which wakes the others: nobody else may hold the group."""
        group, self._data = self._data, None
        if group is not None:
            dist.destroy_process_group(group)


def _first_of(faults: list[Fault | None]) -> Exception:
    """Return the error that is not about another process being gone, for all processes alike."""
    known = {rank: fault for rank, fault in enumerate(faults) if fault}
    first = next((rank for rank, (_, text) in known.items() if "gloo" not in text), min(known))
    kind, text = known[first]
    ours = next((one for one in _kinds(LpotError) if one.__name__ == kind), None)
    return ours(text) if ours else RankError(f"process {first}: {kind}: {text}")


def _kinds(base: type[LpotError]) -> Iterator[type[LpotError]]:
    """Give a kind of error and all that are kinds of it, also those that others have defined."""
    yield base
    for kind in base.__subclasses__():
        yield from _kinds(kind)


def _told(error: Exception) -> Fault:
    return type(error).__name__, str(error)
