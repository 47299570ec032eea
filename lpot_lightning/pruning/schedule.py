"""How sparse when."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["linear", "cubic"]


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """The sparsity that each epoch trains with.

    It is 0 before ``start_epoch``, ``initial_sparsity`` in it, and ``target_sparsity`` from
    ``end_epoch`` on. Between them it grows in steps, one every ``update_frequency`` epochs:

    - ``linear``: LPOT 1.x's staircase (``lpot/pruners/pruner.py``), with two repairs: it lands on
      the target also where the frequency does not divide the span, and where both epochs are one;
    - ``cubic``: ``target + (initial - target) * (1 - t) ** 3``, t from 0 to 1 over the span (Zhu
      and Gupta, "To prune, or not to prune", 2017): fast at first, while there is much to spare.

    Args:
        initial_sparsity: share of weights that are zero, from 0 to 1; so is ``target_sparsity``.
        target_sparsity: see above.
        start_epoch: counted from 0; so is ``end_epoch``.
        end_epoch: see above.
        update_frequency: epochs from one step to the next.
        kind: the shape of the way.

    Example::

        schedule = Schedule(
            initial_sparsity=0.0, target_sparsity=0.9, start_epoch=0, end_epoch=3
        )
        schedule.sparsity(1)  # 0.3
    """

    initial_sparsity: float
    target_sparsity: float
    start_epoch: int
    end_epoch: int
    update_frequency: int = 1
    kind: Kind = "linear"

    def sparsity(self, epoch: int) -> float:
        """Return the share of weights that are zero while ``epoch`` trains."""
        if epoch < self.start_epoch:
            return 0.0
        if epoch >= self.end_epoch:
            return self.target_sparsity
        since = epoch - self.start_epoch
        done = since - since % self.update_frequency
        t = done / (self.end_epoch - self.start_epoch)
        way = t if self.kind == "linear" else 1 - (1 - t) ** 3
        return self.initial_sparsity + (self.target_sparsity - self.initial_sparsity) * way
