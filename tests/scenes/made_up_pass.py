"""Made-up passes over validation data, for whoever watches one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from lpot_lightning.tuning.score import Criterion
from lpot_lightning.tuning.screening import Curve, Recorder, Screen, Watch


@dataclass(frozen=True)
class Mean:
    """The mean of what was seen; ``weight`` counts its batches."""

    total: float
    weight: float
    name: str = "agreement"

    def value(self) -> float:
        return self.total / self.weight

    def continued(self, before: Mean, end: Mean) -> float:
        return (self.total + end.total - before.total) / end.weight


class MadeUpPass:
    """A pass whose batches have these values; it goes on when it is iterated over."""

    def __init__(self, values: Sequence[float]) -> None:
        self._values = values
        self.batches = self.checksum = 0

    def __iter__(self) -> Iterator[MadeUpPass]:
        for _ in self._values:
            self.batches += 1
            yield self

    def partial(self) -> Mean | None:
        seen = self._values[: self.batches]
        return Mean(sum(seen), len(seen))


def show(watch: Watch, values: Sequence[float]) -> None:
    for seen in MadeUpPass(values):
        watch(seen)


def curve_of(values: Sequence[float], parts: int = 1) -> Curve:
    """Return what a recorder keeps of a pass that is the first of several equal ``parts``."""
    recorder = Recorder()
    for seen in MadeUpPass(values):
        recorder(seen)
    assert recorder.end is not None
    return Curve(recorder.points, recorder.end, recorder.end.value(), recorder.end.weight * parts)


def given_up(
    fp32: Sequence[float], int8: Sequence[float], criterion: Criterion, parts: int = 1
) -> tuple[int, float] | None:
    """Return after how many batches a trial is hopeless, and its estimate."""
    screen = Screen(curve_of(fp32, parts), criterion)
    for seen in MadeUpPass(int8):
        estimate = screen.estimate(seen.batches, seen.partial() or Mean(0, 0))
        if estimate is not None:
            return seen.batches, estimate
    return None
