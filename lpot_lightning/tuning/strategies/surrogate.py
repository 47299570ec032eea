"""What drop in accuracy the damages predict."""

from __future__ import annotations

import math
from collections.abc import Sequence

_GENTLE, _STRONG = 0.5, 2.0
_LEAST = 0.1

MeasuredDrop = tuple[float, float]
"""A damage that was left in int8, above 0, and the drop that was measured with it."""


def damage_at(goal: float, points: Sequence[MeasuredDrop]) -> float | None:
    """Return the damage with which the drop is predicted to be ``goal``.

    The drop is taken to be ``factor * damage ** power``, through the first two points; with one,
    the power is 1. It is kept between 0.5 and 2: one is right where errors add up in the logits,
    the rest is for metrics that are not linear in them, and what goes beyond is noise. A drop is
    taken to be at least a tenth of the goal, for what is less is noise, too.

    Returns:
        ``None`` where nothing can be predicted: no point, or a goal that is not above 0.

    Example::

        damage_at(0.01, [(1.0, 0.04)])                # 0.25
        damage_at(0.01, [(1.0, 0.04), (0.5, 0.01)])  # 0.5
    """
    if not points or goal <= 0:
        return None
    (x, y), *others = ((math.log(a), math.log(max(b, _LEAST * goal))) for a, b in points)
    power = _slope((x, y), others[0]) if others else 1.0
    return math.exp(min(x + (math.log(goal) - y) / power, 700.0))


def _slope(a: MeasuredDrop, b: MeasuredDrop) -> float:
    if a[0] == b[0]:
        return 1.0
    return min(max((a[1] - b[1]) / (a[0] - b[0]), _GENTLE), _STRONG)
