"""Calls that are timed in turns, and how far apart the rounds are."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter

LEAST, SHORT = 5, 0.02


@dataclass(frozen=True)
class Spread:
    """The median of some values, and the quarters of them around it."""

    low: float
    median: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Return the spread of two values or more."""
        return cls(*statistics.quantiles(values, n=4, method="inclusive"))

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.low:.2f}-{self.high:.2f})"


@dataclass(frozen=True)
class Turns:
    """The seconds of a call of each kind, a number for each round."""

    seconds: Mapping[str, Sequence[float]]

    def ms(self, name: str) -> float:
        """Return the median milliseconds of a call."""
        return 1000 * statistics.median(self.seconds[name])

    def least(self, name: str) -> float:
        """Return the milliseconds of the fastest round of a call."""
        return 1000 * min(self.seconds[name])

    def ratio(self, one: str, other: str) -> Spread:
        """Return how many times as long ``one`` takes as ``other``, round by round."""
        pairs = zip(self.seconds[one], self.seconds[other], strict=True)
        return Spread.of([a / b for a, b in pairs])


def in_turns(
    calls: Mapping[str, Callable[[], object]],
    rounds: int,
    enough: float = math.inf,
    clock: Callable[[], float] = perf_counter,
) -> Turns:
    """Time all calls in each round, in one order and in the other by turns (A B B A).

    What has run before leaves caches, and threads that still spin: so each turn has a call that is
    not timed, and then as many as take 20 ms together.

    Args:
        calls: by name.
        rounds: how many, at most.
        enough: seconds after which no round is begun, but for the first five.
        clock: tells seconds.
    """
    for call in calls.values():
        call()  # packs, and captures
    counts = {name: _count(call, clock) for name, call in calls.items()}
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    began = perf_counter()
    for number in range(rounds):
        if number >= LEAST and perf_counter() - began > enough:
            break
        for name in list(calls)[:: -1 if number % 2 else 1]:
            seconds[name].append(_turn(calls[name], counts[name], clock))
    return Turns(seconds)


def _turn(call: Callable[[], object], count: int, clock: Callable[[], float]) -> float:
    call()
    started = clock()
    for _ in range(count):
        call()
    return (clock() - started) / count


def _count(call: Callable[[], object], clock: Callable[[], float]) -> int:
    return max(1, math.ceil(SHORT / max(_turn(call, 1, clock), 1e-6)))
