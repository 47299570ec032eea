"""What one op costs in floating point."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class OpProfile:
    """One op in floating point, on one batch.

    Args:
        seconds: it takes, the median of some runs.
        activation_bytes: bytes of what it gives on.
    """

    seconds: float
    activation_bytes: int
