"""Numbers for people."""

from __future__ import annotations

import math

from lpot_lightning.machine.numbers import (
    drop_and_allowed,
    shown_number,
    shown_size,
    told_apart,
)
from lpot_lightning.tuning.score import Criterion

NONE = "–"
_LARGE = 1e6


def accuracy(value: float | None) -> str:
    """Return an accuracy, as the log has it; a very large one with an exponent.

    Example::

        accuracy(0.99163)  # "0.9916"
    """
    if value is None:
        return NONE
    return f"{value:.4g}" if abs(value) >= _LARGE else shown_number(value)


def change_of_size(ratio: float) -> tuple[str, str]:
    """Return how many times as small a model has become, or as large.

    Args:
        ratio: the size before over that of now.

    Example::

        change_of_size(3.9)  # ("3.90", "smaller")
        change_of_size(0.5)  # ("2.00", "larger")
    """
    return (f"{ratio:.2f}", "smaller") if ratio >= 1 else (f"{1 / ratio:.2f}", "larger")


def accuracies(one: float, other: float) -> tuple[str, str]:
    """Return two accuracies that are compared, with digits that tell them apart."""
    return told_apart(one, other, accuracy)


def drop(value: float, criterion: Criterion) -> str:
    """Return how much was lost, in the unit of the goal, with as many digits as the goal needs."""
    return drop_and_allowed(value, criterion.goal, share=criterion.relative)[0]


def goal(drop: float, criterion: Criterion) -> str:
    """Return how much may be lost, in the same unit, with digits that tell it from a drop."""
    return drop_and_allowed(drop, criterion.goal, share=criterion.relative)[1]


def ms(seconds: float | None) -> str:
    """Return seconds as milliseconds."""
    return NONE if seconds is None else f"{seconds * 1e3:#.3g}".rstrip(".")


def duration(seconds: float) -> str:
    """Return how long something took."""
    if seconds < 90:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def objective(value: float | None, kind: str) -> str:
    """Return what a trial has least of."""
    if value is None:
        return NONE
    return f"{ms(value)} ms" if kind == "performance" else shown_size(value)


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
