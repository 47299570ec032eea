"""Ops by what fp32 gains for its cost: the order, its damages."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from lpot_lightning.tuning.sensitivity import Sensitivity

_STEEP = 2.0


@dataclass(frozen=True)
class Ranking:
    """Ops in the order in which they go to fp32: most damage for its cost first.

    It is the order that is best where damages add up and the costs are small (Dantzig, Discrete
    variable extremum problems, 1957). An op whose damage is not finite comes first, the cheap
    before the dear: something is badly wrong there. One that was not measured comes last.

    Args:
        sensitivities: in this order. Finite damages are shares of the greatest of them, and not
            negative.

    Example::

        found = [Sensitivity("a", 0.1), Sensitivity("b", 9.0, cost=300.0), Sensitivity("c", 0.2)]
        Ranking.of(found, among=["a", "b", "c"]).order  # ("c", "a", "b")
    """

    sensitivities: tuple[Sensitivity, ...]

    @classmethod
    def of(cls, ranked: Iterable[Sensitivity], among: Sequence[str]) -> Ranking:
        """Sort the ops in ``among``, ties by name."""
        measured = {one.op: one for one in ranked}
        usual = fmean(one.cost for one in measured.values()) if measured else 1.0
        found = [measured.get(name, Sensitivity(name, 0.0, usual)) for name in among]
        peak = max((one.damage for one in found if one.is_finite), default=0.0)
        scale = peak if peak > 0 else 1.0
        shares = [
            replace(one, damage=max(one.damage / scale, 0.0)) if one.is_finite else one
            for one in found
        ]
        return cls(tuple(sorted(shares, key=_place)))

    @property
    def order(self) -> tuple[str, ...]:
        """The names, in the order."""
        return tuple(one.op for one in self.sensitivities)

    @property
    def not_finite(self) -> tuple[str, ...]:
        """The names of the ops whose damage is no number to count with."""
        return tuple(one.op for one in self.sensitivities if not one.is_finite)

    def steepest(self, sizes: Iterable[int]) -> int | None:
        """Return after how many ops, of ``sizes``, the order falls most, at least to a half.

        There harmful ops end and harmless ones begin: a cliff.
        """
        falls = {size: self._fall(size) for size in sizes}
        best = max(falls, key=lambda size: (falls[size], -size), default=None)
        return best if best is not None and falls[best] >= _STEEP else None

    def _fall(self, size: int) -> float:
        if not 0 < size < len(self.sensitivities):
            return 0.0
        last, after = self.sensitivities[size - 1], self.sensitivities[size]
        if not after.is_finite:
            return 0.0
        if last.is_finite and after.score > 0:
            return last.score / after.score
        return math.inf if not last.is_finite or last.score > 0 else 0.0


def _place(one: Sensitivity) -> tuple[bool, float, str]:
    return (one.is_finite, -one.score if one.is_finite else one.cost, one.op)
