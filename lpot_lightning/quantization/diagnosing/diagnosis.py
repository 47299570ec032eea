"""What was simulated of one op, in numbers."""

from __future__ import annotations

from dataclasses import dataclass

OUTER = 0.001
"""Share of the values that may be outliers."""
UNEQUAL = 4.0
"""So many times as wide as the narrowest channel is the widest where they are unequal."""
FAR = 2.0
"""So many times as wide as that of the others is the range of all values where outliers set it."""
SMALL, MANY = 0.25, 0.25
"""The negative part of a range is a tail if it has this share of its levels at most, and this share
of the values at least."""


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """What was simulated of one op on a part of the calibration batch, and counted in all data.

    An error is the mean over the rows of the output, be they tokens or places, of the squared
    difference in relation to the squared size: a few great rows are not to hide what all others
    lose.

    Args:
        error: with input and weight rounded.
        of_weights: with the weight alone rounded.
        without_spread: where each channel has a scale of its own, in input and weight; ``None``
            where the channels are about as wide.
        without_outliers: where the outermost values set no range, and are not rounded; ``None``
            where the range is no wider for them.
        without_tail: where negative values have as many levels as all values; ``None`` where there
            are few of them, or where their part of the range is not small.
        channels: that the op reads.
        dead: how many of them are always 0, as behind a ReLU that nothing passes; they are left out
            of ``spread``.
        spread: the range of the widest of them over that of the narrowest.
        weight_spread: the same of the weights that read them, in relation to the scales of these.
        reach: the range of all values over that of all but the outermost.
        negatives: the share of the values that are below zero.
        levels: of these, and of all values.
        least: the least value of the range.
    """

    error: float
    of_weights: float
    without_spread: float | None
    without_outliers: float | None
    without_tail: float | None
    channels: int
    dead: int
    spread: float
    weight_spread: float
    reach: float
    negatives: float
    levels: tuple[int, int]
    least: float
