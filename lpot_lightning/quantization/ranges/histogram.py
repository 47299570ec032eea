"""How often which values pass at one place, counted as they come."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

BINS = 2048
"""Always even: two neighbours become one when the range grows."""


class Histogram:
    """Counts of values in bins of equal width, which doubles when a value lies beyond.

    A bin covers ``[index * width, (index + 1) * width)`` for a whole ``index``, and a width is
    always a power of two. So the bins of two histograms fall together, and what is merged is the
    same as if one had seen all of it, whatever the order.

    Attributes:
        least: the least value, exactly; so is ``greatest`` the greatest.
        batches: how many tensors with values were counted.
        refused: why values could not be counted; empty if they could.

    Example::

        histogram = Histogram()
        histogram.count(torch.randn(100))
    """

    def __init__(self) -> None:
        self.least, self.greatest = math.inf, -math.inf
        self.batches = 0
        self.refused = ""
        self._exponent = -126  # of the width, 2 ** -126: the least normal float32
        self._first = 0  # index of the first bin
        self._counts = torch.zeros(BINS, dtype=torch.float64)

    @property
    def width(self) -> float:
        """Of a bin."""
        return math.ldexp(1.0, self._exponent)

    @property
    def counts(self) -> Tensor:
        """How many values each bin has, float64 ``[BINS]``."""
        return self._counts

    @property
    def centers(self) -> Tensor:
        """The middle of each bin, float64 ``[BINS]``."""
        return (self._first + torch.arange(BINS, dtype=torch.float64) + 0.5) * self.width

    def count(self, values: Tensor) -> None:
        """Take in a tensor of finite floats; another is ``refused``, and nothing is counted."""
        if not values.is_floating_point():
            self.refused = f"works on {str(values.dtype).removeprefix('torch.')}"
            return
        if not values.numel():
            return
        flat = values.detach().reshape(-1).double()
        least, greatest = (float(one) for one in torch.aminmax(flat))
        if not math.isfinite(greatest - least):
            self.refused = "works on NaN or infinity"
            return
        self.cover(least, greatest)
        places = (flat / self.width).floor_().sub_(self._first).clamp_(0, BINS - 1).long()
        self._counts += torch.bincount(places, minlength=BINS)
        self.batches += 1

    def cover(self, least: float, greatest: float) -> None:
        """Let the range hold these as well, which are counted nowhere; the bins hold 0, too."""
        self.least, self.greatest = min(self.least, least), max(self.greatest, greatest)
        low, high = min(self.least, 0.0), max(self.greatest, 0.0)
        self._widen(low, high)

    def _widen(self, low: float, high: float) -> None:
        exponent = self._exponent
        while not _fits(low, high, exponent):
            exponent += 1
        first = math.floor(low / math.ldexp(1.0, exponent))
        if (exponent, first) != (self._exponent, self._first):
            self._counts = _moved(self._counts, self._first, first, exponent - self._exponent)
            self._exponent, self._first = exponent, first

    def statistics(self) -> dict[str, Any]:
        """Return plain values that ``merge`` takes."""
        return {
            "least": self.least,
            "greatest": self.greatest,
            "batches": self.batches,
            "refused": self.refused,
            "exponent": self._exponent,
            "first": self._first,
            "counts": self._counts.tolist(),
        }

    def merge(self, seen: Iterable[dict[str, Any]]) -> None:
        """Take what several have seen, the own part included, in place of the own part."""
        total = Histogram()
        for one in seen:
            total.refused = total.refused or one["refused"]
            if not one["batches"]:
                continue
            total.batches += one["batches"]
            total.cover(one["least"], one["greatest"])
            total._exponent_at_least(one["exponent"])
            counts = torch.tensor(one["counts"], dtype=torch.float64)
            steps = total._exponent - one["exponent"]
            total._counts += _moved(counts, one["first"], total._first, steps)
        vars(self).update(vars(total))

    def _exponent_at_least(self, exponent: int) -> None:
        if exponent > self._exponent:
            low = min(self.least, 0.0)
            first = math.floor(low / math.ldexp(1.0, exponent))
            self._counts = _moved(self._counts, self._first, first, exponent - self._exponent)
            self._exponent, self._first = exponent, first


def _fits(low: float, high: float, exponent: int) -> bool:
    width = math.ldexp(1.0, exponent)
    return math.floor(high / width) - math.floor(low / width) < BINS


def _moved(counts: Tensor, first: int, new_first: int, doublings: int) -> Tensor:
    """Return counts in bins that are ``2 ** doublings`` as wide, beginning with ``new_first``."""
    moved = torch.zeros(BINS, dtype=torch.float64)
    if counts.any():
        old = first + torch.arange(len(counts))
        new = torch.div(old, 2**doublings, rounding_mode="floor") if doublings < 62 else old.sign()
        filled = counts > 0
        moved.index_add_(0, (new - new_first)[filled], counts[filled])
    return moved
