"""How sparse when."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from lpot_lightning.conf.schema import Unit

Kind = Literal["linear", "cubic"]


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """The sparsity that each epoch, or each step of the optimizer, trains with.

    It is 0 before ``start``, ``initial_sparsity`` in it, and ``target_sparsity`` from ``end`` on.
    Between them it grows by a staircase, one stair every ``update_frequency`` epochs or steps:

    - ``linear``: LPOT 1.x's staircase (``lpot/pruners/pruner.py``), with two repairs: it lands on
      the target also where the frequency does not divide the span, and where both epochs are one;
    - ``cubic``: ``target + (initial - target) * (1 - t) ** 3``, t from 0 to 1 over the span (Zhu
      and Gupta, "To prune, or not to prune", 2017): fast at first, while there is much to spare.

    Args:
        initial_sparsity: share of weights that are zero, from 0 to 1; so is ``target_sparsity``.
        target_sparsity: see above.
        start: counted from 0; so is ``end``.
        end: see above.
        unit: what is counted.
        update_frequency: epochs or steps from one stair to the next.
        kind: the shape of the way.

    Example::

        schedule = Schedule(initial_sparsity=0.0, target_sparsity=0.9, start=0, end=3)
        schedule.sparsity(1)  # 0.3
    """

    initial_sparsity: float
    target_sparsity: float
    start: int
    end: int
    unit: Unit = "epoch"
    update_frequency: int = 1
    kind: Kind = "linear"

    def sparsity(self, at: int) -> float:
        """Return the share of weights that are zero while this epoch or step trains."""
        if at < self.start:
            return 0.0
        if at >= self.end:
            return self.target_sparsity
        since = at - self.start
        done = since - since % self.update_frequency
        t = done / (self.end - self.start)
        way = t if self.kind == "linear" else 1 - (1 - t) ** 3
        return self.initial_sparsity + (self.target_sparsity - self.initial_sparsity) * way
