"""Which range of the values that passed 8 bits are to hold."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from lpot_lightning.quantization.kernels.grid import Grid
from lpot_lightning.quantization.ranges.histogram import Histogram

Algorithm = Literal["minmax", "kl", "percentile"]
CUT = 1e-4
"""Share of the values that ``percentile`` cuts off at each end.

8 bits have 256 steps, so a range that is twice as wide costs four times the squared error of all
values; fewer outliers than this cannot make up for it unless they are far out, which ``kl`` sees.
99.99 % did best, with 99.999 %, over the networks of Wu et al., Integer Quantization for Deep
Learning Inference (2020), table 5.
"""
_SPLITS = 10
"""Ways to share out what is cut off between both ends."""
_ENDS = 64
"""How many ends on each side ``kl`` tries, from the whole range to a hundredth of it."""


def grid_for(
    seen: Histogram, scheme: str, algorithm: str, *, signed: bool = False, bits: int = 8
) -> Grid:
    """Return the grid for values that are distributed as ``seen``.

    Args:
        seen: at least one batch.
        scheme: ``asym``, or ``sym`` for a range with 0 in its middle.
        algorithm: ``minmax`` for all values; ``percentile`` for all but the outermost ``CUT`` at
            each end; ``kl``, LPOT's name on PyTorch for the range with the least squared error.
        signed: whether integers are signed, which ``sym`` makes the most of.
        bits: 8, or 7 where kernels saturate.
    """
    low, high = _range(seen, algorithm, 2**bits - 1)
    if scheme == "sym":
        greatest = max(-low, high)
        low, high = -greatest, greatest
        if signed:
            return Grid.symmetric(greatest)
    return Grid.over(low, high, high=2**bits - 1)


def _range(seen: Histogram, algorithm: str, steps: int) -> tuple[float, float]:
    if algorithm == "percentile":
        return _without_tails(seen, CUT, CUT)
    if algorithm == "kl":
        return _least_error(seen, steps)
    return seen.least, seen.greatest


def narrowest(seen: Histogram, share: float) -> tuple[float, float]:
    """Return about the narrowest range that holds ``share`` of the values, and 0.

    Args:
        seen: at least one batch.
        share: less than 1.

    Example::

        histogram = Histogram()
        histogram.count(torch.cat([torch.rand(5000), torch.tensor([1000.0])]))
        low, high = narrowest(histogram, 0.999)  # about 0 and 1
    """
    cuts = [(1 - share) * part / _SPLITS for part in range(_SPLITS + 1)]
    ranges = [_without_tails(seen, one, other) for one, other in zip(cuts, cuts[::-1], strict=True)]
    return min(
        ((min(low, 0.0), max(high, 0.0)) for low, high in ranges), key=lambda one: one[1] - one[0]
    )


def _without_tails(seen: Histogram, below: float, above: float) -> tuple[float, float]:
    """Return the ends of the outermost bins that have such shares of the values up to them."""
    share = seen.counts.cumsum(0) / seen.counts.sum()
    edges = seen.centers - seen.width / 2
    first = int((share > below).nonzero()[0])
    last = min(int((share < 1 - above).sum()), len(edges) - 1)
    low, high = float(edges[first]), float(edges[last]) + seen.width
    return max(low, seen.least), min(high, seen.greatest)


def _least_error(seen: Histogram, steps: int) -> tuple[float, float]:
    """Return the range that rounds and clips ``seen`` with the least squared error.

    The error of rounding is that of a uniform distribution in a step, its square over 12; that of
    clipping is the squared distance to the end. All pairs of ends are looked at, each at once by
    running sums of the histogram.
    """
    share = torch.logspace(0, -2, _ENDS, dtype=torch.float64)
    lows, highs = min(seen.least, 0.0) * share, max(seen.greatest, 0.0) * share
    below, above = _clipped(seen, lows, below=True), _clipped(seen, highs, below=False)
    step = (highs[None] - lows[:, None]) / steps
    error = below[:, None] + above[None] + seen.counts.sum() * step.square() / 12
    best = int(error.argmin())
    return float(lows[best // _ENDS]), float(highs[best % _ENDS])


def _clipped(seen: Histogram, ends: Tensor, *, below: bool) -> Tensor:
    """Return, for each of ``ends``, the sum of squared distances of all values beyond it."""
    distance = ends[:, None] - seen.centers[None]
    beyond = (distance if below else -distance).clamp_min(0)
    return (beyond.square() * seen.counts).sum(1)
