"""From seconds to percentiles and throughput."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Latency:
    """Milliseconds that 50, 90 and 99 of 100 calls do not exceed; interpolated linearly.

    Example::

        Latency.of([0.001, 0.002, 0.003]).p50  # 2.0
    """

    p50: float
    p90: float
    p99: float

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Latency:
        """Return the percentiles of some calls; between two of them lies a straight line."""
        return cls(*map(float, 1000 * np.percentile(seconds, (50, 90, 99), method="linear")))

    def __str__(self) -> str:
        """Show them in one unit, with three digits that count."""
        return f"{_shown(self.p50)} / {_shown(self.p90)} / {_shown(self.p99)}"


@dataclass(frozen=True, kw_only=True)
class Speed:
    """How fast one model was, in one process or in several at the same time.

    Args:
        iterations: calls that were measured, those of all processes together.
        batch_size: samples in a call; the most frequent number where they differ, ``None`` where
            a ``b_func`` does not show the model any.
        latency: milliseconds of one call.
        latency_per_sample: those divided by the samples of the call.
        throughput: samples a second; of several processes, the sum.
    """

    iterations: int
    batch_size: int | None
    latency: Latency
    latency_per_sample: Latency | None
    throughput: float | None


@dataclass(frozen=True)
class Timed:
    """The calls of one model in one process.

    Args:
        seconds: of each call.
        samples: in each call; 0 where that is not known.
    """

    seconds: tuple[float, ...]
    samples: tuple[int, ...]

    @property
    def throughput(self) -> float | None:
        """Samples a second."""
        return sum(self.samples) / sum(self.seconds) if all(self.samples) else None


def speed_of(timed: Sequence[Timed]) -> Speed:
    """Return what the processes were together: percentiles over all calls, throughput summed."""
    seconds = [one for part in timed for one in part.seconds]
    samples = [one for part in timed for one in part.samples]
    counted = all(samples)
    return Speed(
        iterations=len(seconds),
        batch_size=max(sorted(set(samples)), key=samples.count) if counted else None,
        latency=Latency.of(seconds),
        latency_per_sample=Latency.of(np.divide(seconds, samples).tolist()) if counted else None,
        throughput=sum(part.throughput or 0.0 for part in timed) if counted else None,
    )


def _shown(milliseconds: float) -> str:
    """Return three digits that count, more before the point."""
    whole = len(str(int(milliseconds)))
    if milliseconds >= 1:
        return f"{milliseconds:,.{max(0, 3 - whole)}f}"
    return f"{milliseconds:#.3g}" if milliseconds >= 0.001 else f"{milliseconds:.6f}"
