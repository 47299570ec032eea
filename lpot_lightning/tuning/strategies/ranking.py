"""Ops by how much they hurt: the order, its cliff, its sums."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate

from lpot_lightning.tuning.sensitivity import Sensitivity

_HALF = 0.5
_TAIL = 0.01
_NOTHING = 1e-6
_STEEP = 2.0


@dataclass(frozen=True)
class Ranking:
    """Ops from the most to the least harmful, each with the damage that is expected of it.

    Args:
        order: names of ops, most harmful first.
        damages: not negative, in the same order; only their ratios mean something.

    Example::

        found = [Sensitivity("a", 0.1), Sensitivity("b", 9.0), Sensitivity("c", 0.2)]
        Ranking.of(found, among=["a", "b", "c"]).cliff(last=2)  # 1
    """

    order: tuple[str, ...]
    damages: tuple[float, ...]

    @classmethod
    def of(cls, ranked: Iterable[Sensitivity], among: Sequence[str]) -> Ranking:
        """Sort the ops in ``among``, ties by name.

        An op whose sensitivity is not finite comes first and counts as much as all finite ones
        together: something is badly wrong there, but a sum has to stay a number. One that was not
        measured at all comes last.
        """
        measured = {one.op: one.score for one in ranked}
        raw = {name: measured.get(name, 0.0) for name in among}
        finite = {name: max(value, 0.0) for name, value in raw.items() if math.isfinite(value)}
        peak = max(finite.values(), default=0.0) or 1.0
        finite = {name: value / peak for name, value in finite.items()}
        worst = sum(finite.values()) or 1.0
        order = sorted(among, key=lambda name: (name in finite, -finite.get(name, 0.0), name))
        return cls(tuple(order), tuple(finite.get(name, worst) for name in order))

    def cliff(self, last: int) -> int:
        """Return after how many ops, at most ``last``, the ranking falls most steeply.

        Steep is the ratio of two neighbours: sensitivities spread over orders of magnitude, and a
        difference would only ever see the first few. Two kinds of false cliff are left out. At the
        head, a single op a little above a smooth ranking: the ops above the cliff have to hold half
        of the whole damage, else keeping them in fp32 would not even halve it. In the tail, where
        values are next to nothing and their ratios mean nothing: the ops from the cliff's edge on
        have to hold 1 % of it, and what is below a millionth of the whole counts as equal. Where
        there is no cliff, it is the middle, which bisection would try first.
        """
        total = sum(self.damages)
        middle = max(1, (last + 1) // 2)
        if total == 0:
            return middle
        floor = _NOTHING * total
        heads = list(accumulate(self.damages))
        falls = {
            size: math.log(max(self.damages[size - 1], floor) / max(self._next(size), floor))
            for size in range(1, last + 1)
            if heads[size - 1] >= _HALF * total
            and total - heads[size - 1] + self.damages[size - 1] >= _TAIL * total
        }
        return max(falls, key=lambda size: (falls[size], -size), default=middle)

    def is_steep(self, size: int) -> bool:
        """Whether the last of the first ``size`` ops is twice as harmful as the one after it."""
        return self.damages[size - 1] > _STEEP * self._next(size)

    def damage_after(self, size: int) -> float:
        """Return the summed damage of all ops but the first ``size``."""
        return math.fsum(self.damages[size:])

    def _next(self, size: int) -> float:
        return self.damages[min(size, len(self.damages) - 1)]
