"""Numbers for people."""

from __future__ import annotations

import math

from lpot_lightning.tuning.score import Criterion

_UNITS = ("bytes", "kB", "MB", "GB", "TB")
NONE = "–"


def accuracy(value: float | None) -> str:
    """Return an accuracy, as the log has it; very large and very small ones with an exponent.

    Example::

        accuracy(0.99163)  # "0.9916"
    """
    if value is None:
        return NONE
    plain = value == 0 or 1e-3 <= abs(value) < 1e6
    return f"{value:.4f}" if plain else f"{value:.4g}"


def drop(value: float, criterion: Criterion) -> str:
    """Return how much was lost, in the unit of the goal."""
    return f"{value:.2%}" if criterion.relative else accuracy(value)


def ms(seconds: float | None) -> str:
    """Return seconds as milliseconds."""
    return NONE if seconds is None else f"{seconds * 1e3:#.3g}".rstrip(".")


def duration(seconds: float) -> str:
    """Return how long something took."""
    if seconds < 90:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def size(count: float) -> str:
    """Return bytes.

    Example::

        size(1_234_567)  # "1.23 MB"
    """
    power = 0
    while abs(count) >= 1000 and power < len(_UNITS) - 1:
        count, power = count / 1000, power + 1
    return f"{count:.3g} {_UNITS[power]}"


def objective(value: float | None, kind: str) -> str:
    """Return what a trial has least of."""
    if value is None:
        return NONE
    return f"{ms(value)} ms" if kind == "performance" else size(value)


def error(value: float | None) -> str:
    """Return the error of an op; of one that is not finite, the word."""
    if value is None:
        return NONE
    return f"{value:.2e}" if math.isfinite(value) else "not finite"


def share(value: float) -> str:
    """Return a share of all."""
    return f"{value:.1%}"


def counted(count: int, what: str) -> str:
    """Return a number of things.

    Example::

        counted(2, "trial")  # "2 trials"
    """
    return f"{count:,} {what}{'' if count == 1 else 's'}"
