"""When a trial is hopeless before its pass is over."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from lpot_lightning.tuning.score import Criterion

LUCK = 3.0
"""How many standard deviations of luck the rest of a pass is granted."""
GAIN = 0.5
"""What share of that which fp32 leaves to be gained the rest of a pass is granted to gain."""
LEAST_POINTS, LEAST_SHARE = 5, 0.02
"""Before this many values, and this share of the pass, nothing is judged."""
_GROWTH = 1.05


class Unseen(Exception):
    """There is no running value of the metric; the message says why."""


class Partial(Protocol):
    """What a metric has seen of a pass; it stays as it is when the pass goes on."""

    @property
    def name(self) -> str:
        """The metric."""

    @property
    def weight(self) -> float:
        """How much of the data it has seen."""

    def value(self) -> float:
        """Return the metric of what was seen.

        Raises:
            Unseen: if it cannot be computed.
        """

    def continued(self, before: Any, end: Any) -> float:
        """Return the metric as it would be if the rest were that of another pass.

        Args:
            before: the partial metric of the other pass, as far as this one has come.
            end: the same at the end of the other pass.

        Raises:
            Unseen: if it cannot be computed.
        """


class Pass(Protocol):
    """A pass over the validation data, between two of its batches."""

    @property
    def batches(self) -> int:
        """How many are done."""

    @property
    def checksum(self) -> int:
        """Of all batches so far."""

    def partial(self) -> Partial | None:
        """Return what the metric has seen, ``None`` before it has seen anything."""


class Watch(Protocol):
    """Looks at a pass after each batch, and may raise an exception to end it."""

    def __call__(self, seen: Pass) -> None:
        """Look."""


@dataclass(frozen=True)
class Point:
    """The fp32 model's pass after some of its batches."""

    partial: Partial
    value: float
    checksum: int


@dataclass(frozen=True)
class Curve:
    """The fp32 model's pass.

    Several processes have a curve of their own each, as parts of one pass.

    Args:
        points: on the way, by the number of batches of this process.
        end: what the metric has seen in this process in the end.
        accuracy: of the whole pass, that of all processes together.
        weight: of the whole pass.
    """

    points: Mapping[int, Point]
    end: Partial
    accuracy: float
    weight: float


class Recorder:
    """Keeps points of the fp32 model's pass while it is judged.

    Attributes:
        points: by the number of batches.
        end: what the metric has seen; ``None`` if it has no running value.
        fault: why the running value cannot be had, if that is so.
        looked: whether there was anything to look at: a pass that cannot be looked into has none.
    """

    def __init__(self) -> None:
        self.looked = False
        self.points: dict[int, Point] = {}
        self.end: Partial | None = None
        self.fault: str | None = None
        self._next = 0.0

    def __call__(self, seen: Pass) -> None:
        """Keep a point now and then."""
        self.looked = True
        if self.fault is not None:
            return
        try:
            self._keep(seen)
        except Unseen as error:
            self.fault = str(error)

    def _keep(self, seen: Pass) -> None:
        self.end = seen.partial()
        if self.end is None or self.end.weight <= 0 or self.end.weight < self._next:
            return
        self.points[seen.batches] = Point(self.end, self.end.value(), seen.checksum)
        self._next = self.end.weight * _GROWTH


@dataclass(frozen=True)
class _Step:
    """How far a pass has come, and what it has lost by then of the accuracy of the whole."""

    share: float
    lost: float


class Screen:
    """Finds out that a trial will miss the goal, from the fp32 model's pass over the same batches.

    A trial is hopeless when what it has lost, with the rest as good as that of fp32, is more than
    the goal and what the rest might win back. What it has lost is the lesser of two: the drop of
    the metric over int8's part and fp32's rest, and the drop in the part times its share of the
    pass. For a mean over samples both are exactly that; of other metrics one or the other is led
    astray where classes come one after another, or where scores of two models do not mix.

    What the rest might win back is the greater of two: luck, which is three standard deviations of
    the losses from one value to the next; and, so that the order of the data does not matter, half
    of what fp32 leaves to be gained there. That is half of the way to the best value, which is 1
    for values up to 1 and 100 for values up to 100, and never more than half of the value itself.

    So in whatever order the data come, a trial that is judged by a mean and meets the goal is given
    up only if int8 mends more than half of the faults that fp32 makes in the rest. Nothing is
    accepted early, and where the goal is an improvement nothing is given up. How good the rule is,
    ``benchmarks/screening.py`` measures.

    Args:
        curve: of the fp32 model.
        criterion: when an accuracy is good enough.

    Example::

        screen = Screen(curve, Criterion(0.01, relative=True, higher_is_better=True))
        screen.estimate(10, partial)  # 0.33, or None where it is not hopeless
    """

    def __init__(self, curve: Curve, criterion: Criterion) -> None:
        self._curve, self._criterion = curve, criterion
        self._steps = [_Step(0.0, 0.0)]

    def estimate(self, batches: int, partial: Partial) -> float | None:
        """Return what a hopeless trial comes to if it goes on as it began, else ``None``.

        Args:
            batches: how many are done; where the curve has no point, nothing is judged.
            partial: what the metric has seen of them; nothing either, if it is not as much.

        Raises:
            Unseen: if the metric cannot be computed.
        """
        point = self._curve.points.get(batches)
        if point is None or partial.weight != point.partial.weight or self._criterion.goal < 0:
            return None
        if partial.weight >= self._curve.end.weight:  # nothing is left to be spared
            return None
        value, whole = partial.value(), self._curve.accuracy
        step = _Step(point.partial.weight / self._curve.weight, self._lost(partial, value, point))
        if step.share <= self._steps[-1].share:
            return None
        self._steps.append(step)
        if len(self._steps) <= LEAST_POINTS or step.share < LEAST_SHARE:
            return None
        granted = max(self._luck(), GAIN * self._room(point, step.share))
        if not step.lost > self._criterion.goal + granted:
            return None
        worse = whole + value - point.value
        return max(0.0, worse) if min(value, whole) >= 0 else worse

    def _lost(self, partial: Partial, value: float, point: Point) -> float:
        """Return the drop of the whole, in the unit of the goal, that is there already."""
        whole, end = self._curve.accuracy, self._curve.end
        continued = partial.continued(point.partial, end)
        differences = {
            point.partial.weight: value - point.value,
            end.weight: continued - end.value(),
        }
        return min(
            weight / self._curve.weight * self._criterion.drop(whole + difference, whole)
            for weight, difference in differences.items()
        )

    def _luck(self) -> float:
        """Return three standard deviations of what the rest of the pass may lose or win."""
        last = self._steps[-1]
        rate = last.lost / last.share
        squares = [
            (after.lost - before.lost - rate * (after.share - before.share)) ** 2
            / (after.share - before.share)
            for before, after in zip(self._steps, self._steps[1:], strict=False)
        ]
        variance = math.fsum(squares) / (len(squares) - 1)
        return LUCK * math.sqrt(variance * max(0.0, 1 - last.share))

    def _room(self, point: Point, share: float) -> float:
        """Return how much could be gained in the rest of the pass, in the unit of the goal."""
        whole = self._curve.accuracy
        rest = whole - share * point.value
        room = abs(rest)
        if self._criterion.higher_is_better and 0 <= max(whole, point.value) <= 100:
            best = 1.0 if max(whole, point.value) <= 1 else 100.0
            room = min(room, max(0.0, best * (1 - share) - rest))
        return abs(self._criterion.drop(whole - room, whole))
