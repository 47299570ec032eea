"""How much one op hurts in int8, and what its int8 saves."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Sensitivity:
    """What is known of one op before any trial.

    Args:
        op: its name.
        damage: how much it hurts alone in int8, not negative; only ratios between ops mean
            something. It may be not finite, where something is badly wrong.
        cost: what staying in fp32 costs, in the unit of the objective, above 0.

    Raises:
        ValueError: if ``cost`` is not a finite number above 0.

    Example::

        Sensitivity("net.head", damage=0.02, cost=0.5).score  # 0.04
    """

    op: str
    damage: float
    cost: float = 1.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.cost) and self.cost > 0):
            raise ValueError(
                f"the cost of `{self.op}` is {self.cost}; allowed: a finite number above 0"
            )

    @property
    def score(self) -> float:
        """Damage by cost; the higher, the more is gained by leaving the op in fp32."""
        return self.damage / self.cost

    @property
    def is_finite(self) -> bool:
        """Whether the damage is a number to count with."""
        return math.isfinite(self.damage)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values; a damage that is not finite is ``None``, as JSON has no other."""
        damage = self.damage if self.is_finite else None
        return {"op": self.op, "damage": damage, "cost": self.cost}

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Sensitivity:
        """Build from what ``to_dict`` gave."""
        damage = math.nan if plain["damage"] is None else float(plain["damage"])
        return cls(str(plain["op"]), damage, float(plain["cost"]))
