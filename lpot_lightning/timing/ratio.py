"""How many times as long one thing takes as another, and how sure that is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import comb
from statistics import median

Spread = tuple[float, float]
Steps = Callable[[int], Sequence[float]]
"""Does a step so many times, and returns the seconds of each."""
WARM_UP, LEAST, ENOUGH, MOST = 1, 3, 12, 30
"""Pairs of runs: before the first that counts, at least, until the spread may end it, at most."""
SECONDS = 3.0
TURN, IN_A_TURN = 3, 0.2
"""Runs of one until it is the other's turn, within so many seconds."""
TIGHT = 1.05
"""A spread of which the upper end is no further from the lower one needs no more runs."""
MISSED = 0.05
"""How often what is sought lies outside of a spread."""


@dataclass(frozen=True)
class Ratio:
    """How many times as long one thing takes as another.

    Both have run in turns. What the machine does besides falls on both runs of a pair, so that each
    pair gives a ratio of its own; where pairs disagree the spread is wide, and says so.

    Args:
        middle: the median of the ratios of all pairs.
        spread: two ratios between which the median of endlessly many pairs lies, 95 of 100 times;
            ``None`` for fewer than three pairs, which tell nothing of it.

    Example::

        Ratio.of([2.0, 2.2, 2.1], [1.0, 1.0, 1.0]).spread  # (2.0, 2.2)
    """

    middle: float
    spread: Spread | None

    @classmethod
    def of(cls, ones: Sequence[float], others: Sequence[float]) -> Ratio:
        """Return the ratio of seconds that were measured in pairs."""
        ratios = [one / other for one, other in zip(ones, others, strict=True)]
        return cls(median(ratios), spread_of(ratios))

    def __str__(self) -> str:
        """Show it as ``as_speedup`` does."""
        return as_speedup(self.middle, self.spread)


def spread_of(values: Sequence[float], missed: float = MISSED) -> Spread | None:
    """Return where the median of what ``values`` were drawn of lies, 95 of 100 times.

    It lies between two of the values, whatever their distribution is: how many of them are below it
    goes by the binomial law (Le Boudec, Performance Evaluation of Computer and Communication
    Systems, 2010, section 2.2). Of fewer than six it is between the ends at best: three are so in
    75 of 100 cases.

    Args:
        values: in any order.
        missed: how often it may lie elsewhere: less than 5 of 100 times, where many spreads are
            looked at, for what is rare in one of them.
    """
    if len(values) < LEAST:
        return None
    outside = _left_out(len(values), missed)
    inside = sorted(values)[outside : len(values) - outside]
    return inside[0], inside[-1]


def needed(missed: float = MISSED) -> int:
    """Return how many values it takes at least for a spread that is that sure."""
    return next(count for count in range(LEAST, 1000) if 2 * 0.5**count <= missed)


def _left_out(count: int, missed: float) -> int:
    """Return how many values on each side the spread is narrower by."""
    below, number = 2 * 0.5**count, 0
    while below + 2 * comb(count, number + 1) * 0.5**count <= missed:
        number += 1
        below += 2 * comb(count, number) * 0.5**count
    return number


def compared(one: Steps, other: Steps) -> Ratio:
    """Return how many times as long ``one`` takes as ``other``, run in turns.

    A turn is a few runs, of long steps a single one; who begins changes from turn to turn. It ends
    when the spread is ``TIGHT``, when all runs have taken ``SECONDS``, though never before
    ``LEAST`` pairs, and after ``MOST`` pairs. Where it is tight both have begun equally often: a
    machine that grows slower all the time favours none.

    Args:
        one: does steps and returns the seconds of each, by whatever clock; so does ``other``.
    """
    runs = _in_a_turn([*one(WARM_UP), *other(WARM_UP)] if WARM_UP else [])
    ones: list[float] = []
    others: list[float] = []
    turns = [(one, ones), (other, others)]
    while not _is_enough(ones, others, even=2 * runs):
        for step, seconds in turns:
            seconds.extend(step(min(runs, MOST - len(seconds))))
        turns.reverse()
    return Ratio.of(ones, others)


def _in_a_turn(seconds: Sequence[float]) -> int:
    longest = max(seconds, default=IN_A_TURN)
    return max(1, min(TURN, int(IN_A_TURN / max(longest, 1e-9))))


def _is_enough(ones: Sequence[float], others: Sequence[float], even: int) -> bool:
    if len(ones) >= MOST:
        return True
    if len(ones) >= LEAST and sum(ones) + sum(others) > SECONDS:
        return True
    both_began = len(ones) >= ENOUGH and len(ones) % even == 0
    return both_began and _is_tight(Ratio.of(ones, others).spread)


def _is_tight(spread: Spread | None) -> bool:
    return spread is not None and spread[1] <= TIGHT * spread[0]


def is_clear(spread: Spread | None) -> bool:
    """Whether a spread tells which of the two is faster."""
    return spread is not None and not spread[0] <= 1 <= spread[1]


def as_speedup(middle: float, spread: Spread | None) -> str:
    """Return a speed-up for people: nothing is claimed where its spread covers 1.

    Example::

        as_speedup(2.31, (2.2, 2.44))  # "2.31x (2.20x to 2.44x)"
        as_speedup(1.02, (0.96, 1.05))  # "about as fast (0.96x to 1.05x)"
    """
    if spread is None:
        return f"{middle:.2f}x, how sure is not known"
    claim = f"{middle:.2f}x" if is_clear(spread) else "about as fast"
    return f"{claim} ({spread[0]:.2f}x to {spread[1]:.2f}x)"
